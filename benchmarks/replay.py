"""Replay of a run from Kafka: read, check, decode, fold, against bare consumption of the same records and against the
fold of the same events from SQLite.

A ratio of 1 against a client: the replay is as fast as consuming the records and throwing them away. Against SQLite: it
folds as fast as where no broker is, which is what it should reach, for then the client is not what it waits for. All
are timed in turns on one broker; the best turn of each counts. The start of the reading process is in it.
"""

from __future__ import annotations

import asyncio
from functools import cache
from pathlib import Path

from aiokafka import AIOKafkaConsumer, TopicPartition
from kafka import KafkaConsumer
from kafka import TopicPartition as PythonPartition

from benchmarks import kafka_there
from benchmarks.folds import AS_IN_THE_DEMO
from benchmarks.made_run import RUN_ID
from benchmarks.rows import Measured
from benchmarks.timing import best_seconds
from bohdi_common.events.topics import FEEDBACK
from bohdi_common.log.kafka_reader import KafkaReader
from bohdi_common.log.kafka_writer import KafkaWriter
from bohdi_common.log.port import LogReader, Record
from bohdi_common.log.sqlite_file import open_readonly
from bohdi_common.runtime.feedback import events_of
from services.bandit.handler import folded

PREFIX = "replay."
_MADE = AS_IN_THE_DEMO
_TURNS = 3
_COPIED_AT_ONCE = 2_000
_POLL_MS = 500
_FETCH_BYTES = 4 * 1024 * 1024


def against_kafka_python() -> Measured:
    """Bare consumption by kafka-python, CRCs checked in C."""
    return _measured("kafka-python's consumer alone", "kafka_python")


def against_aiokafka() -> Measured:
    """Bare consumption by aiokafka."""
    return _measured("aiokafka's consumer alone", "aiokafka")


def against_sqlite() -> Measured:
    """The same fold from SQLite."""
    return _measured("the same events folded from SQLite", "sqlite")


def _measured(what: str, which: str) -> Measured:
    times = _seconds()
    rate = _MADE.events / times["kafka"]
    bare = _MADE.events / times[which]
    return Measured(rate, "folds/s", f"{what}, {bare:,.0f}", rate / bare)


@cache
def _seconds() -> dict[str, float]:
    """Best times by what was done."""
    path = _MADE.log()
    asyncio.run(_copied(path))
    reader, log = KafkaReader(kafka_there.settings(), prefix=PREFIX), open_readonly(path)
    try:
        done = {
            "kafka": lambda: _fold(reader),
            "sqlite": lambda: _fold(log),
            "kafka_python": _by_kafka_python,
            "aiokafka": lambda: asyncio.run(_by_aiokafka()),
        }
        return dict(zip(done, best_seconds(_TURNS, *done.values()), strict=True))
    finally:
        reader.close_reading()
        log.close_reading()


async def _copied(path: Path) -> None:
    """Puts the made run onto the broker."""
    kafka = kafka_there.settings()
    kafka_there.make_topics(kafka, {PREFIX + FEEDBACK.name: 1})
    writer, log = KafkaWriter(kafka, partition=0), open_readonly(path)
    try:
        batch: list[Record] = []
        for stored in log.read(FEEDBACK.name):
            batch.append(Record(stored.topic, stored.key, stored.event_id, stored.value))
            if len(batch) == _COPIED_AT_ONCE:
                await writer.append(batch, PREFIX)
                batch = []
        await writer.append(batch, PREFIX)
    finally:
        log.close_reading()
        await writer.close()


def _fold(log: LogReader) -> None:
    state = folded(events_of(log, RUN_ID), RUN_ID)
    _check(state.sequence)


def _check(count: int) -> None:
    if count != _MADE.events:
        raise RuntimeError(f"{count} of {_MADE.events} events: remove benchmarks/work and run again")


def _by_kafka_python() -> None:
    consumer = KafkaConsumer(
        **kafka_there.settings().for_kafka_python(),
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        max_partition_fetch_bytes=_FETCH_BYTES,
        max_poll_records=5000,
    )
    place, count = PythonPartition(PREFIX + FEEDBACK.name, 0), 0
    consumer.assign([place])
    consumer.seek(place, 0)
    while count < _MADE.events:
        count += len(consumer.poll(timeout_ms=_POLL_MS).get(place, []))
    consumer.close()
    _check(count)


async def _by_aiokafka() -> None:
    consumer = AIOKafkaConsumer(
        **kafka_there.settings().for_aiokafka(),
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        max_partition_fetch_bytes=_FETCH_BYTES,
    )
    place, count = TopicPartition(PREFIX + FEEDBACK.name, 0), 0
    await consumer.start()
    consumer.assign([place])
    consumer.seek(place, 0)
    while count < _MADE.events:
        came = await consumer.getmany(place, timeout_ms=_POLL_MS, max_records=5000)
        count += len(came.get(place, ()))
    await consumer.stop()
    _check(count)
