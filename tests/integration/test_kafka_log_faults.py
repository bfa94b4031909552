"""The Kafka log's own faults: a broker that is away, topics that are not there or lost records, two writers at once."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest
from kafka import KafkaAdminClient, TopicPartition

from bohdi.verify_run import verify_on_kafka
from bohdi_common.log import kafka_writer
from bohdi_common.log.kafka import KafkaLog
from bohdi_common.log.kafka_reader import KafkaReader
from bohdi_common.log.kafka_settings import KafkaSettings
from bohdi_common.log.kafka_writer import KafkaWriter
from bohdi_common.log.port import LogCorrupt, LogUnavailable, Record
from bohdi_common.runtime.shell import record_of
from devbroker.broker import Broker
from tests.conftest import make_topics
from tests.kafka_runs.cluster import cluster
from tests.recorded_run import RecordedRun

AWAY_S = 3
BOUND_S = 20  # above AWAY_S and what a client needs to give up, below its default of 30 s and more
WAIT_S = 60
TOPIC = "facts"


def record(name: str) -> Record:
    return Record(TOPIC, "run", name, name.encode())


@pytest.fixture
def there(own_broker: Broker) -> KafkaSettings:
    """A broker of the test's own with an empty topic."""
    kafka = KafkaSettings.from_environment(own_broker.bootstrap)
    make_topics(kafka, [TOPIC])
    return kafka


def in_log(kafka: KafkaSettings) -> list[str]:
    reader = KafkaReader(kafka)
    try:
        return [stored.event_id for stored in reader.read(TOPIC)]
    finally:
        reader.close_reading()


async def test_an_append_while_the_broker_is_away_is_unavailable_soon_and_nothing_is_lost_when_tried_again(
    own_broker: Broker, there: KafkaSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kafka_writer, "ANSWER_S", AWAY_S)
    log = KafkaLog(there)
    await log.append([record("before")])
    own_broker.kill()
    began_s = time.monotonic()
    with pytest.raises(LogUnavailable) as away:
        await log.append([record("a"), record("b")])
    assert time.monotonic() - began_s < BOUND_S
    assert len(str(away.value).splitlines()) == 1
    monkeypatch.undo()
    own_broker.start()
    async with asyncio.timeout(WAIT_S):
        while True:
            try:
                await log.append([record("a"), record("b")])
                break
            except LogUnavailable:
                await asyncio.sleep(0.5)
    await log.close()
    ids = await asyncio.to_thread(in_log, there)
    assert ids == ["before", "a", "b"]  # what was given up is not written later


async def test_a_topic_that_is_not_there_is_empty(there: KafkaSettings) -> None:
    reader = KafkaReader(there)
    assert await asyncio.to_thread(lambda: list(reader.read("nowhere"))) == []
    assert (reader.end("nowhere"), reader.partitions("nowhere")) == (0, 0)
    reader.close_reading()


def removed(kafka: KafkaSettings, before: int) -> None:
    """As retention does."""
    admin = KafkaAdminClient(**kafka.for_kafka_python())
    admin.delete_records({TopicPartition(TOPIC, 0): before})
    admin.close()


def made_again(kafka: KafkaSettings, before: int) -> None:
    admin = KafkaAdminClient(**kafka.for_kafka_python())
    admin.delete_topics([TOPIC])
    admin.close()
    time.sleep(1.0)
    make_topics(kafka, [TOPIC])


async def appended(kafka: KafkaSettings, names: list[str]) -> None:
    log = KafkaLog(kafka)
    await log.append([record(name) for name in names])
    await log.close()


async def followed(kafka: KafkaSettings, start: int, seen: list[str]) -> None:
    reader = KafkaReader(kafka)
    try:
        async for stored in reader.follow(TOPIC, start):
            seen.append(stored.event_id)
    finally:
        reader.close_reading()


async def test_following_from_records_that_retention_removed_is_corrupt(there: KafkaSettings) -> None:
    await appended(there, list("abcdef"))
    await asyncio.to_thread(removed, there, 4)
    with pytest.raises(LogCorrupt, match="records from offset 1 on are gone; restore the topic from a copy") as gone:
        await asyncio.wait_for(followed(there, 1, []), WAIT_S)
    assert len(str(gone.value).splitlines()) == 1


async def test_reading_from_records_that_retention_removed_is_corrupt(there: KafkaSettings) -> None:
    await appended(there, list("abcdef"))
    await asyncio.to_thread(removed, there, 4)
    reader = KafkaReader(there)
    with pytest.raises(LogCorrupt, match="gone"):
        await asyncio.to_thread(lambda: list(reader.read(TOPIC, 1)))
    reader.close_reading()


async def test_following_a_topic_that_was_deleted_and_made_again_is_corrupt(there: KafkaSettings) -> None:
    await appended(there, list("abcdef"))
    seen: list[str] = []
    following = asyncio.create_task(followed(there, 0, seen))
    async with asyncio.timeout(WAIT_S):
        while len(seen) < 6:
            await asyncio.sleep(0.05)
    await asyncio.to_thread(made_again, there, 0)
    await appended(there, ["x"])
    with pytest.raises(LogCorrupt) as gone:
        await asyncio.wait_for(following, WAIT_S)
    assert len(str(gone.value).splitlines()) == 1
    assert seen == list("abcdef")


async def test_an_event_that_two_writers_append_at_once_counts_once_and_verify_is_clean(
    own_broker: Broker, tmp_path: Path
) -> None:
    run = RecordedRun()
    recorded = await asyncio.to_thread(run.run)
    *events, last = (record_of(event) for event in (*run.requests, *run.feedback))
    async with cluster(own_broker, tmp_path, start=False) as there:
        place = there.place(run.run_id)
        writers = [KafkaWriter(there.kafka), KafkaWriter(there.kafka)]
        await writers[0].append(events)
        offsets = await asyncio.gather(*(writer.append([last]) for writer in writers))
        for writer in writers:
            await writer.close()
        state, report = await asyncio.to_thread(lambda: (there.state(place), verify_on_kafka(place)))
    assert offsets[0] != offsets[1]
    assert state.finished
    assert state.counts["late"] == recorded.counts.get("late", 0) + 1
    assert report["problems"] == []
