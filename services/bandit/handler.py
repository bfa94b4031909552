"""The bandit: folds the feedback log, decides, and asks the other services for what follows from its state.

All it knows is the fold. A decision is appended to the feedback log and takes effect when it is read back; only then do
its requests go out. A second bandit by accident appends decisions of the same ids: the first in the log wins for both.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from bohdi_common.core.decide import Fact, decide, requests
from bohdi_common.core.evolve import evolve
from bohdi_common.core.state import RunState
from bohdi_common.events import codec
from bohdi_common.events.events_pb2 import Event, Settings
from bohdi_common.runtime.shell import Clock, wall_clock_us

_ASKING = frozenset({"paths_drawn", "slot_continued", "training_drawn"})


class Bandit:
    """The manager of one run. Not to be called by two at once: it handles strictly one event at a time."""

    name = "bandit"

    def __init__(self, run_id: str, clock: Clock = wall_clock_us) -> None:
        self.run_id = run_id
        self.state = RunState()
        self._clock = clock
        self.settings = Settings()
        self._unread: set[str] = set()  # decisions given out and not read back yet

    def restore(self, settings: Settings, state: RunState) -> None:
        """Goes on from what was folded before: `state`, and the settings of the run's RunStarted."""
        self.settings, self.state = settings, state

    def fold(self, event: Event) -> None:
        """Takes in an event of the past, without acting on it."""
        if event.run_id != self.run_id:
            return
        if self.state.rules is None and event.WhichOneof("body") == "run_started":
            self.settings.CopyFrom(event.run_started.settings)
        evolve(self.state, event)
        self._unread.discard(event.event_id)

    def start(self) -> list[Event]:
        """After the past is folded: what the log asked for and has not got, and the decisions that are due."""
        return self._requests(since=0, cause="") + self.tick()

    def handle(self, event: Event) -> list[Event]:
        """Folds the next event of the log and gives what is to be appended because of it."""
        before, resumes = self.state.sequence, self.state.resumes
        self.fold(event)
        asked: list[Event] = []
        if self.state.resumes > resumes:  # what was drawn while the run was paused has not been asked for yet
            asked = self._requests(since=0, cause=event.event_id)
        elif self.state.sequence > before and codec.kind_of(event) in _ASKING:
            asked = self._requests(since=before, cause=event.event_id)
        since = before if self.state.resumes == resumes else 0
        return asked + self._decisions(event.event_id, decide(self.state, since=since))

    def tick(self) -> list[Event]:
        """Decisions that are due because time went by."""
        return self._decisions("", decide(self.state, self._clock()))

    def states(self) -> list[RunState]:
        """That of its run, unless it is over."""
        return [] if self.state.finished else [self.state]

    def _requests(self, since: int, cause: str) -> list[Event]:
        if self.state.paused or self.state.finished:
            return []
        return [self._event(fact, cause, asks=True) for fact in requests(self.state, since)]

    def _decisions(self, cause: str, due: list[Fact]) -> list[Event]:
        due = [fact for fact in due if fact.event_id not in self._unread]
        self._unread.update(fact.event_id for fact in due)
        return [self._event(fact, cause) for fact in due]

    def _event(self, fact: Fact, cause: str, asks: bool = False) -> Event:
        body: dict[str, Any] = {fact.kind: fact.body}
        event = Event(
            event_id=fact.event_id,
            run_id=self.run_id,
            cause_id=cause,
            round=fact.round,
            step=fact.step,
            slot=fact.slot,
            time_us=fact.time_us or self._clock(),
            schema_version=codec.SCHEMA_VERSION,
            producer=self.name,
            **body,
        )
        if asks:
            getattr(event, fact.kind).settings.CopyFrom(self.settings)
        return event


def folded(events: Iterable[Event], run_id: str) -> RunState:
    """The state that the run's events add up to."""
    bandit = Bandit(run_id)
    for event in events:
        bandit.fold(event)
    return bandit.state
