"""Where a training sample came from."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

from bohdi.analysis.propensity import open_arms
from bohdi.analysis.why.told import SAMPLES, Events, plain
from bohdi_common.core.decide import continues_from
from bohdi_common.core.evolve import evolve
from bohdi_common.core.held_back import is_held_back
from bohdi_common.core.state import RunState
from bohdi_common.core.tree import LEAF_LEVEL, ROOT, Tree
from bohdi_common.events import codec
from bohdi_common.events import events_pb2 as pb
from bohdi_common.events.events_pb2 import DrawnSlot, Event
from bohdi_common.runtime.config import BadConfig

_ID_DIGITS = 6  # of an event's id that name it, at least


def sample(events: Events, said: str) -> dict[str, Any]:
    """Of a harvest or a rehearsal, named by its run sequence or the beginning of its event's id: who asked, what
    everybody answered, how each judge judged in which order, how likely the draw was that led there, by which models
    and prompts, and which trainings used it. Three passes over the log. Raises BadConfig."""
    sequence, event = _sample_named(events, said)
    kind = codec.kind_of(event)
    body = getattr(event, kind)
    uses = _Uses(sequence, event)
    for number, other in enumerate(events()):
        uses.take(number, other)
    draws, state = _draws(events, uses.decisions)
    leaves = state.rehearsals if kind == "rehearsal_answered" else state.pairs
    told: dict[str, Any] = {
        "sequence": sequence,
        "event_id": event.event_id,
        "kind": kind,
        "round": event.round,
        "step": event.step,
        "slot": event.slot,
        "time_us": event.time_us,
        "path": list(body.path),
        "question": body.question,
        "leader": body.leader,
        "question_style": body.question_style,
        "prompts": body.prompts,
        "took_effect": any(sequence in sequences for sequences in leaves.values()),
        "draws": draws,
    }
    told |= _judged(body) if kind == "harvest_judged" else {"answers": [plain(body.answer)]}
    target_version = getattr(body, "target_version", "") or body.answer.version
    return told | {
        "models": uses.models(target_version),
        "trainings": uses.trainings(),
        "held_back": is_held_back(event.run_id, sequence, uses.settings.training.held_back_share),
    }


def _sample_named(events: Events, said: str) -> tuple[int, Event]:
    is_number = said.isdecimal() and len(said) < 19
    if not is_number and len(said) < _ID_DIGITS:
        raise BadConfig(f"why sample {said}: give a run sequence, or {_ID_DIGITS} digits of an event's id or more")
    end = 0
    for sequence, event in enumerate(events()):
        end = sequence + 1
        if sequence == int(said) if is_number else event.event_id.startswith(said):
            kind = codec.kind_of(event)
            if kind in SAMPLES:
                return sequence, event
            raise BadConfig(f"why sample {said}: the event there is a {kind}: a sample is a {' or a '.join(SAMPLES)}")
    raise BadConfig(f"why sample {said}: the run has {end} events, and none of that {'number' if is_number else 'id'}")


def _judged(body: pb.HarvestJudged) -> dict[str, Any]:
    return {
        "answers": [plain(answer) for answer in body.answers],
        "verdicts": [_verdict(body, verdict) for verdict in body.verdicts],
        "counted": body.counted,
        "none_right": body.none_right,
        "best": body.best if 0 <= body.best < len(body.answers) else None,
        "reward": (1 if body.reward else 0) if body.counted else None,
        "target_version": body.target_version,
        "refused": [plain(refusal) for refusal in body.refused],
    }


def _verdict(body: pb.HarvestJudged, verdict: pb.Verdict) -> dict[str, Any]:
    there = 0 <= verdict.choice < len(body.answers)
    return {
        "judge": verdict.judge,
        "order": list(verdict.order),
        "choice": verdict.choice if there else None,
        "chosen": body.answers[verdict.choice].model if there else "",
        "none_right": verdict.none_right,
        "counted": verdict.counted,
        "reply": verdict.reply,
    }


class _Uses:
    """What a run's events say of the sample at `sequence`: the decisions that may have asked it, and its trainings."""

    def __init__(self, sequence: int, event: Event) -> None:
        self._sequence = sequence
        self._place = (event.round, event.step)
        self._slot = event.slot
        self.settings = pb.Settings()
        self.decisions: dict[int, tuple[Event, DrawnSlot]] = {}  # by run sequence
        self._drawn: dict[str, dict[str, Any]] = {}  # by request
        self._digests: dict[str, str] = {}  # of versions

    def take(self, sequence: int, event: Event) -> None:
        kind = event.WhichOneof("body")
        if kind == "run_started" and sequence == 0:
            self.settings = event.run_started.settings
        elif kind in ("paths_drawn", "slot_continued") and sequence < self._sequence:
            if (event.round, event.step) == self._place:
                self._decided(sequence, event)
        elif kind == "training_drawn":
            body = event.training_drawn
            if times := body.samples[:].count(self._sequence):
                drawn = {"sequence": sequence, "version": body.version, "draws": times, "of": len(body.samples)}
                self._drawn.setdefault(body.request_hash, drawn | {"outcome": "not over"})
        elif kind == "target_promoted":
            self._digests.setdefault(event.target_promoted.version, event.target_promoted.manifest_digest)
            self._ended(event.target_promoted.request_hash, "promoted")
        elif kind == "training_failed":
            self._ended(event.training_failed.request_hash, f"failed: {event.training_failed.reason}")

    def _decided(self, sequence: int, event: Event) -> None:
        slots = event.paths_drawn.slots if event.HasField("paths_drawn") else [event.slot_continued.drawn]
        for drawn in slots:
            if drawn.slot == self._slot:
                self.decisions[sequence] = (event, drawn)

    def _ended(self, request_hash: str, outcome: str) -> None:
        if request_hash in self._drawn and self._drawn[request_hash]["outcome"] == "not over":
            self._drawn[request_hash]["outcome"] = outcome

    def trainings(self) -> list[dict[str, Any]]:
        return list(self._drawn.values())

    def models(self, target_version: str) -> list[dict[str, Any]]:
        """Each with what tells its version: the digest of a promoted version's manifest, else that of the folder."""
        settings = self.settings
        given = [("target", settings.target), *(("source", s) for s in settings.sources)]
        given += [("judge", judge) for judge in settings.judging.judges]
        return [
            {
                "name": model.name,
                "role": role,
                "version": target_version if role == "target" else "",
                "digest": self._digests.get(target_version, model.digest) if role == "target" else model.digest,
                "adapter": model.adapter,
                "served_name": model.served_name,
                "temperatures": {
                    what: getattr(model, f"temperature_{what}")
                    for what in ("answer", "question", "proposal", "verdict")
                },
            }
            for role, model in given
        ]


def _draws(events: Events, decisions: dict[int, tuple[Event, DrawnSlot]]) -> tuple[list[dict[str, Any]], RunState]:
    """The decisions that took effect, each with its probability in the state it was made in; and the run's state."""
    chances: dict[int, dict[str, Any]] = {}
    told: list[dict[str, Any]] = []
    state = RunState()
    made_in = {getattr(event, codec.kind_of(event)).based_on for event, _ in decisions.values()}
    for sequence, event in enumerate(events()):
        if sequence in made_in:
            for number, (decision, drawn) in decisions.items():
                if getattr(decision, codec.kind_of(decision)).based_on == sequence:
                    chances[number] = _chance(state, decision, drawn)
        evolve(state, event)
        if sequence in decisions and sequence in chances:
            slot = decisions[sequence][1].slot
            if slot < len(state.slots) and state.slots[slot].asked == sequence:
                told.append({"sequence": sequence, "kind": codec.kind_of(event)} | chances[sequence])
    return told, state


def _chance(state: RunState, decision: Event, drawn: DrawnSlot) -> dict[str, Any]:
    """How the draw went down the tree of `state`, with the probability of each turn, and of all."""
    tree, rules = state.tree, state.rules
    based_on = getattr(decision, codec.kind_of(decision)).based_on
    told: dict[str, Any] = {"based_on": based_on, "leader": drawn.leader, "probability": None, "turns": []}
    told["to"] = [tree.name[node] for node in drawn.path if node < len(tree)]
    rehearsal = decision.HasField("paths_drawn") and decision.paths_drawn.rehearsal
    start: int | None = ROOT
    if decision.HasField("slot_continued"):
        known = drawn.slot < len(state.slots)
        start = continues_from(tree, state.slots[drawn.slot]) if known else None
    whole = rules is not None and start is not None and tree.holds_path(drawn.path)
    if rules is None or start is None or rehearsal or not whole or start not in (ROOT, *drawn.path):
        why = "leaves where the target does not lose, in turn" if rehearsal else ""
        return told | {"by": why}
    told |= {"by": f"theta^{rules.sharpness:g}", "from": tree.path_names(start), "leader_probability": 1.0}
    if decision.HasField("paths_drawn"):
        told["leader_probability"] = 1 / len(rules.sources)
    turns = list(_turns(tree, start, drawn.path, rules.sharpness))
    return told | {"probability": math.prod(turn["probability"] for turn in turns), "turns": turns}


def _turns(tree: Tree, start: int, path: Sequence[int], sharpness: float) -> Iterator[dict[str, Any]]:
    below = list(path[list(path).index(start) + 1 :] if start != ROOT else path)
    last = below[-1] if below else start
    if tree.level[last] < LEAF_LEVEL:
        below.append(tree.unk_of[last])
    at = start
    for arm in below:
        arms, chances = open_arms(tree, at, sharpness)
        yield {
            "arm": tree.name[arm],
            "unk": bool(tree.is_unk[arm]),
            "alpha": tree.alpha[arm],
            "beta": tree.beta[arm],
            "probability": float(chances[arms.index(arm)]) if arm in arms else 0.0,
            "among": len(arms),
        }
        at = arm
