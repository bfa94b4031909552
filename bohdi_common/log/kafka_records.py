"""The log's records as Kafka has them: keys, headers and partitions.

A record carries its event's id in the header `event-id`; one without it (written by another program) is known by where
it stands. A key is any bytes: what is no UTF-8 goes through and comes back as it was.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from aiokafka.errors import CorruptRecordException
from kafka.partitioner.default import murmur2

from bohdi_common.core.limits import OVERHEAD_BYTES_MAX, RECORD_BYTES_MAX
from bohdi_common.log.port import Headers, LogError, Record, Stored

EVENT_ID = "event-id"


def partition_of(key: str, partitions: int) -> int:
    """The partition of a key, as every Kafka client's default partitioner has it."""
    return int((murmur2(key_bytes(key)) & 0x7FFFFFFF) % partitions)


def key_bytes(key: str) -> bytes:
    return key.encode("utf-8", "surrogateescape")


def encoded(record: Record, described: Headers) -> dict[str, Any]:
    """Key, value and headers for a producer's `send`. Raises LogError for a record that no topic takes."""
    if len(record.value) > RECORD_BYTES_MAX:
        size = f"{len(record.value)} bytes, over {RECORD_BYTES_MAX}"
        raise LogError(f"event {record.event_id!r} has {size}; shorten it before it is appended")
    try:
        headers = [(name, value.encode()) for name, value in ((EVENT_ID, record.event_id), *described, *record.headers)]
        key = key_bytes(record.key)
    except UnicodeEncodeError as error:
        raise LogError(f"event {record.event_id!r} has a text without UTF-8: {error}") from None
    if len(key) + sum(len(name) + len(value) + 8 for name, value in headers) > OVERHEAD_BYTES_MAX:
        raise LogError(f"event {record.event_id!r} has a key and headers of over {OVERHEAD_BYTES_MAX} bytes")
    return {"key": key, "value": record.value, "headers": headers}


def stored(topic: str, record: Any) -> Stored:
    """A consumer's record (kafka-python's or aiokafka's) as the log gives it. A tombstone has an empty value."""
    event_id, headers = _headers(record.headers)
    return Stored(
        topic,
        record.offset,
        "" if record.key is None else record.key.decode("utf-8", "surrogateescape"),
        f"{topic}/{record.partition}/{record.offset}" if event_id is None else event_id,
        b"" if record.value is None else record.value,
        headers,
        record.partition,
    )


class Polls:
    """Polls of an aiokafka consumer for one partition. Its own poll drops what it has read before a damaged record:
    here that is given first."""

    def __init__(self, consumer: Any, place: Any, timeout_ms: int, records_max: int | None = None) -> None:
        self._consumer = consumer
        self._place = place
        self._timeout_ms = timeout_ms
        self._records_max = records_max

    async def next(self, offset: int) -> list[Any]:
        """Records from `offset` on, none if none came in time. Raises aiokafka's errors."""
        try:
            came = await self._consumer.getmany(self._place, timeout_ms=self._timeout_ms, max_records=self._records_max)
        except CorruptRecordException:
            if self._records_max == 1:
                raise
            self._records_max = 1
            self._consumer.seek(self._place, offset)
            return []
        return [record for record in came.get(self._place, ()) if record.offset >= offset]


def _headers(written: Sequence[tuple[str, bytes]]) -> tuple[str | None, Headers]:
    """The event's id, if there is one, and the other headers."""
    event_id, others = None, []
    for name, value in written:
        text = (value or b"").decode("utf-8", "replace")
        if name == EVENT_ID and event_id is None:
            event_id = text
        else:
            others.append((name, text))
    return event_id, tuple(others)
