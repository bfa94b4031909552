"""Room for some at once, shared out in turns between those who wait."""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class FairGate:
    """At most `room` inside at once. Whoever waits is called by turns of `who`: one with a thousand requests does not
    stand before another with one."""

    def __init__(self, room: int) -> None:
        self._free = room
        self._room = room
        self._waiting: OrderedDict[str, deque[asyncio.Future[None]]] = OrderedDict()

    @property
    def busy(self) -> int:
        """Inside and waiting."""
        return self._room - self._free + sum(map(len, self._waiting.values()))

    @asynccontextmanager
    async def turn(self, who: str) -> AsyncIterator[None]:
        """Inside, once there is room."""
        if self._free:
            self._free -= 1
        else:
            await self._called(who)
        try:
            yield
        finally:
            self._leave()

    async def _called(self, who: str) -> None:
        place = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(who, deque()).append(place)
        try:
            await place
        except asyncio.CancelledError:
            if place.done() and not place.cancelled():  # called just before: the room goes on to the next
                self._leave()
            else:
                self._forget(who, place)
            raise

    def _forget(self, who: str, place: asyncio.Future[None]) -> None:
        queue = self._waiting.get(who, deque())
        if place in queue:
            queue.remove(place)
        if not queue:
            self._waiting.pop(who, None)

    def _leave(self) -> None:
        while self._waiting:
            who, queue = self._waiting.popitem(last=False)
            place = queue.popleft()
            if queue:
                self._waiting[who] = queue  # behind the others
            if not place.done():  # else its caller has just gone away
                place.set_result(None)
                return
        self._free += 1
