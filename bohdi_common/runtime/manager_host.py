"""Hosts the bandit on one feedback log: folds its past, asks again for what is outstanding, and goes on event by event.

The bandit's state is its fold, so the host starts from the log (or a snapshot of the fold) and from no consumer's mark.
What the bandit gives out is appended without waiting for it: it takes effect when it is read back, and what a crash
loses of it is decided or asked again.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from itertools import islice
from typing import Protocol

from bohdi_common.core.state import RunState
from bohdi_common.events import codec
from bohdi_common.events.events_pb2 import Event
from bohdi_common.events.topics import FEEDBACK
from bohdi_common.log.port import FollowedLog, Record, Stored
from bohdi_common.runtime import metrics
from bohdi_common.runtime.feedback import feedback_records, follow_records, why_unfit
from bohdi_common.runtime.shell import dead_id, dead_record, record_of
from bohdi_common.runtime.worker import Append, in_thread, until_durable, until_there

_log = logging.getLogger("bohdi")
_TICK_S = 1.0
_APPENDS_MAX = 1024  # under way at once
_LETTERS_AT_ONCE = 16  # each may be as long as a record


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

    def states(self) -> list[RunState]:
        """Of the runs that are not over; may be asked from another thread."""
        ...


@dataclass
class ManagerHost:
    """`start`: offset up to which `manager` was folded before. `already_asked` gives the ids of those outstanding
    requests that stand in their topic already, `already_dead` those of the given dead letters that do. `on_event` is
    told of every event once it is folded, with its offset."""

    log: FollowedLog
    append: Append
    manager: Manager
    start: int = 0
    already_asked: Callable[[Sequence[Event]], set[str]] = field(default=lambda requests: set())
    already_dead: Callable[[AbstractSet[str]], set[str]] = field(default=lambda ids: set())
    on_event: Callable[[int, Event], None] = field(default=lambda offset, event: None)
    tick_s: float = _TICK_S
    _unfit: dict[str, int] = field(default_factory=dict, init=False)  # offsets of the past, by their letters' ids
    _room: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(_APPENDS_MAX), init=False)

    async def run(self) -> None:
        """Without end; cancelled while it folds the past, it ends once the fold has come to a stop, which closing the
        log brings about. Raises LogError and NewerSchema."""
        live_from = await until_there(lambda: in_thread(self.fold_past))
        outstanding = self.manager.start()
        asked = await until_there(lambda: asyncio.to_thread(self._asked, outstanding))
        inputs = metrics.inputs_of("bandit")
        async with asyncio.TaskGroup() as group:
            await self._post(group, [record_of(event) for event in outstanding if event.event_id not in asked])
            group.create_task(self._tick(group))
            group.create_task(self._bury_past(group))
            async for stored, event in follow_records(self.log, live_from):
                if why := why_unfit(stored, event):
                    _log.warning("%s/%d offset %d goes to the dead letters: %s", *_place(stored), why)
                    inputs.died()
                    await self._post(group, [dead_record(stored, why)])
                if event is not None:
                    began_s = time.perf_counter()
                    outputs = self.manager.handle(event)
                    inputs.handled(codec.kind_of(event), "done", began_s)
                    self.on_event(stored.offset, event)
                    await self._post(group, [record_of(output) for output in outputs])

    def fold_past(self) -> int:
        """Folds what the log holds now; returns the offset behind it. Called again after the log went away in the midst
        of it, it goes on."""
        end = self.log.end(FEEDBACK.name)
        for stored, event in feedback_records(self.log, self.start, end):
            if why_unfit(stored, event):
                self._unfit[dead_id(stored)] = stored.offset
            if event is not None:
                self.manager.fold(event)
                self.on_event(stored.offset, event)
            self.start = stored.offset + 1
        self.start = max(end, self.start)
        return self.start

    def _asked(self, outstanding: Sequence[Event]) -> set[str]:
        """Ids of the requests among them that stand in their topics."""
        requests = [event for event in outstanding if codec.topic_of(event) is not FEEDBACK]
        return self.already_asked(requests) if requests else set()

    async def _bury_past(self, group: asyncio.TaskGroup) -> None:
        """Dead letters for what has no place on the feedback log of the past, but for those that stand there."""
        if self._unfit:
            there = await until_there(lambda: asyncio.to_thread(self.already_dead, self._unfit.keys()))
            letters = self._letters({offset for name, offset in self._unfit.items() if name not in there})
            while some := await asyncio.to_thread(list, islice(letters, _LETTERS_AT_ONCE)):
                await self._post(group, some)

    def _letters(self, offsets: set[int]) -> Iterator[Record]:
        """Reads once more what lies between the first and the last of `offsets`: to keep their bytes while the past is
        folded would have no bound."""
        if offsets:
            for stored, event in feedback_records(self.log, min(offsets), max(offsets) + 1):
                if stored.offset in offsets:
                    yield dead_record(stored, why_unfit(stored, event))

    async def _tick(self, group: asyncio.TaskGroup) -> None:
        while True:
            await asyncio.sleep(self.tick_s)
            await self._post(group, [record_of(event) for event in self.manager.tick()])

    async def _post(self, group: asyncio.TaskGroup, records: list[Record]) -> None:
        if records:
            await self._room.acquire()
            group.create_task(self._durable(records))

    async def _durable(self, records: list[Record]) -> None:
        try:
            await until_durable(self.append, records)
        finally:
            self._room.release()


def _place(stored: Stored) -> tuple[str, int, int]:
    return stored.topic, stored.partition, stored.offset
