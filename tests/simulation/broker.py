"""A broker in memory that keeps Kafka's promises and no others.

Records of a partition stand in one order for ever. Whoever appends may hear that it failed although it was done, or not
at all. A consumer group's members get their partitions' records from the committed offset on, in order, and again after
every rebalance; what is committed is never delivered again.
"""

from __future__ import annotations

import asyncio
import contextvars
import random
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import NamedTuple
from zlib import crc32

from bohdi_common.log.port import LogUnavailable, Record, Stored
from bohdi_common.runtime.ordered_window import OrderedWindow
from tests.simulation.loop import Process, SimulatedLoop
from tests.simulation.tape import Tape
from tests.simulation.trace import Trace
from tests.simulation.weather import Weather

_COMMIT_EVERY_S = 1.0
_SESSION_S = 10.0
_FETCH_MAX = 6  # records of a partition that are fetched at once
_RETRY_S = 0.5


class Broker:
    """`partitions`: how many each topic has."""

    def __init__(
        self, loop: SimulatedLoop, chance: random.Random, weather: Weather, trace: Trace, partitions: Mapping[str, int]
    ) -> None:
        self.loop = loop
        self.chance = chance
        self.weather = weather
        self.trace = trace
        self.tape = Tape(partitions)
        self.groups: dict[str, Group] = {}
        self.away_until_s = -1.0
        self.under_way = 0  # appends that are not answered yet
        self._waiting: dict[str, list[asyncio.Future[None]]] = {topic: [] for topic in partitions}
        self._outside = contextvars.Context()

    @property
    def away(self) -> bool:
        return self.loop.time() < self.away_until_s

    def goes_away(self, for_s: float) -> None:
        """Refuses everything for a while."""
        self.away_until_s = max(self.away_until_s, self.loop.time() + for_s)
        self.trace.note("broker", "goes away for", round(for_s, 3))
        self.later(for_s, self._back)

    def comes_back(self) -> None:
        self.away_until_s = -1.0
        self._back()

    def _back(self) -> None:
        if not self.away:
            self.trace.note("broker", "is back")
            for topic in self._waiting:
                self.wake(topic)

    def later(self, after_s: float, callback: Callable[..., object], *args: object) -> None:
        """Calls back in the broker's own name: the death of who asked changes nothing."""
        self.loop.call_later(after_s, callback, *args, context=self._outside)

    # ---- appending ---------------------------------------------------------------------------------------------

    def place_of(self, record: Record) -> tuple[str, int]:
        """The partition that a record's key sends it to."""
        return record.topic, crc32(record.key.encode("utf-8", "surrogatepass")) % self.tape.partitions(record.topic)

    def produce(self, records: Sequence[Record], process: Process) -> asyncio.Future[None]:
        """Sends `records`, those of one partition as one batch. The answer fails with LogUnavailable when any of it was
        refused, or was written and the acknowledgement got lost."""
        batches: dict[tuple[str, int], list[Record]] = {}
        for record in records:
            batches.setdefault(self.place_of(record), []).append(record)
        sent = _Sent(self.loop.create_future(), len(batches))
        self.under_way += 1
        for place, batch in batches.items():
            self.later(self.weather.latency_s(), self._arrive, sent, place, batch, process)
        return sent.answer

    def _arrive(self, sent: _Sent, place: tuple[str, int], batch: list[Record], process: Process) -> None:
        chance, weather = self.chance.random, self.weather
        if self.away or chance() < weather.refused or (not process.alive and chance() < 0.5):
            self.trace.note("broker", "refuses", process.name, *(record.event_id for record in batch))
            sent.failed = True
        else:
            torn = len(batch) > 1 and chance() < weather.torn
            taken = batch[: self.chance.randrange(1, len(batch))] if torn else batch
            self.write(place, taken, process.name)
            if chance() < weather.acks_lost or torn:
                self.trace.note("broker", "acknowledgement lost", process.name, len(taken), "of", len(batch))
                sent.failed = True
        sent.under_way -= 1
        if not sent.under_way:
            self.under_way -= 1
            self.later(self.weather.latency_s(), sent.settle)

    def write(self, place: tuple[str, int], batch: Sequence[Record], who: str) -> list[Stored]:
        """Makes records durable at the end of a partition."""
        topic, partition = place
        written = [self.tape.add(record, partition) for record in batch]
        for stored in written:
            self.trace.note(who, "writes", stored)
        self.wake(topic)
        return written

    # ---- following ---------------------------------------------------------------------------------------------

    async def growth(self, topic: str) -> None:
        """Returns when the topic has grown, or something else may have changed for who reads it."""
        waiter = self.loop.create_future()
        self._waiting[topic].append(waiter)
        await waiter

    def wake(self, topic: str) -> None:
        waiting, self._waiting[topic] = self._waiting[topic], []
        for waiter in waiting:
            if not waiter.done():
                waiter.set_result(None)

    # ---- consumer groups ---------------------------------------------------------------------------------------

    def group(self, name: str, topic: str) -> Group:
        if name not in self.groups:
            self.groups[name] = Group(name, topic, self)
        return self.groups[name]


@dataclass(eq=False)
class _Sent:
    """One append under way: the batches that have not arrived, and whether any of it went wrong."""

    answer: asyncio.Future[None]
    under_way: int
    failed: bool = False

    def settle(self) -> None:
        if self.answer.done():
            return
        if self.failed:
            self.answer.set_exception(LogUnavailable("the broker is away"))
        else:
            self.answer.set_result(None)


class Client:
    """The broker as one process reaches it. A process that is dead reaches nothing any more."""

    def __init__(self, broker: Broker, process: Process) -> None:
        self.broker = broker
        self.process = process
        self.lag_s = 0.0  # how far behind this process reads

    async def append(self, records: Sequence[Record]) -> None:
        """As the writer on Kafka: returns once all of it is durable. Raises LogUnavailable."""
        if not self.process.alive:
            await self.broker.loop.create_future()
        await self.broker.produce(records, self.process)


@dataclass
class PartitionReader:
    """One partition of every topic as a `FollowedLog`."""

    client: Client
    partition: int
    position: int = 0  # of `follow`

    def read(self, topic: str, start: int = 0, stop: int | None = None) -> Iterator[Stored]:
        return iter(self._stored(topic)[start:stop])

    def end(self, topic: str) -> int:
        return len(self._stored(topic))

    def _stored(self, topic: str) -> list[Stored]:
        broker = self.client.broker
        if broker.away:
            raise LogUnavailable("the broker is away")
        return broker.tape.stored(topic, self.partition)

    async def follow(self, topic: str, start: int) -> AsyncIterator[Stored]:
        """Waits for a broker that is away."""
        broker = self.client.broker
        self.position = start
        while True:
            stored = [] if broker.away else broker.tape.stored(topic, self.partition)
            if start >= len(stored):
                await broker.growth(topic)
                continue
            await asyncio.sleep(broker.weather.latency_s() + self.client.lag_s)
            for record in stored[start : start + broker.chance.randrange(1, _FETCH_MAX)]:
                yield record
                self.position = start = record.offset + 1


class Delivery(NamedTuple):
    stored: Stored
    generation: int


class Group:
    """A consumer group of one topic. Rebalances are eager: everyone loses everything first."""

    def __init__(self, name: str, topic: str, broker: Broker) -> None:
        self.name = name
        self.topic = topic
        self.committed: dict[int, int] = {}
        self.generation = 0
        self.members: list[Member] = []
        self._broker = broker

    def join(self, member: Member) -> None:
        self.members.append(member)
        self.rebalance(f"{member.process.name} joins")

    def leave(self, member: Member) -> None:
        if member in self.members:
            self.members.remove(member)
            self.rebalance(f"{member.process.name} is gone")

    def dies(self, member: Member) -> None:
        """The group notices when the session of a member is over; so long its partitions wait."""
        self._broker.later(self._broker.chance.uniform(0, _SESSION_S), self.leave, member)

    def rebalance(self, why: str) -> None:
        """Takes everything from everyone and deals it out anew."""
        self.generation += 1
        broker = self._broker
        broker.trace.note(self.name, f"rebalances to generation {self.generation}:", why)
        for member in self.members:
            broker.later(broker.weather.latency_s(), member.revoke, self.generation)
        broker.later(broker.chance.uniform(0.1, 1.0), self._assign, self.generation)

    def _assign(self, generation: int) -> None:
        if generation != self.generation or not self.members:
            return
        members = list(self.members)
        self._broker.chance.shuffle(members)
        shares: list[list[int]] = [[] for _ in members]
        for partition in range(self._broker.tape.partitions(self.topic)):
            shares[partition % len(members)].append(partition)
        for member, share in zip(members, shares, strict=True):
            member.revoke(generation)
            member.assign(sorted(share), generation)

    def has_handled_all(self) -> bool:
        """True when everything in the topic is committed."""
        tape = self._broker.tape
        partitions = range(tape.partitions(self.topic))
        return all(self.committed.get(p, 0) == len(tape.stored(self.topic, p)) for p in partitions)

    def commit(self, member: Member, offsets: Mapping[int, int]) -> None:
        """Forgets all before these offsets. Of a member that was put out of the group nothing is taken."""
        if member not in self.members:
            return self._broker.trace.note(self.name, "refuses the commit of", member.process.name)
        for partition, offset in offsets.items():
            before = self.committed.get(partition, 0)
            if offset > before:
                self.committed[partition] = offset
                self._broker.tape.acknowledge(self.name, self.topic, partition, range(before, offset))
        return self._broker.trace.note(member.process.name, "commits", self.topic, dict(offsets))


@dataclass(eq=False)
class Member:
    """A group's member, as a host on faust has it: deliveries come out of a buffer that outlives rebalances, and an
    acknowledgement counts for whatever the partition's assignment is now, not for the one it was delivered under."""

    group: Group
    client: Client
    window: OrderedWindow
    generation: int = 0
    active: bool = False
    connected: bool = True
    skipped: bool = False  # the broker's client delivered past records that were never delivered
    positions: dict[int, int] = field(default_factory=dict)
    _buffer: deque[Delivery] = field(default_factory=deque)
    _acknowledged: dict[int, int] = field(default_factory=dict)

    @property
    def process(self) -> Process:
        return self.client.process

    @property
    def _broker(self) -> Broker:
        return self.client.broker

    # ---- by the host -------------------------------------------------------------------------------------------

    async def next(self) -> Delivery:
        while not self._buffer:
            self._fetch()
            if not self._buffer:
                await self._broker.growth(self.group.topic)
        return self._buffer.popleft()

    def still_ours(self, delivery: Delivery) -> bool:
        return self.active and delivery.generation == self.generation

    def acknowledge(self, stored: Stored) -> None:
        """Told to the broker with the next commit."""
        if not self.process.alive:
            return
        if stored.partition not in self.positions:
            return self._broker.trace.note(self.process.name, "acknowledges what is not its own", stored)
        if not self._acknowledged:
            self._broker.later(self._broker.chance.uniform(0, _COMMIT_EVERY_S), self._commit)
        self._acknowledged[stored.partition] = max(stored.offset + 1, self._acknowledged.get(stored.partition, 0))
        return None

    def say_goodbye(self) -> None:
        """The last commit, then out of the group."""
        self._commit()
        self.group.leave(self)

    def _fetch(self) -> None:
        if not self.active or not self.connected or self._broker.away:
            return
        chance, tape = self._broker.chance, self._broker.tape
        for partition in chance.sample(list(self.positions), len(self.positions)):
            start = self.positions[partition]
            stored = tape.stored(self.group.topic, partition)[start : start + chance.randrange(1, _FETCH_MAX)]
            self._buffer.extend(Delivery(record, self.generation) for record in stored)
            self.positions[partition] += len(stored)

    def _commit(self) -> None:
        if not self.process.alive or not self._acknowledged:
            return
        if self._broker.away:
            return self._broker.later(_RETRY_S, self._commit)
        offsets, self._acknowledged = self._acknowledged, {}
        return self.group.commit(self, offsets)

    # ---- by the broker -----------------------------------------------------------------------------------------

    def revoke(self, generation: int) -> None:
        """Takes all partitions away, once for each generation."""
        if not self.process.alive or self.generation >= generation:
            return
        if self._broker.chance.random() < 0.5:
            self._commit()
        self.generation = generation
        self.active = False
        self.positions.clear()
        self._acknowledged.clear()
        self.window.revoked()

    def assign(self, partitions: list[int], generation: int) -> None:
        """Deliveries begin at once; where they must begin, the host has still to ask the broker."""
        if self.process.alive:
            committed = {partition: self.group.committed.get(partition, 0) for partition in partitions}
            self.positions = {partition: self._first(partition, offset) for partition, offset in committed.items()}
            self.active = True
            self._broker.wake(self.group.topic)
            self.process.start(self._told(committed, generation))

    async def _told(self, committed: dict[int, int], generation: int) -> None:
        await asyncio.sleep(self._broker.weather.latency_s())
        while self._broker.away:
            await asyncio.sleep(_RETRY_S)
        if self.generation == generation:
            self._broker.trace.note(self.process.name, "is assigned", self.group.topic, committed)
            self.window.assigned({(self.group.topic, partition): offset for partition, offset in committed.items()})

    def _first(self, partition: int, offset: int) -> int:
        """Where delivery begins: at the committed offset, but for a fault that faust is known to have."""
        chance, end = self._broker.chance, len(self._broker.tape.stored(self.group.topic, partition))
        if chance.random() < self._broker.weather.skips and offset + 1 < end:
            self.skipped = True
            offset = chance.randrange(offset + 1, end)
            self._broker.trace.note(
                self.process.name, "has its deliveries begin at", self.group.topic, partition, offset
            )
        return offset

    def lose_connection(self) -> None:
        """Goes on without knowing that the group has put it out; comes back later."""
        if not self.connected:
            return
        self.connected = False
        self.group.leave(self)
        self._broker.trace.note(self.process.name, "loses its connection")
        self._broker.later(self._broker.chance.uniform(0, 2 * _SESSION_S), self.reconnect)

    def reconnect(self) -> None:
        if self.process.alive and not self.connected:
            self.connected = True
            self.revoke(self.generation + 1)
            self.group.join(self)


def acknowledging(member: Member, delivery: Delivery) -> Callable[[], object]:
    """What the host gives to the window with a delivery."""
    return partial(member.acknowledge, delivery.stored)
