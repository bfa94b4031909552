"""The samples that a training names by run sequence, read from the feedback log."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from bohdi_common.events import codec
from bohdi_common.events.events_pb2 import Event, HarvestJudged
from bohdi_common.events.topics import FEEDBACK
from bohdi_common.log.port import LogReader
from bohdi_common.runtime.feedback import feedback_events


class MissingSample(ValueError):
    """The feedback log holds no sample at a run sequence that a training names."""


@dataclass(frozen=True)
class Sample:
    """`author` is the model that wrote the answer; `worse` an answer that the judges did not choose, "" for none."""

    question: str
    answer: str
    author: str
    worse: str = ""


class Samples:
    """Reads samples of runs, and remembers where the events of each stand: 8 bytes an event.

    `log_of` gives the log that holds a run. A run sequence is an event's place among those of its run.
    """

    def __init__(self, log_of: Callable[[str], LogReader]) -> None:
        self._log_of = log_of
        self._offsets: dict[str, array[int]] = {}

    def fetch(self, run_id: str, sequences: Sequence[int]) -> dict[int, Sample]:
        """The samples at `sequences`, by sequence, in one pass over the log between the first and the last of them.
        Raises MissingSample."""
        log = self._log_of(run_id)
        offsets = self._counted(log, run_id)
        beyond = [sequence for sequence in sequences if sequence >= len(offsets)]
        if beyond:
            raise MissingSample(f"run {run_id} has no event {beyond[0]}")
        wanted = {offsets[sequence]: sequence for sequence in sequences}
        if not wanted:
            return {}
        stored = log.read(FEEDBACK.name, min(wanted), max(wanted) + 1)
        return {wanted[s.offset]: sample_of(codec.decode(s.value)) for s in stored if s.offset in wanted}

    def _counted(self, log: LogReader, run_id: str) -> array[int]:
        offsets = self._offsets.setdefault(run_id, array("Q"))
        start = offsets[-1] + 1 if offsets else 0
        offsets.extend(offset for offset, event in feedback_events(log, start) if event.run_id == run_id)
        return offsets


def sample_of(event: Event) -> Sample:
    """The question-answer pair in a HarvestJudged with a verdict, or in a RehearsalAnswered. Raises MissingSample."""
    match event.WhichOneof("body"):
        case "harvest_judged" if event.harvest_judged.counted:
            judged = event.harvest_judged
            best = judged.answers[judged.best]
            return Sample(judged.question, best.text, best.model, worse_answer(judged))
        case "rehearsal_answered":
            answer = event.rehearsal_answered.answer
            return Sample(event.rehearsal_answered.question, answer.text, answer.model)
    raise MissingSample(f"event {event.event_id} is no sample")


def worse_answer(judged: HarvestJudged) -> str:
    """The answer to put against the best one of a counted harvest: the target's own where it lost, else the one with
    the fewest of the votes that count, of several the first. Empty when all who answered said the same."""
    best = judged.answers[judged.best].text
    others = [
        number for number, answer in enumerate(judged.answers) if not answer.failed and answer.text not in ("", best)
    ]
    if not others:
        return ""
    if judged.reward and others[0] == 0:  # the target's answer is the first
        return judged.answers[0].text
    votes = Counter(verdict.choice for verdict in judged.verdicts if verdict.counted)
    # Of identical answers the first stands for all, and has their votes.
    first = {judged.answers[number].text: number for number in reversed(others)}
    return judged.answers[min(first.values(), key=lambda number: (votes[number], number))].text
