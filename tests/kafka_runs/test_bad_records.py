"""Records at the limit, answers without end, and ten thousand corrupt records among good ones: none stops a service."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer

from bohdi.dead_letters import Letter
from bohdi.verify_run import verify_on_kafka
from bohdi_common.core.limits import RECORD_BYTES_MAX
from bohdi_common.core.state import ALL_ROUNDS_DONE
from bohdi_common.events import codec
from bohdi_common.events.events_pb2 import Event
from bohdi_common.events.topics import DEAD, FEEDBACK, HARVEST_REQUESTS, TOPICS, Topic
from bohdi_common.log.kafka_reader import KafkaReader
from bohdi_common.log.kafka_settings import KafkaSettings
from bohdi_common.log.kafka_writer import KafkaWriter
from bohdi_common.log.port import LogError, Record, Stored
from bohdi_common.runtime.kafka_process import described
from bohdi_common.runtime.shell import CUT_FROM
from devbroker.broker import Broker
from tests import scripted
from tests.kafka_runs.cluster import Cluster, cluster

RUN_S = 150
SETTLED_S = 90
CORRUPT = 10_000
AT_ONCE = 200
HUGE_BYTES = 4_250_000  # under the topics' own limit, over that of what Bohdi writes
SEED = 20251124
Place = tuple[str, int, int]  # topic, partition, offset


def everything(kafka: KafkaSettings, topic: Topic) -> Iterator[Stored]:
    for number in range(topic.partitions):
        reader = KafkaReader(kafka, number)
        yield from reader.read(topic.name)
        reader.close_reading()


def padded(event: Event, size: int) -> bytes:
    """The event in exactly `size` bytes."""
    event = Event.FromString(event.SerializeToString())
    event.producer = ""
    event.producer = "x" * (size - event.ByteSize() - 5)  # tag and a length of four bytes
    value = codec.encode(event)
    assert len(value) == size
    return value


@asynccontextmanager
async def producing(kafka: KafkaSettings) -> AsyncIterator[AIOKafkaProducer]:
    """A producer that writes what it is given, as other programs may."""
    producer = AIOKafkaProducer(**kafka.for_aiokafka(), max_request_size=HUGE_BYTES + 100_000)
    await producer.start()
    try:
        yield producer
    finally:
        await producer.stop()


async def until(condition: Any, what: str) -> None:
    deadline_s = time.monotonic() + SETTLED_S
    while not await asyncio.to_thread(condition):
        assert time.monotonic() < deadline_s, f"{what}: not within {SETTLED_S} s"
        await asyncio.sleep(1.0)


# ---- sizes -----------------------------------------------------------------------------------------------------


async def test_records_at_the_limit_and_answers_of_5_mb_go_through(own_broker: Broker, tmp_path: Path) -> None:
    async with cluster(own_broker, tmp_path, {scripted.LONG_BYTES: "5000000"}) as services:
        place = await services.submit("run")
        await until(lambda: next(everything(services.kafka, HARVEST_REQUESTS), None), "the first request")
        asked = codec.decode(next(everything(services.kafka, HARVEST_REQUESTS)).value)
        sent = await _at_the_limit(services.kafka, asked)
        state = await services.ended(place, RUN_S)
        assert state.finished == ALL_ROUNDS_DONE, state.paused
        answers = [codec.decode(stored.value) for stored in everything(services.kafka, TOPICS[3])]
        cut = [answer for event in answers for answer in event.answers_written.answers if answer.truncated]
        await until(lambda: sent <= _causes(services.kafka), "the outcome of every request at the limit")
        await until(lambda: len(list(everything(services.kafka, DEAD))) == 1, "the one dead letter")
    (letter,) = map(Letter, everything(services.kafka, DEAD))
    assert letter.told(CUT_FROM) == str(RECORD_BYTES_MAX + 1)
    assert len(letter.stored.value) == RECORD_BYTES_MAX
    assert cut
    assert max(len(answer.text.encode()) for answer in cut) <= 256 * 1024
    assert verify_on_kafka(place)["problems"] == []
    assert set(services.supervisor.starts.values()) == {1}
    print(f"{len(cut)} answers of 5 MB were cut; requests of {RECORD_BYTES_MAX - 1} to {RECORD_BYTES_MAX + 1} handled")


async def _at_the_limit(kafka: KafkaSettings, asked: Event) -> set[str]:
    """Requests of another run around the limit, and facts of it on the feedback log; ids of what will be handled."""
    sent = {}
    for size in (RECORD_BYTES_MAX - 1, RECORD_BYTES_MAX, RECORD_BYTES_MAX + 1):
        event = Event.FromString(asked.SerializeToString())
        event.run_id, event.event_id = "none", f"of {size}"
        event.harvest_requested.request_hash = f"hash of {size}"
        sent[event.event_id] = padded(event, size)
    writer = KafkaWriter(kafka, described)
    for name, value in sent.items():
        record = Record(HARVEST_REQUESTS.name, name, name, value)
        if len(value) <= RECORD_BYTES_MAX:
            await writer.append([record])
            continue
        with pytest.raises(LogError, match=f"over {RECORD_BYTES_MAX}; shorten"):
            await writer.append([record])
        async with producing(kafka) as producer:
            await producer.send_and_wait(record.topic, value)
            await producer.send_and_wait(record.topic, b"\xff" * len(value))
    fact = codec.by_hand("none", "a fact", 1, "run_paused", {"reason": "none"})
    facts = [Record(FEEDBACK.name, "none", f"fact {n}", padded(fact, RECORD_BYTES_MAX - n)) for n in (0, 1)]
    offsets = await writer.append(facts)
    await writer.close()
    there = {stored.event_id: stored.value for stored in everything(kafka, FEEDBACK)}
    assert [there[fact.event_id] for fact in facts] == [fact.value for fact in facts], offsets
    return set(sent)


def _causes(kafka: KafkaSettings) -> set[str]:
    """Ids of the requests that something came of."""
    return {codec.decode(s.value).cause_id for topic in (FEEDBACK, TOPICS[3]) for s in everything(kafka, topic)}


# ---- ten thousand corrupt records --------------------------------------------------------------------------------


async def test_every_corrupt_record_is_dead_with_its_place_and_every_good_one_is_handled(
    own_broker: Broker, tmp_path: Path
) -> None:
    async with cluster(own_broker, tmp_path) as services:
        place = await services.submit("run", seed=1)
        await until(lambda: next(everything(services.kafka, TOPICS[3]), None), "the first answers")
        bad, kinds = await _corrupted(services, random.Random(SEED))
        state = await services.ended(place, RUN_S)
        assert state.finished == ALL_ROUNDS_DONE, state.paused
        on_dead = {spot for spot in bad if spot[0] == DEAD.name}
        await until(lambda: len(_dead(services.kafka, on_dead)) >= len(bad - on_dead), "all dead letters")
        letters = _dead(services.kafka, on_dead)
        assert set(services.supervisor.starts.values()) == {1}, services.supervisor.starts
    assert {spot for spot, _ in letters.items()} == bad - on_dead
    assert set(letters.values()) == {1}
    report = verify_on_kafka(place)
    assert report["problems"] == []
    assert report["checked"]["harvests"] > 60
    print(f"{len(bad)} corrupt: {dict(Counter(spot[0] for spot in bad))}, {dict(kinds)}; counts {dict(state.counts)}")


async def _corrupted(services: Cluster, chance: random.Random) -> tuple[set[Place], Counter[str]]:
    """Puts the corrupt records on all partitions of all topics; where they came to stand, and how many of each kind."""
    real = [stored for topic in TOPICS for stored in everything(services.kafka, topic)]
    places: set[Place] = set()
    kinds: Counter[str] = Counter()
    async with producing(services.kafka) as producer:
        for start in range(0, CORRUPT, AT_ONCE):
            sent = []
            for number in range(start, start + AT_ONCE):
                topic = TOPICS[number % len(TOPICS)]
                kind, value = corrupt(topic, real, chance, huge=number < 2 * len(TOPICS))
                kinds[kind] += 1
                partition = chance.randrange(topic.partitions)
                key, headers = odd_key(real, chance), odd_headers(real, chance)
                key = b"" if key is None and value is None else key  # a client's own rule: not both
                sent.append(await producer.send(topic.name, value, key=key, partition=partition, headers=headers))
            places |= {(told.topic, told.partition, told.offset) for told in await asyncio.gather(*sent)}
    assert len(places) == CORRUPT
    return places, kinds


def corrupt(topic: Topic, real: list[Stored], chance: random.Random, huge: bool) -> tuple[str, bytes | None]:
    """A value that is no event of the topic, and what kind of corruption it is."""
    while True:
        kind = "huge" if huge else chance.choice(("random", "truncated", "wrong type", "empty", "tombstone", "newer"))
        value = _value(kind, topic, real, chance)
        if _is_bad(topic, value):
            return kind, value


def _value(kind: str, topic: Topic, real: list[Stored], chance: random.Random) -> bytes | None:
    copied = chance.choice(real).value
    if kind == "huge":
        return chance.randbytes(1000) * (HUGE_BYTES // 1000)
    if kind == "random":
        return chance.randbytes(chance.randrange(1, 300))
    if kind == "truncated":
        return copied[: chance.randrange(1, len(copied))]
    if kind == "newer" and topic is not FEEDBACK:  # there it stops the bandit, as it must
        event = codec.decode(copied)
        event.schema_version = codec.SCHEMA_VERSION + 1
        return codec.encode(event)
    return copied if kind == "wrong type" else b"" if kind == "empty" else None


def _is_bad(topic: Topic, value: bytes | None) -> bool:
    try:
        return codec.topic_of(codec.decode(value or b"")) is not topic
    except codec.Undecodable:
        return True
    except codec.NewerSchema:
        return topic is not FEEDBACK


def odd_key(real: list[Stored], chance: random.Random) -> bytes | None:
    return chance.choice((None, b"", b"\xff\xfe\x00", b"k" * 3000, chance.choice(real).key.encode()))


def odd_headers(real: list[Stored], chance: random.Random) -> list[tuple[str, bytes | None]]:
    copied = chance.choice(real)
    return chance.choice(
        (
            [],
            [("event-id", copied.event_id.encode()), *((name, text.encode()) for name, text in copied.headers)],
            [("", b""), ("", None), ("event-id", None)],
            [("event-id", b"\xff\xfe"), ("event-id", b"twice"), ("offset", b"not a number")],
            [("event-id", b"i" * 5000), ("\U0001f4a5", bytes(300))],
        )
    )


def _dead(kafka: KafkaSettings, on_dead: set[Place]) -> Counter[Place]:
    """How many letters each place has, but for what the test itself put on the dead topic."""
    letters = (s for s in everything(kafka, DEAD) if (DEAD.name, s.partition, s.offset) not in on_dead)
    return Counter(
        (letter.told("topic"), int(letter.told("partition")), int(letter.told("offset")))
        for letter in map(Letter, letters)
    )
