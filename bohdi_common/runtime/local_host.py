"""The local host: all services in one process on one log. The embedded default.

Each service takes its topic from its cursor on, up to its capacity in flight at once. The outputs of an input and its
done mark are one append, so that after a crash what is marked done is not asked again, and what is not marked is.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from bohdi_common.core.state import ALL_ROUNDS_DONE, RunState
from bohdi_common.events.events_pb2 import Event
from bohdi_common.log import inbox
from bohdi_common.log.port import Done, EventLog, Stored
from bohdi_common.runtime.manager_host import Manager, ManagerHost
from bohdi_common.runtime.shell import Clock, Service, Shell, record_of, wall_clock_us

_INBOX_POLL_S = 0.25
_DEFAULT_CAPACITY = 64


class Bandit(Manager, Protocol):
    """The bandit of one run."""

    state: RunState


@dataclass
class LocalHost:
    """Runs `services` and the `bandit` on `log` until the run is finished or paused, or `stop` is set.

    `companions` follow the log beside them (evaluation, say) and end by themselves when the run does.
    """

    log: EventLog
    services: Sequence[Service]
    bandit: Bandit
    inbox_folder: Path
    capacity: Mapping[str, int] = field(default_factory=dict)
    companions: Sequence[Callable[[], Awaitable[None]]] = ()
    on_event: Callable[[Event], None] = field(default=lambda event: None)
    drain_s: float = 10.0
    clock: Clock = wall_clock_us
    _begun_s: dict[str, dict[int, float]] = field(default_factory=dict, init=False)  # by service and offset
    _past: int = field(default=sys.maxsize, init=False)
    _over: asyncio.Event = field(default_factory=asyncio.Event, init=False)
    _handling: set[asyncio.Task[None]] = field(default_factory=set, init=False)

    @property
    def in_flight(self) -> dict[str, int]:
        """Inputs in hand, by service."""
        return {name: len(begun) for name, begun in list(self._begun_s.items())}

    def oldest_age_s(self, name: str) -> float:
        """How long the oldest of a service's has been; 0 when there is none. May be asked from another thread."""
        oldest = next(iter(list(self._begun_s[name].values())), None)
        return time.monotonic() - oldest if oldest is not None else 0.0

    async def run(self, stop: asyncio.Event, resumed: Event | None = None) -> RunState:
        """The state at the end: `finished`, `paused`, or neither when `stop` was set. Raises the first error that no
        handler could turn into an event (LogError, NewerSchema).

        `resumed`: the RunResumed that goes on with a run of the past, unless it is over. It comes after what was asked
        for while nobody hosted the run: a pause that waited in the inbox is past, a cancelled run is not gone on with.
        """
        await inbox.drain(self.inbox_folder, self.log)
        bandit_host = ManagerHost(self.log, self.log.append, self.bandit, on_event=self._folded)
        bandit_host.start = bandit_host.fold_past()
        if resumed is not None and not self.bandit.state.finished:
            await self.log.append([record_of(resumed)])
            bandit_host.start = bandit_host.fold_past()
        self._past = bandit_host.start
        self._look()
        try:
            async with asyncio.TaskGroup() as group:
                companions = [group.create_task(_awaited(companion)) for companion in self.companions]
                due = [] if self._over.is_set() else self._intakes(group, bandit_host)
                intakes = [group.create_task(task) for task in due]
                await _first(self._over, stop)
                await self._wind_down(intakes, companions)
        except BaseExceptionGroup as errors:
            raise _leaf(errors) from None
        return self.bandit.state

    def _folded(self, offset: int, event: Event) -> None:
        self.on_event(event)
        if offset >= self._past:  # a pause of the past was resumed since
            self._look()

    def _look(self) -> None:
        if self.bandit.state.finished or self.bandit.state.paused:
            self._over.set()

    def _intakes(self, group: asyncio.TaskGroup, bandit_host: ManagerHost) -> list[Coroutine[Any, Any, None]]:
        """What takes something in: the services, the bandit, and the inbox."""
        services = [self._consume(group, Shell(service, self.clock)) for service in self.services]
        return [*services, bandit_host.run(), self._commands()]

    async def _wind_down(self, intakes: list[asyncio.Task[None]], companions: list[asyncio.Task[None]]) -> None:
        """Takes in no more, lets what is in flight finish within `drain_s` (what does not is done again after a
        resume), and, after a run that came to its end, waits for the companions; one that was cancelled ends now."""
        for intake in intakes:
            intake.cancel()
        if self._handling:
            await asyncio.wait(self._handling, timeout=self.drain_s)
        for task in self._handling:
            task.cancel()
        if self.bandit.state.finished == ALL_ROUNDS_DONE and companions:
            await asyncio.wait(companions)
        for companion in companions:
            companion.cancel()

    # ---- services ----------------------------------------------------------------------------------------------

    async def _consume(self, group: asyncio.TaskGroup, shell: Shell) -> None:
        name, topic = shell.service.name, shell.service.topic.name
        done, begun_s = self.log.done_beyond(name, topic), self._begun_s.setdefault(name, {})
        room = asyncio.Semaphore(self.capacity.get(name, _DEFAULT_CAPACITY))
        async for stored in self.log.follow(topic, self.log.cursor(name, topic)):
            if stored.offset in done:
                done.discard(stored.offset)
                continue
            await room.acquire()
            task = group.create_task(self._handle(shell, stored))
            self._handling.add(task)
            begun_s[stored.offset] = time.monotonic()
            task.add_done_callback(partial(self._left, begun_s, stored.offset, room))

    def _left(self, begun_s: dict[int, float], offset: int, room: asyncio.Semaphore, task: asyncio.Task[None]) -> None:
        self._handling.discard(task)
        del begun_s[offset]
        room.release()

    async def _handle(self, shell: Shell, stored: Stored) -> None:
        records = await shell.process(stored)
        await self.log.append(records, Done(shell.service.name, stored.topic, stored.offset))

    async def _commands(self) -> None:
        """What the command line asked of this host: it writes into the inbox, never into the log."""
        while True:
            await inbox.drain(self.inbox_folder, self.log)
            await asyncio.sleep(_INBOX_POLL_S)


async def _awaited(companion: Callable[[], Awaitable[None]]) -> None:
    await companion()


async def _first(*events: asyncio.Event) -> None:
    waits = [asyncio.ensure_future(event.wait()) for event in events]
    try:
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for wait in waits:
            wait.cancel()


def _leaf(errors: BaseExceptionGroup[BaseException]) -> BaseException:
    """The first error itself, out of the groups around it."""
    first = errors.exceptions[0]
    return _leaf(first) if isinstance(first, BaseExceptionGroup) else first
