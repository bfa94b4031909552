"""When nothing was to be decided: the run was paused, could not go on by itself, or was over."""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass, field

from bohdi.verify.arms import NEVER
from bohdi_common.core.state import Failure


@dataclass(slots=True)
class Stops:
    """Of one run. `sequence` is everywhere that of the event which stops the run or lets it go on."""

    paused: bool = False
    stalled: bool = False
    pause_due: bool = False  # the bandit is to pause the run
    pauses: int = 0
    resumed: list[int] = field(default_factory=list)  # run sequences of the resumes
    failed_trainings: int = 0  # in a row; a resume begins anew
    _states: list[list[int]] = field(default_factory=list)  # [first, last] in which nothing was to be decided

    def covers(self, state: int) -> bool:
        return any(first <= state <= last for first, last in self._states)

    def resumes_before(self, state: int) -> int:
        return bisect_left(self.resumed, state)

    def stop(self, sequence: int) -> None:
        """From the next state on nothing is to be decided."""
        if not self._states or self._states[-1][1] != NEVER:
            self._states.append([sequence + 1, NEVER])

    def stall(self, sequence: int) -> None:
        """The run cannot go on by itself: the bandit is to pause it."""
        self.stalled = self.pause_due = True
        self.stop(sequence)

    def away(self, failure: int, sequence: int) -> bool:
        """Nobody answered; where a person must mend that, the bandit is to pause the run at once."""
        if failure == Failure.BLOCKED:
            self.stall(sequence)
        return failure in (Failure.UNAVAILABLE, Failure.BLOCKED)

    def pause(self, sequence: int) -> None:
        self.pause_due = False
        self.paused = True
        self.pauses += 1
        self.stop(sequence)

    def resume(self, sequence: int) -> None:
        if self.paused or self.stalled:
            self._states[-1][1] = sequence
        self.paused = self.stalled = False
        self.failed_trainings = 0
        self.resumed.append(sequence)
