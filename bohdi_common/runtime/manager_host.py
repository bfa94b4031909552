"""Hosts the bandit on one feedback log: folds its past, asks again for what is outstanding, and goes on event by event.

The bandit's state is its fold, so the host starts from the log (or a snapshot of the fold) and from no consumer's mark.
What the bandit gives out is appended without waiting for it: it takes effect when it is read back, and what a crash
loses of it is decided or asked again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from bohdi_common.events import codec
from bohdi_common.events.events_pb2 import Event
from bohdi_common.events.topics import FEEDBACK
from bohdi_common.log.port import FollowedLog, Record, Stored
from bohdi_common.runtime.feedback import feedback_events, follow_feedback
from bohdi_common.runtime.shell import dead_record, record_of
from bohdi_common.runtime.worker import Append, until_durable

_TICK_S = 1.0
_APPENDS_MAX = 1024  # under way at once


class Manager(Protocol):
    """The bandit, as a host sees it: of one run, or of all runs of a log."""

    def fold(self, event: Event) -> None:
        """Takes in an event of the past."""
        ...

    def start(self) -> list[Event]:
        """After the past: decisions that are due, and requests that are outstanding."""
        ...

    def handle(self, event: Event) -> list[Event]:
        """Takes in the next event and gives what is to be appended because of it."""
        ...

    def tick(self) -> list[Event]:
        """Decisions that are due because time went by."""
        ...


@dataclass
class ManagerHost:
    """`start`: offset up to which `manager` was folded before. `already_asked` gives the ids of those outstanding
    requests that stand in their topic already, `already_dead` of those dead letters. `on_event` is told of every event
    once it is folded, with its offset. What holds no event goes to the dead letters and moves nothing."""

    log: FollowedLog
    append: Append
    manager: Manager
    start: int = 0
    already_asked: Callable[[Sequence[Event]], set[str]] = field(default=lambda requests: set())
    already_dead: Callable[[Sequence[Record]], set[str]] = field(default=lambda records: set())
    on_event: Callable[[int, Event], None] = field(default=lambda offset, event: None)
    tick_s: float = _TICK_S
    _dead: list[Record] = field(default_factory=list, init=False)
    _room: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(_APPENDS_MAX), init=False)

    async def run(self) -> None:
        """Without end. Raises LogError and NewerSchema."""
        live_from = await asyncio.to_thread(self.fold_past)
        async with asyncio.TaskGroup() as group:
            await self._post(group, await asyncio.to_thread(self._outstanding))
            group.create_task(self._tick(group))
            async for offset, event in follow_feedback(self.log, live_from, self._passed_over):
                outputs = self.manager.handle(event)
                self.on_event(offset, event)
                await self._post(group, [record_of(output) for output in outputs])

    def fold_past(self) -> int:
        """Folds what the log holds now; returns the offset behind it."""
        end = self.log.end(FEEDBACK.name)
        for offset, event in feedback_events(self.log, self.start, end, self._passed_over):
            self.manager.fold(event)
            self.on_event(offset, event)
        return max(end, self.start)

    def _outstanding(self) -> list[Record]:
        """Decisions that are due, and the requests and dead letters that the log called for and their topic lacks."""
        dead, self._dead = self._dead, []
        known = self.already_dead(dead) if dead else set()
        events = self.manager.start()
        requests = [event for event in events if codec.topic_of(event) is not FEEDBACK]
        asked = self.already_asked(requests) if requests else set()
        return [
            *(record for record in dead if record.event_id not in known),
            *(record_of(event) for event in events if event.event_id not in asked),
        ]

    def _passed_over(self, stored: Stored, reason: str) -> None:
        self._dead.append(dead_record(stored, reason))

    async def _tick(self, group: asyncio.TaskGroup) -> None:
        while True:
            await asyncio.sleep(self.tick_s)
            dead, self._dead = self._dead, []
            await self._post(group, [*dead, *(record_of(event) for event in self.manager.tick())])

    async def _post(self, group: asyncio.TaskGroup, records: list[Record]) -> None:
        if records:
            await self._room.acquire()
            group.create_task(self._durable(records))

    async def _durable(self, records: list[Record]) -> None:
        try:
            await until_durable(self.append, records)
        finally:
            self._room.release()
