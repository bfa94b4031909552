"""The samples that a training names by run sequence, read from the feedback log."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from bohdi_common.events import codec
from bohdi_common.events.events_pb2 import Event
from bohdi_common.events.topics import FEEDBACK
from bohdi_common.log.port import LogReader
from bohdi_common.runtime.feedback import feedback_events


class MissingSample(ValueError):
    """The feedback log holds no sample at a run sequence that a training names."""


@dataclass(frozen=True)
class Sample:
    question: str
    answer: str


class Samples:
    """Reads samples of a run, and remembers how far into the log it has counted.

    A run sequence is an event's place among those of its run; the offsets at which they stand are kept, 8 bytes each.
    """

    def __init__(self, log: LogReader) -> None:
        self._log = log
        self._offsets: dict[str, list[int]] = {}
        self._read_to = 0

    def fetch(self, run_id: str, sequences: Sequence[int]) -> dict[int, Sample]:
        """The samples at `sequences`, by sequence. Raises MissingSample."""
        self._count()
        offsets = self._offsets.get(run_id, [])
        found = {}
        for sequence in sequences:
            if sequence >= len(offsets):
                raise MissingSample(f"run {run_id} has no event {sequence}")
            offset = offsets[sequence]
            stored = next(iter(self._log.read(FEEDBACK.name, offset, offset + 1)))
            found[sequence] = sample_of(codec.decode(stored.value))
        return found

    def _count(self) -> None:
        for offset, event in feedback_events(self._log, self._read_to):
            self._offsets.setdefault(event.run_id, []).append(offset)
            self._read_to = offset + 1


def sample_of(event: Event) -> Sample:
    """The question-answer pair in a HarvestJudged with a verdict, or in a RehearsalAnswered. Raises MissingSample."""
    match event.WhichOneof("body"):
        case "harvest_judged" if event.harvest_judged.counted:
            judged = event.harvest_judged
            return Sample(judged.question, judged.answers[judged.best].text)
        case "rehearsal_answered":
            return Sample(event.rehearsal_answered.question, event.rehearsal_answered.answer.text)
    raise MissingSample(f"event {event.event_id} is no sample")
