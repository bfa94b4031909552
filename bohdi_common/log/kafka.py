"""The event log on Kafka, as one process sees one partition of its topics.

Append is idempotent by event id for what this process can know: the ids in the partition are read once, before the
first append. Two processes that append one id at the same time may both write it; whoever folds counts the first. Done
marks are a consumer group's committed offset, with the marks above it in the commit's metadata.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

from kafka import KafkaAdminClient, TopicPartition
from kafka.errors import CoordinatorNotAvailableError, NotCoordinatorError
from kafka.structs import OffsetAndMetadata

from bohdi_common.log.kafka_faults import log_errors
from bohdi_common.log.kafka_reader import KafkaReader
from bohdi_common.log.kafka_settings import KafkaSettings
from bohdi_common.log.kafka_writer import Describe, KafkaWriter
from bohdi_common.log.port import Done, LogError, Record

_COORDINATOR_TRIES = 20
_COORDINATOR_PAUSE_S = 0.5
_METADATA_BYTES_MAX = 4000  # the broker's default limit is 4096


class KafkaLog(KafkaReader):
    """The `EventLog` on Kafka. Everything is appended to the partition that is read."""

    def __init__(
        self,
        settings: KafkaSettings,
        partition: int = 0,
        prefix: str = "",
        describe: Describe = lambda record: (),
    ) -> None:
        super().__init__(settings, partition, prefix)
        self._writer = KafkaWriter(settings, describe, partition)
        self._appending = asyncio.Lock()
        self._under_way: set[asyncio.Future[list[int]]] = set()
        self._closing = False
        self._offset_of: dict[str, dict[str, int]] = {}  # by topic and event id
        self._marks: dict[tuple[str, str], tuple[int, set[int]]] = {}  # by consumer and topic: cursor, marks above it
        self._admin: KafkaAdminClient | None = None

    async def append(self, records: Sequence[Record], done: Done | None = None) -> list[int]:
        """As the port says, but for one transaction: the mark is set once the records are durable, so that a crash
        between the two repeats the input. Raises LogUnavailable too."""
        if self._closing:
            raise LogError(f"{self._settings.bootstrap}: the log is closed")
        appending = asyncio.ensure_future(self._append(records, done))
        self._under_way.add(appending)
        appending.add_done_callback(self._under_way.discard)
        # Shielded: a caller that goes away must not leave records in the log of which the index does not know.
        return await asyncio.shield(appending)

    def cursor(self, consumer: str, topic: str) -> int:
        """As the port says."""
        return self._marked(consumer, topic)[0]

    def done_beyond(self, consumer: str, topic: str) -> set[int]:
        """As the port says."""
        return set(self._marked(consumer, topic)[1])

    async def close(self) -> None:
        """As the port says."""
        self._closing = True
        if self._under_way:
            await asyncio.wait(self._under_way)
        await self._writer.close()
        await asyncio.to_thread(self.close_reading)
        admin, self._admin = self._admin, None
        if admin is not None:
            await asyncio.to_thread(admin.close)

    async def _append(self, records: Sequence[Record], done: Done | None) -> list[int]:
        async with self._appending:
            for topic in {record.topic for record in records}:
                if topic not in self._offset_of:
                    self._offset_of[topic] = await asyncio.to_thread(self._ids, topic)
            fresh = {
                (record.topic, record.event_id): record
                for record in reversed(records)
                if record.event_id not in self._offset_of[record.topic]
            }
            new = list(reversed(fresh.values()))
            for record, offset in zip(new, await self._writer.append(new, self._prefix) if new else [], strict=True):
                self._offset_of[record.topic][record.event_id] = offset
            if done is not None:
                await asyncio.to_thread(self._mark, done)
            return [self._offset_of[record.topic][record.event_id] for record in records]

    def _ids(self, topic: str) -> dict[str, int]:
        ids: dict[str, int] = {}
        for record in self.read(topic):
            ids.setdefault(record.event_id, record.offset)
        return ids

    # ---- done marks --------------------------------------------------------------------------------------------

    def _mark(self, done: Done) -> None:
        cursor, beyond = self._marked(done.consumer, done.topic)
        if done.offset < cursor or done.offset in beyond:
            return
        beyond.add(done.offset)
        while cursor in beyond:
            beyond.remove(cursor)
            cursor += 1
        place = TopicPartition(self._prefix + done.topic, self.partition)
        told = OffsetAndMetadata(cursor, _as_text(beyond), -1)
        self._of_coordinator(lambda admin: admin.alter_group_offsets(self._prefix + done.consumer, {place: told}))
        self._marks[done.consumer, done.topic] = (cursor, beyond)

    def _marked(self, consumer: str, topic: str) -> tuple[int, set[int]]:
        which = (consumer, topic)
        if which not in self._marks:
            group, place = self._prefix + consumer, TopicPartition(self._prefix + topic, self.partition)
            found = self._of_coordinator(lambda admin: admin.list_group_offsets(group))[group].get(place)
            self._marks[which] = (0, set()) if found is None or found.offset < 0 else (found.offset, _marks(found))
        return self._marks[which]

    def _of_coordinator(self, asked: Callable[[KafkaAdminClient], Any]) -> Any:
        """What the group coordinator answers; a broker that has just started has none for a moment."""
        with log_errors(self._settings.bootstrap):
            if self._admin is None:
                self._admin = KafkaAdminClient(**self._settings.for_kafka_python())
            for _ in range(_COORDINATOR_TRIES):
                with suppress(CoordinatorNotAvailableError, NotCoordinatorError):
                    return asked(self._admin)
                time.sleep(_COORDINATOR_PAUSE_S)
            return asked(self._admin)


def _as_text(marks: set[int]) -> str:
    """The marks in order, as many as a commit's metadata takes; what is left out is handled again after a crash."""
    text = ""
    for mark in sorted(marks):
        longer = f"{text},{mark}" if text else str(mark)
        if len(longer) > _METADATA_BYTES_MAX:
            break
        text = longer
    return text


def _marks(committed: OffsetAndMetadata) -> set[int]:
    return {int(mark) for mark in committed.metadata.split(",") if mark.isdigit()}
