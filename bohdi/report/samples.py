"""Harvests to read: a question, what each model answered, and how it was judged. Texts are bounded."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from bohdi_common.events.events_pb2 import Answer, Event, HarvestJudged, Verdict
from bohdi_common.log.port import LogReader
from bohdi_common.runtime.feedback import feedback_events

_ANSWERS_MAX = 12
_VERDICTS_MAX = 24

Sample = dict[str, Any]


def read(log: LogReader, offsets: dict[int, int]) -> dict[int, Sample]:
    """The judged harvests that stand at these offsets of the log; both sides by run sequence. Raises LogError."""
    found = {}
    for sequence, offset in sorted(offsets.items()):
        for _, event in feedback_events(log, offset, offset + 1):
            if event.HasField("harvest_judged"):
                found[sequence] = sample(event, sequence)
    return found


def sample(event: Event, sequence: int) -> Sample:
    """What is shown of a judged harvest."""
    judged = event.harvest_judged
    return {
        "sequence": sequence,
        "round": event.round + 1,
        "question": judged.question,
        "leader": judged.leader,
        "lost": bool(judged.reward),
        "answers": [_answer(judged, place, answer) for place, answer in _first(judged.answers, _ANSWERS_MAX)],
        "verdicts": [_verdict(judged, verdict) for _, verdict in _first(judged.verdicts, _VERDICTS_MAX)],
    }


def _first(items: Iterable[Any], most: int) -> list[tuple[int, Any]]:
    return list(zip(range(most), items, strict=False))


def _answer(judged: HarvestJudged, place: int, answer: Answer) -> dict[str, Any]:
    return {
        "model": f"{answer.model} {answer.version}".strip(),
        "text": answer.text,
        "failed": answer.failed,
        "best": place == judged.best,
    }


def _verdict(judged: HarvestJudged, verdict: Verdict) -> dict[str, Any]:
    """Whom a judge chose, and in which place that answer was shown to it."""
    order = list(verdict.order)
    there = 0 <= verdict.choice < len(judged.answers) and verdict.choice in order
    return {
        "judge": verdict.judge,
        "choice": judged.answers[verdict.choice].model if there else "",
        "place": order.index(verdict.choice) + 1 if there else 0,
        "shown": len(order),
        "none_right": verdict.none_right,
        "counted": verdict.counted,
    }
