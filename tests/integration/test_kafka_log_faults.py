"""The Kafka log's own faults: a broker that is away, topics that are not there or lost records, two writers at once."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest
from kafka import KafkaAdminClient, TopicPartition

from bohdi.verify_run import verify_on_kafka
from bohdi_common.events.topics import FEEDBACK
from bohdi_common.log import kafka_reader, kafka_writer
from bohdi_common.log.kafka import KafkaLog
from bohdi_common.log.kafka_reader import KafkaReader
from bohdi_common.log.kafka_settings import KafkaSettings
from bohdi_common.log.kafka_writer import KafkaWriter
from bohdi_common.log.port import LogCorrupt, LogUnavailable, Record
from bohdi_common.runtime.feedback import feedback_records
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


def removed(kafka: KafkaSettings, before: int, topic: str = TOPIC) -> None:
    """As retention does."""
    admin = KafkaAdminClient(**kafka.for_kafka_python())
    admin.delete_records({TopicPartition(topic, 0): before})
    admin.close()


def deleted(kafka: KafkaSettings) -> None:
    admin = KafkaAdminClient(**kafka.for_kafka_python())
    admin.delete_topics([TOPIC])
    admin.close()


def made_again(kafka: KafkaSettings) -> None:
    deleted(kafka)
    time.sleep(1.0)
    make_topics(kafka, [TOPIC])


def damaged(broker: Broker) -> None:
    """A bit of the last record's value is another, on the disk."""
    broker.stop()
    (segment,) = (broker.folder / "data" / f"{TOPIC}-0").glob("*.log")
    content = bytearray(segment.read_bytes())
    content[content.rindex(b"value of f")] ^= 1
    segment.write_bytes(content)
    broker.start()


async def appended(kafka: KafkaSettings, names: str, topic: str = TOPIC) -> None:
    """Each in a batch of its own."""
    log = KafkaLog(kafka)
    for name in names:
        await log.append([Record(topic, "run", name, f"value of {name}".encode())])
    await log.close()


async def followed(kafka: KafkaSettings, start: int, seen: list[str]) -> None:
    reader = KafkaReader(kafka)
    try:
        async for stored in reader.follow(TOPIC, start):
            seen.append(stored.event_id)
    finally:
        reader.close_reading()


async def until_seen(seen: list[str], names: str) -> None:
    async with asyncio.timeout(WAIT_S):
        while seen != list(names):
            await asyncio.sleep(0.05)


async def read_into(kafka: KafkaSettings, start: int, seen: list[str]) -> None:
    reader = KafkaReader(kafka)
    try:
        await asyncio.to_thread(lambda: seen.extend(stored.event_id for stored in reader.read(TOPIC, start)))
    finally:
        reader.close_reading()


async def test_records_that_retention_removed_are_missed_by_who_asks_for_them(there: KafkaSettings) -> None:
    await appended(there, "abcdef")
    await asyncio.to_thread(removed, there, 4)
    line = r"^127.0.0.1:\d+: topic facts/0 from offset 1 on: records are gone; restore the topic from a copy$"
    seen: list[str] = []
    for reading in (followed, read_into):
        with pytest.raises(LogCorrupt, match=line):
            await asyncio.wait_for(reading(there, 1, seen), WAIT_S)
    await read_into(there, 0, seen)
    assert seen == list("ef")  # from the oldest on: requests do expire


async def test_a_feedback_log_without_its_beginning_is_corrupt(there: KafkaSettings) -> None:
    make_topics(there, [FEEDBACK.name])
    await appended(there, "abc", FEEDBACK.name)
    await asyncio.to_thread(removed, there, 2, FEEDBACK.name)
    reader = KafkaReader(there)
    with pytest.raises(
        LogCorrupt, match=r"^topic bohdi\.feedback/0: records before offset 2 are gone; restore the topic"
    ):
        await asyncio.to_thread(feedback_records, reader)
    reader.close_reading()


async def test_a_topic_that_is_deleted_or_made_again_under_a_follower_is_corrupt(
    there: KafkaSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kafka_reader, "_LOOK_S", 1.0)
    for lose, line in ((made_again, "records are gone"), (deleted, "the topic is gone")):
        await appended(there, "abcdef")
        seen: list[str] = []
        following = asyncio.create_task(followed(there, 0, seen))
        await until_seen(seen, "abcdef")
        await asyncio.to_thread(lose, there)
        with pytest.raises(LogCorrupt, match=line) as gone:
            await asyncio.wait_for(following, WAIT_S)
        assert "\n" not in str(gone.value) and str(gone.value).endswith("from a copy")


@pytest.mark.parametrize("apart_from", [1, 100], ids=["apart", "here"])
async def test_a_record_that_is_damaged_on_the_disk_is_not_given_and_all_before_it_are(
    own_broker: Broker, there: KafkaSettings, monkeypatch: pytest.MonkeyPatch, apart_from: int
) -> None:
    monkeypatch.setattr(kafka_reader, "APART_FROM", apart_from)
    await appended(there, "abcdef")
    await asyncio.to_thread(damaged, own_broker)
    for reading in (followed, read_into):
        seen: list[str] = []
        with pytest.raises(LogCorrupt, match=r"topic facts/0.*: a record fails its checksum; restore the topic"):
            await asyncio.wait_for(reading(there, 1, seen), WAIT_S)
        assert seen == list("bcde")


async def test_a_follower_outlives_the_broker_and_misses_nothing(
    own_broker: Broker, there: KafkaSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kafka_reader, "_LOOK_S", 0.5)
    seen: list[str] = []
    following = asyncio.create_task(followed(there, 0, seen))
    await appended(there, "ab")
    await until_seen(seen, "ab")
    own_broker.kill()
    await asyncio.sleep(3.0)
    await asyncio.to_thread(own_broker.start)
    await appended(there, "cd")
    await until_seen(seen, "abcd")
    following.cancel()


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
