"""What a version of the target was made of, and how it came out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from bohdi.analysis.why.told import NAMED_MOST, SAMPLES, Events, plain
from bohdi_common.core.held_back import is_held_back
from bohdi_common.core.state import BASE_VERSION
from bohdi_common.events import codec
from bohdi_common.events import events_pb2 as pb
from bohdi_common.events.events_pb2 import Event
from bohdi_common.runtime.config import BadConfig


def version(events: Events, said: str) -> dict[str, Any]:
    """Of a version of the target (`r3`, `base`, `last`): how it was drawn, from which samples, its losses, and what
    evaluations gave. Two passes over the log. Raises BadConfig."""
    told = _Trainings()
    for sequence, event in enumerate(events()):
        told.take(sequence, event)
    name = (told.promoted[-1] if told.promoted else BASE_VERSION) if said == "last" else said
    if name == BASE_VERSION:
        return {"version": name, "target": plain(told.settings.target), "evaluations": told.scores(name)}
    if name not in told.by_version:
        there = list(told.by_version)
        listed = ", ".join([BASE_VERSION, *there[:NAMED_MOST]]) + (" ..." if len(there) > NAMED_MOST else "")
        raise BadConfig(f"why version {said}: the run drew no training of that name: there are {listed}")
    sequence, event = told.by_version[name]
    drawn = event.training_drawn
    counts = Counter(drawn.samples)
    share = told.settings.training.held_back_share
    samples = [
        _sample_row(number, other, counts[number], is_held_back(event.run_id, number, share))
        for number, other in enumerate(events())
        if number in counts
    ]
    return {
        "version": name,
        "sequence": sequence,
        "round": event.round,
        "base_version": drawn.base_version,
        "average_with": list(drawn.average_with),
        "draws": len(drawn.samples),
        "different": len(counts),
        "from_rehearsal": drawn.from_rehearsal,
        "from_replay": drawn.from_replay,
        "by_domain": _summed(samples, lambda row: " > ".join(row["path"])),
        "by_author": _summed(samples, lambda row: row["author"]),
        "result": told.results.get(drawn.request_hash, {"outcome": "not over"}),
        "evaluations": told.scores(name),
        "samples": samples,
    }


def _summed(samples: Sequence[dict[str, Any]], of: Callable[[dict[str, Any]], str]) -> dict[str, int]:
    counts: Counter[str] = Counter()
    for row in samples:
        counts[of(row)] += row["draws"]
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


def _sample_row(sequence: int, event: Event, draws: int, held_back: bool) -> dict[str, Any]:
    kind = codec.kind_of(event)
    body = getattr(event, kind)
    author = ""
    if kind == "rehearsal_answered":
        author = body.answer.model
    elif kind == "harvest_judged" and 0 <= body.best < len(body.answers):
        author = body.answers[body.best].model
    path = list(getattr(body, "path", ())) if kind in SAMPLES else []
    return {
        "sequence": sequence, "kind": kind, "round": event.round, "path": path, "author": author, "draws": draws,
        "held_back": held_back,
    }  # fmt: skip


class _Trainings:
    """The trainings of a run, and the evaluations of its target."""

    def __init__(self) -> None:
        self.settings = pb.Settings()
        self.by_version: dict[str, tuple[int, Event]] = {}
        self.results: dict[str, dict[str, Any]] = {}  # by request
        self.promoted: list[str] = []
        self._scores: dict[tuple[str, str], tuple[int, pb.TargetEvaluated]] = {}  # by version and benchmark

    def take(self, sequence: int, event: Event) -> None:
        kind = event.WhichOneof("body")
        if kind == "run_started" and sequence == 0:
            self.settings = event.run_started.settings
        elif kind == "training_drawn":
            self.by_version.setdefault(event.training_drawn.version, (sequence, event))
        elif kind == "target_promoted":
            body = event.target_promoted
            if body.request_hash not in self.results:
                self.promoted.append(body.version)
                self.results[body.request_hash] = {"outcome": "promoted", "sequence": sequence} | plain(body)
        elif kind == "training_failed":
            failed = event.training_failed
            self.results.setdefault(failed.request_hash, {"outcome": "failed", "sequence": sequence} | plain(failed))
        elif kind == "target_evaluated" and event.target_evaluated.model == self.settings.target.name:
            scored = event.target_evaluated
            self._scores[scored.version, scored.benchmark] = (sequence, scored)

    def scores(self, version: str) -> list[dict[str, Any]]:
        return [
            {"sequence": sequence} | plain(scored)
            for (of, _), (sequence, scored) in self._scores.items()
            if of == version
        ]
