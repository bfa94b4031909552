"""Many inputs in flight, acknowledged strictly in offset order per partition.

A broker that is told "done up to here" forgets all before it. So an input is acknowledged only when it and every input
before it in its partition is handled: a crash then repeats at most what is held here, and loses none. Nothing in here
knows of Kafka or faust: the host delivers, and gives with each delivery the function that acknowledges it.
"""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict, deque
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from functools import partial

from bohdi_common.log.port import Stored

Partition = tuple[str, int]  # topic and number
Handle = Callable[[Stored], Awaitable[None]]


class DeliveryGap(Exception):
    """The broker skipped records: acknowledging past them would lose them. The process must stop and start again."""


@dataclass(slots=True)
class _Held:
    """A delivery that is not acknowledged yet."""

    offset: int
    acknowledge: Callable[[], object]
    task: asyncio.Task[None]
    since_s: float


class OrderedWindow:
    """Inputs of one consumer: at most `capacity` in `handle` at once, at most `held_max` not acknowledged.

    `handle` returns once all that comes of an input is durable. One that raises is never acknowledged: `failed` is then
    done with its error, and the host must stop. Work goes on through a rebalance: an input that comes again while it is
    still being handled is not handled twice, and one that was acknowledged here before is acknowledged again at once.
    """

    def __init__(
        self, handle: Handle, *, capacity: int, held_max: int, clock_s: Callable[[], float] = time.monotonic
    ) -> None:
        if held_max < capacity:
            raise ValueError(f"held_max {held_max} is below the capacity {capacity}")
        self._handle = handle
        self._held_max = held_max
        self._clock_s = clock_s
        self._slots = asyncio.Semaphore(capacity)
        self._held: defaultdict[Partition, deque[_Held]] = defaultdict(deque)
        self._running: dict[tuple[Partition, int], asyncio.Task[None]] = {}
        self._expected: dict[Partition, int] = {}
        self._acknowledged: dict[Partition, int] = {}
        self._room = asyncio.Event()
        self._placed = asyncio.Event()  # where deliveries begin is known
        self.failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    @property
    def held(self) -> int:
        """Deliveries that are not acknowledged."""
        return sum(map(len, self._held.values()))

    @property
    def oldest_age_s(self) -> float:
        """How long the oldest delivery has waited for its acknowledgement; 0 when there is none."""
        heads = [held[0].since_s for held in self._held.values() if held]
        return self._clock_s() - min(heads) if heads else 0.0

    @property
    def settled(self) -> dict[Partition, int]:
        """The offset up to which all is acknowledged, of each partition that is this consumer's."""
        return {
            place: held[0].offset if (held := self._held.get(place)) else expected
            for place, expected in self._expected.items()
        }

    def assigned(self, starts: Mapping[Partition, int]) -> None:
        """These partitions, and no others, are this consumer's from now on, to be delivered from these offsets on: the
        committed ones, or the first that the partition has where nothing was committed. (To take any first delivery
        there would be to acknowledge all before it.)"""
        self._held.clear()
        self._expected = dict(starts)
        self._acknowledged = {p: offset for p, offset in self._acknowledged.items() if p in starts}
        for key in [key for key in self._running if key[0] not in starts]:
            self._running.pop(key).cancel()  # another consumer has it now
        self._placed.set()
        self._room.set()

    def revoked(self) -> None:
        """No partition is this consumer's: what is held will come again, here or elsewhere, and an acknowledgement now
        could be taken for one of the next assignment."""
        self._held.clear()
        self._expected.clear()
        self._placed.clear()
        self._room.set()

    async def take(
        self, stored: Stored, acknowledge: Callable[[], object], still_ours: Callable[[], bool] = lambda: True
    ) -> None:
        """Takes in a delivery, waiting while the window is full, or while `assigned` has not been told yet where the
        deliveries begin: a broker does not wait for that. `still_ours` is asked after the wait: false drops it, for it
        was delivered to an assignment that is over. Raises DeliveryGap."""
        while self.held >= self._held_max or not self._placed.is_set():
            await self._placed.wait()
            self._room.clear()
            if self.held >= self._held_max:
                await self._room.wait()
        if not still_ours():
            return
        partition = (stored.topic, stored.partition)
        expected = self._expected.get(partition, stored.offset)
        if stored.offset > expected:
            raise DeliveryGap(
                f"{stored.topic}/{stored.partition}: offset {stored.offset} was delivered, {expected} was to come; "
                "start the service again: it goes on from the committed offset"
            )
        if stored.offset < expected:  # a second delivery within one assignment: the first is held or acknowledged
            return
        self._expected[partition] = stored.offset + 1
        if stored.offset <= self._acknowledged.get(partition, -1):
            acknowledge()
            return
        task = self._running.get((partition, stored.offset)) or self._begin(partition, stored)
        self._held[partition].append(_Held(stored.offset, acknowledge, task, self._clock_s()))
        self._advance(partition)

    async def drain(self, timeout_s: float) -> None:
        """Waits for what is in hand, at most `timeout_s`; cancels the rest, which will be delivered again."""
        if self._running:
            await asyncio.wait(list(self._running.values()), timeout=timeout_s)
        for task in list(self._running.values()):
            task.cancel()

    def _begin(self, partition: Partition, stored: Stored) -> asyncio.Task[None]:
        task = asyncio.create_task(self._within_capacity(stored))
        self._running[partition, stored.offset] = task
        task.add_done_callback(partial(self._ended, partition, stored.offset))
        return task

    async def _within_capacity(self, stored: Stored) -> None:
        async with self._slots:
            await self._handle(stored)

    def _ended(self, partition: Partition, offset: int, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None and not self.failed.done():
            self.failed.set_exception(error)
        if task.cancelled() and self._running.get((partition, offset)) is task:
            del self._running[partition, offset]
        self._advance(partition)

    def _advance(self, partition: Partition) -> None:
        """Acknowledges from the head on what is handled."""
        held = self._held.get(partition)
        while held and held[0].task.done() and not held[0].task.cancelled() and held[0].task.exception() is None:
            head = held.popleft()
            self._running.pop((partition, head.offset), None)
            self._acknowledged[partition] = max(head.offset, self._acknowledged.get(partition, -1))
            head.acknowledge()
        self._room.set()
