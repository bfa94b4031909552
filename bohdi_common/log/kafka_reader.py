"""Reading one partition of the topics on Kafka: replay and analysis by kafka-python, following by aiokafka."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import closing, suppress
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka import errors as kafka_errors
from kafka import KafkaConsumer
from kafka import TopicPartition as PythonPartition

from bohdi_common.core.limits import OVERHEAD_BYTES_MAX, RECORD_BYTES_MAX
from bohdi_common.log import kafka_apart
from bohdi_common.log.kafka_door import refused, refused_now
from bohdi_common.log.kafka_faults import log_errors
from bohdi_common.log.kafka_records import Polls, stored
from bohdi_common.log.kafka_settings import KafkaSettings
from bohdi_common.log.port import LogCorrupt, LogError, LogUnavailable, Stored

_FETCH_BYTES = RECORD_BYTES_MAX + OVERHEAD_BYTES_MAX
_POLL_MS = 500
_SILENCE_POLLS_MAX = 60  # so long a broker may keep silent about records that it says it has
_FOLLOW_POLL_MS = 200
APART_FROM = 50_000  # records: from here on a process of its own reads faster, its start included
_FIRST_PAUSE_S = 0.5
_LONGEST_PAUSE_S = 5.0
_LOOK_S = 5.0  # of silence, then a look at what it means


class KafkaReader:
    """The log as it stands in one partition of each topic; topics are named behind `prefix`.

    `read` and `end` may be called from any thread. A record that the broker or the way to it changed fails its CRC and
    is never given."""

    def __init__(self, settings: KafkaSettings, partition: int = 0, prefix: str = "") -> None:
        self.partition = partition
        self._settings = settings
        self._prefix = prefix
        self._one_at_a_time = threading.Lock()
        self._consumer: KafkaConsumer | None = None
        self._position: tuple[str, int] = ("", -1)
        self._closed = False

    # ---- replay ------------------------------------------------------------------------------------------------

    def read(self, topic: str, start: int = 0, stop: int | None = None) -> Iterator[Stored]:
        """As the port says; `start` 0: from the oldest record that the broker keeps, another must be there. Raises
        LogUnavailable."""
        if start < 0:
            raise ValueError(f"start must not be below 0: {start}")
        end = self.end(topic)
        return self._records(topic, start or self._oldest(topic, end), end if stop is None else min(stop, end))

    def end(self, topic: str) -> int:
        """As the port says; 0 for a topic that is not there."""
        with self._one_at_a_time, log_errors(self._settings.bootstrap):
            there = self._python()
            if self.partition not in (there.partitions_for_topic(self._prefix + topic) or ()):
                return 0
            place = PythonPartition(self._prefix + topic, self.partition)
            return int(there.end_offsets([place])[place])

    def partitions(self, topic: str) -> int:
        """How many partitions the topic has; 0 when it is not there."""
        with self._one_at_a_time, log_errors(self._settings.bootstrap):
            return len(self._python().partitions_for_topic(self._prefix + topic) or ())

    def offset_since(self, topic: str, time_ms: int) -> int:
        """Offset of the first record of this partition that the broker stamped at `time_ms` or later; the end when
        there is none."""
        end = self.end(topic)
        with self._one_at_a_time, log_errors(self._settings.bootstrap):
            place = PythonPartition(self._prefix + topic, self.partition)
            found = self._python().offsets_for_times({place: time_ms}) if end else {}
            return end if found.get(place) is None else int(found[place].offset)

    def _oldest(self, topic: str, end: int) -> int:
        """Offset of the oldest record that the broker keeps."""
        with self._one_at_a_time, log_errors(self._settings.bootstrap):
            place = PythonPartition(self._prefix + topic, self.partition)
            return int(self._python().beginning_offsets([place])[place]) if end else 0

    def close_reading(self) -> None:
        """Lets go of the connections; `follow` iterators end, `read` raises LogUnavailable."""
        self._closed = True
        with self._one_at_a_time:
            consumer, self._consumer = self._consumer, None
            if consumer is not None:
                consumer.close()

    def _records(self, topic: str, start: int, stop: int) -> Iterator[Stored]:
        return (self._apart if stop - start >= APART_FROM else self._here)(topic, start, stop)

    def _apart(self, topic: str, start: int, stop: int) -> Iterator[Stored]:
        stretch = kafka_apart.Stretch(self._settings, self._prefix, topic, self.partition, start, stop)
        with closing(kafka_apart.batches(stretch)) as batches:
            for batch in batches:
                for row in batch:
                    self._open()
                    yield Stored(topic, *row)

    def _here(self, topic: str, start: int, stop: int) -> Iterator[Stored]:
        silent = 0
        while start < stop:
            batch = self._batch(topic, start)
            silent = 0 if batch else silent + 1
            if silent > _SILENCE_POLLS_MAX:
                raise LogUnavailable(f"{self._settings.bootstrap}: no record of {topic} offset {start} came; try again")
            for record in batch:
                if record.offset >= stop:
                    return
                self._open()
                yield stored(topic, record)
                start = record.offset + 1

    def _batch(self, topic: str, start: int) -> list[Any]:
        """The next records from `start` on, none if none came in time. Several readings take turns on one consumer."""
        place = PythonPartition(self._prefix + topic, self.partition)
        with self._one_at_a_time, log_errors(self._settings.bootstrap, self._place(topic, start)):
            consumer = self._python()
            if self._position != (topic, start):
                consumer.assign([place])
                consumer.seek(place, start)
            batch = consumer.poll(timeout_ms=_POLL_MS).get(place, [])
            self._position = (topic, batch[-1].offset + 1 if batch else start)
            return list(batch)

    def _open(self) -> None:
        if self._closed:
            raise LogUnavailable(f"{self._settings.bootstrap}: the log is closed")

    def _python(self) -> KafkaConsumer:
        self._open()
        if self._consumer is None:
            refused_now(self._settings)
            self._consumer = KafkaConsumer(
                **self._settings.for_kafka_python(),
                enable_auto_commit=False,
                auto_offset_reset="none",
                isolation_level="read_committed",
                max_partition_fetch_bytes=_FETCH_BYTES,
                max_poll_records=5000,
            )
        return self._consumer

    # ---- following ---------------------------------------------------------------------------------------------

    async def follow(self, topic: str, start: int) -> AsyncIterator[Stored]:
        """As the port says. Waits for a broker that is away, and for a topic that is not there yet. Raises LogCorrupt
        when records to come are gone or damaged, LogUnavailable when the broker keeps silent about those it has."""
        if start < 0:
            raise ValueError(f"start must not be below 0: {start}")
        consumer = await self._following()
        if consumer is None:
            return
        place = TopicPartition(self._prefix + topic, self.partition)
        try:
            consumer.assign([place])
            await self._seek(consumer, place, start)
            next_, polls = start, Polls(consumer, place, _FOLLOW_POLL_MS)
            silence = _Silence(consumer, place, f"{self._settings.bootstrap}: topic {topic}/{self.partition}")
            while not self._closed:
                with log_errors(self._settings.bootstrap, self._place(topic, next_)):
                    came = await polls.next(next_)
                await silence.polled(bool(came))
                for record in came:
                    yield stored(topic, record)
                    next_ = record.offset + 1
        finally:
            await consumer.stop()

    def _place(self, topic: str, offset: int) -> str:
        return f"topic {topic}/{self.partition} from offset {offset} on"

    async def _following(self) -> AIOKafkaConsumer | None:
        """A consumer that has reached the broker, however long that takes; None when the log was closed meanwhile.
        Raises LogError for a broker that will never let it in."""
        pause_s = _FIRST_PAUSE_S
        while not self._closed:
            consumer = AIOKafkaConsumer(
                **self._settings.for_aiokafka(),
                enable_auto_commit=False,
                auto_offset_reset="none",
                isolation_level="read_committed",
                max_partition_fetch_bytes=_FETCH_BYTES,
                fetch_max_wait_ms=_POLL_MS,
            )
            try:
                await consumer.start()
            except kafka_errors.KafkaError:
                with suppress(kafka_errors.KafkaError):
                    await consumer.stop()
                await refused(self._settings)
                await asyncio.sleep(pause_s)
                pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)
            else:
                return consumer
        return None

    async def _seek(self, consumer: AIOKafkaConsumer, place: TopicPartition, start: int) -> None:
        """To `start`, or to the end if that comes first: a position behind the end is out of range to a broker."""
        end = start
        while not self._closed:
            with suppress(LogUnavailable), log_errors(self._settings.bootstrap, f"topic {place.topic}"):
                end = (await consumer.end_offsets([place]))[place]
                break
            await asyncio.sleep(_FIRST_PAUSE_S)
        consumer.seek(place, min(start, end))


class _Silence:
    """What a consumer that gives nothing does not tell: that its topic is gone, or that it cannot fetch what is there.
    One look may come upon a broker that just comes back; two in a row do not."""

    def __init__(self, consumer: AIOKafkaConsumer, place: TopicPartition, where: str) -> None:
        self._consumer = consumer
        self._place = place
        self._where = where
        self._since_s = time.monotonic()
        self._found: LogError | None = None

    async def polled(self, something: bool) -> None:
        """After each poll. Raises LogCorrupt and LogUnavailable."""
        if something:
            self._since_s, self._found = time.monotonic(), None
        elif time.monotonic() - self._since_s >= _LOOK_S:
            before, self._found = self._found, await self._look()
            self._since_s = time.monotonic()
            if before is not None and self._found is not None:
                raise self._found

    async def _look(self) -> LogError | None:
        """None when there is nothing to be given, or the broker is away."""
        with suppress(kafka_errors.KafkaError):
            if self._place.topic not in await self._consumer.topics():
                return LogCorrupt(f"{self._where}: the topic is gone; restore it from a copy")
            end = (await self._consumer.end_offsets([self._place]))[self._place]
            if end > await self._consumer.position(self._place):
                return LogUnavailable(f"{self._where}: no record comes, though the broker has some; try again")
        return None
