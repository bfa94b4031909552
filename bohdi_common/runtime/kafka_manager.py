"""The bandit's process on Kafka: one `ManagerHost` on every partition of the feedback topic.

It is in no consumer group: its state is the fold, which starts from the log. Two such processes do no harm, for a
decision takes effect once, when it is read back; one is enough.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import threading
from collections import OrderedDict, defaultdict
from collections.abc import Callable, Iterator, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol

from bohdi_common.events import codec
from bohdi_common.events.events_pb2 import Event
from bohdi_common.events.topics import DEAD, FEEDBACK, TOPICS, TRAINING_REQUESTS
from bohdi_common.log.kafka_reader import KafkaReader
from bohdi_common.log.kafka_records import partition_of
from bohdi_common.log.kafka_settings import KafkaSettings
from bohdi_common.log.kafka_writer import KafkaWriter
from bohdi_common.log.port import LogError, Record
from bohdi_common.runtime.health import Health, serve
from bohdi_common.runtime.kafka_process import described, end_within, stop_hard, wait_for_broker, watch, watch_lag
from bohdi_common.runtime.manager_host import Manager, ManagerHost
from bohdi_common.runtime.metric_collectors import gather, of_health, of_runs
from bohdi_common.runtime.service_settings import ServiceSettings
from bohdi_common.runtime.worker import until_there

_CLOCKS_APART_MS = 60_000  # at most, of this machine and of the one that wrote a request
_REMEMBERED_MAX = 100_000
_SAVED_EVERY = 5_000  # records of a partition
_STUCK_AFTER_S = 600.0
_END_S = 15.0

_log = logging.getLogger("bohdi")


class Keeper(Protocol):
    """Keeps what a manager has folded of one partition. What it lost is folded again."""

    def load(self, id_at: Callable[[int], str | None]) -> tuple[int, Manager]:
        """A manager and the offset up to which it has folded. `id_at`: the id of the log's record at an offset."""
        ...

    def save(self, offset: int, last_id: str, manager: Any) -> None:
        """`last_id`: the id of the last record below `offset`."""
        ...


class _Kept:
    """The manager of one partition, saved now and then."""

    def __init__(self, keeper: Keeper, reader: KafkaReader, every: int) -> None:
        self._keeper = keeper
        self._every = every
        self.offset, self.manager = keeper.load(partial(_id_at, reader))
        self.place = (FEEDBACK.name, reader.partition)
        self._saved = self.offset
        self._last_id = ""

    def folded(self, offset: int, event: Event) -> None:
        self.offset, self._last_id = offset + 1, event.event_id
        if self.offset - self._saved >= self._every:
            self.save()

    def save(self) -> None:
        if self.offset > self._saved:
            self._keeper.save(self.offset, self._last_id, self.manager)
            self._saved = self.offset


def _id_at(reader: KafkaReader, offset: int) -> str | None:
    found = reader.read(FEEDBACK.name, offset, offset + 1) if offset >= 0 else iter(())
    return next((stored.event_id for stored in found), None)


@dataclass
class KafkaManagerHost:
    """`keeper_of` gives what keeps the fold of a partition between two lives of this process, saved every `saved_every`
    records."""

    name: str
    kafka: KafkaSettings
    settings: ServiceSettings
    keeper_of: Callable[[int], Keeper]
    saved_every: int = _SAVED_EVERY
    health: Health = field(init=False)
    _kept: list[_Kept] = field(default_factory=list, init=False)
    _readers: list[KafkaReader] = field(default_factory=list, init=False)
    _ending: threading.Lock = field(default_factory=threading.Lock, init=False)
    _ended: bool = field(default=False, init=False)
    _appended: OrderedDict[str, None] = field(default_factory=OrderedDict, init=False)

    def run(self) -> None:
        """Until a signal ends it. Raises NewerSchema, which no new start mends."""
        self.health = Health(self.name, _STUCK_AFTER_S)
        gather(of_health(self.health))
        gather(of_runs(lambda: [state for kept in list(self._kept) for state in kept.manager.states()]))
        port = serve(self.health, self.settings.health_host, self.settings.health_port)
        _log.info("%s: health on %s:%d", self.name, self.settings.health_host, port)
        try:
            asyncio.run(self._run())
        except BaseExceptionGroup as errors:
            leaves = list(_leaves(errors))
            for error in leaves:
                if isinstance(error, codec.NewerSchema):
                    raise error from None
            stop_hard("; ".join(map(str, leaves)))

    async def _run(self) -> None:
        topics = [topic.name for topic in TOPICS]
        stop = _stopped_by_signals()
        waiting = asyncio.create_task(wait_for_broker(self.kafka, topics, self.health))
        await _first(waiting, stop)
        if not waiting.done():
            return
        waiting.result()
        writer = KafkaWriter(self.kafka, described)
        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(watch(self.kafka, topics, self.health))]
                settled = lambda: {kept.place: kept.offset for kept in self._kept}  # noqa: E731
                tasks.append(group.create_task(watch_lag(self.kafka, settled, self.health)))
                tasks.append(group.create_task(self._started(group, writer, tasks)))
                await stop.wait()
                self.health.phase = "stopping"
                end_within(_END_S)
                for task in tasks:
                    task.cancel()
                await asyncio.to_thread(self._close_readers)
            for kept in self._kept:
                kept.save()
        finally:
            await writer.close()

    async def _started(self, group: asyncio.TaskGroup, writer: KafkaWriter, tasks: list[asyncio.Task[None]]) -> None:
        """Begins a host on every partition, each a task among `tasks`."""
        readers = [self._reader(number) for number in range(await self._partitions())]
        hosts = [await until_there(partial(asyncio.to_thread, self._host, r, writer)) for r in readers]
        tasks += [group.create_task(self._hosted(host)) for host in hosts]
        self.health.assigned, self.health.phase = len(readers), "running"

    def _reader(self, partition: int = 0) -> KafkaReader:
        """To be had until the process ends: whatever is read then is given up."""
        reader = KafkaReader(self.kafka, partition)
        with self._ending:
            if self._ended:
                reader.close_reading()
            else:
                self._readers.append(reader)
        return reader

    def _close_readers(self) -> None:
        with self._ending:
            self._ended = True
        for reader in self._readers:
            reader.close_reading()

    async def _hosted(self, host: ManagerHost) -> None:
        """Runs it; health says why it stopped until the process has ended."""
        try:
            await host.run()
        except* (LogError, codec.NewerSchema) as errors:
            self.health.phase = "stopped"
            self.health.problem = "; ".join(map(str, _leaves(errors)))
            end_within(_END_S)
            raise

    async def _partitions(self) -> int:
        reader = self._reader()
        count = await until_there(lambda: asyncio.to_thread(reader.partitions, FEEDBACK.name))
        reader.close_reading()
        return count

    def _host(self, reader: KafkaReader, writer: KafkaWriter) -> ManagerHost:
        kept = _Kept(self.keeper_of(reader.partition), reader, self.saved_every)
        self._kept.append(kept)
        return ManagerHost(
            reader,
            partial(self._append, writer),
            kept.manager,
            start=kept.offset,
            already_asked=self._already_asked,
            already_dead=self._already_dead,
            on_event=kept.folded,
        )

    async def _append(self, writer: KafkaWriter, records: Sequence[Record]) -> None:
        """Without the requests that this process has sent before: a run that is resumed asks again for all that is
        outstanding, and what stands in a request topic will be answered."""
        fresh = [record for record in records if record.topic == FEEDBACK.name or record.event_id not in self._appended]
        if fresh:
            await writer.append(fresh)
        for record in fresh:
            self._appended[record.event_id] = None
        while len(self._appended) > _REMEMBERED_MAX:
            self._appended.popitem(last=False)

    def _already_asked(self, requests: Sequence[Event]) -> set[str]:
        """Ids of the requests that stand in their topics."""
        wanted: dict[tuple[str, int], list[Event]] = defaultdict(list)
        reader = self._reader()
        counts = {topic: reader.partitions(topic) for topic in {codec.topic_of(request).name for request in requests}}
        reader.close_reading()
        for request in requests:
            topic = codec.topic_of(request).name
            wanted[topic, partition_of(codec.key_of(request), counts[topic])].append(request)
        found = {event_id for place, events in wanted.items() for event_id in self._in_topic(*place, events)}
        _log.info("%s: %d of %d outstanding requests stand in their topics", self.name, len(found), len(requests))
        return found

    def _already_dead(self, ids: AbstractSet[str]) -> set[str]:
        """Which of the dead letters `ids` stand in their topic."""
        counting = self._reader()
        found: set[str] = set()
        for number in range(counting.partitions(DEAD.name)):
            reader = self._reader(number)
            found |= ids & {stored.event_id for stored in reader.read(DEAD.name) if stored.event_id in ids}
            reader.close_reading()
        counting.close_reading()
        return found

    def _in_topic(self, topic: str, partition: int, requests: Sequence[Event]) -> set[str]:
        reader = self._reader(partition)
        try:
            ids = {request.event_id for request in requests}
            since_ms = min(request.time_us for request in requests) // 1000 - _CLOCKS_APART_MS
            start = 0 if topic == TRAINING_REQUESTS.name else reader.offset_since(topic, max(0, since_ms))
            return ids.intersection(stored.event_id for stored in reader.read(topic, start))
        finally:
            reader.close_reading()


def _leaves(errors: BaseExceptionGroup[BaseException]) -> Iterator[BaseException]:
    """The errors themselves, out of all groups around them."""
    for error in errors.exceptions:
        if isinstance(error, BaseExceptionGroup):
            yield from _leaves(error)
        else:
            yield error


def _stopped_by_signals() -> asyncio.Event:
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    return stop


async def _first(task: asyncio.Task[None], stop: asyncio.Event) -> None:
    stopped = asyncio.ensure_future(stop.wait())
    await asyncio.wait([task, stopped], return_when=asyncio.FIRST_COMPLETED)
    stopped.cancel()
