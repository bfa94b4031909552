"""The bandits of all runs that stand in one feedback log, as one manager."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from bohdi_common.core.state import RunState
from bohdi_common.events.events_pb2 import Event
from services.bandit.handler import Bandit


@dataclass
class Runs:
    """A bandit for every run that the log names and that is not over. Of a run that is over only its id is kept: what
    comes for it later moves nothing."""

    bandit_of: Callable[[str], Bandit] = Bandit
    going: dict[str, Bandit] = field(default_factory=dict)
    over: set[str] = field(default_factory=set)

    def fold(self, event: Event) -> None:
        """Takes in an event of the past."""
        bandit = self._bandit(event)
        if bandit is not None:
            bandit.fold(event)
            self._close(bandit)

    def start(self) -> list[Event]:
        """What the runs asked for and have not got, and the decisions that are due."""
        return [output for bandit in self.going.values() for output in bandit.start()]

    def handle(self, event: Event) -> list[Event]:
        """Takes in the next event of the log and gives what its run's bandit makes of it."""
        bandit = self._bandit(event)
        if bandit is None:
            return []
        outputs = bandit.handle(event)
        self._close(bandit)
        return outputs

    def tick(self) -> list[Event]:
        """Decisions that are due because time went by."""
        return [output for bandit in self.going.values() for output in bandit.tick()]

    def states(self) -> list[RunState]:
        """Of the runs that are not over; may be asked from another thread."""
        return [bandit.state for bandit in list(self.going.values())]

    def _bandit(self, event: Event) -> Bandit | None:
        """The bandit of the event's run; none once it is over. It is there from the run's first event on, started or
        not: the run sequence counts them all, so that a replay gives the same state."""
        run_id = event.run_id
        if run_id not in self.going and run_id not in self.over:
            self.going[run_id] = self.bandit_of(run_id)
        return self.going.get(run_id)

    def _close(self, bandit: Bandit) -> None:
        if bandit.state.finished:
            del self.going[bandit.run_id]
            self.over.add(bandit.run_id)
