"""`bohdi topics` against a real broker: made once, corrected, never shrunk; what cannot be is one line in time."""

from __future__ import annotations

import asyncio
import json
import time
from dataclasses import replace
from functools import partial

import pytest

from bohdi.cli import Exit
from bohdi_common.events.topics import ANSWERS, FEEDBACK, TOPICS
from bohdi_common.log.kafka_settings import KafkaSettings
from bohdi_common.log.port import LogError
from bohdi_common.runtime.kafka_topics import Cluster
from devbroker.broker import Broker, free_port
from tests import forked

BOUND_S = 60
bohdi = partial(forked.bohdi, timeout=BOUND_S)
ANSWER_WITHIN_S = 10.0  # beside what the command line itself needs to start


def test_topics_are_made_once_and_differences_are_told_and_mended(own_broker: Broker) -> None:
    kafka = ("--kafka", own_broker.bootstrap)
    settings = KafkaSettings.from_environment(own_broker.bootstrap)
    missing = bohdi("topics", "check", *kafka)
    assert (missing.returncode, missing.stdout.splitlines()) == (Exit.PROBLEMS, [f"{t.name}: missing" for t in TOPICS])
    Cluster(settings, 1, [replace(FEEDBACK, partitions=4), replace(ANSWERS, partitions=20)]).create()
    Cluster(settings, 1, [replace(TOPICS[1], partitions=2, retention_ms=1000)]).create()
    made = bohdi("topics", "create", *kafka)
    refused = made.stderr.splitlines()
    assert (made.returncode, len(refused)) == (Exit.PROBLEMS, 2), made.stderr
    assert "bohdi.feedback: has 4 partitions and keeps them" in refused[0] and "cannot take any away" in refused[1]
    assert not [line for line in made.stdout.splitlines() if "feedback" in line or "answers" in line]
    as_json = bohdi("topics", "create", *kafka, "--json")
    assert (as_json.returncode, json.loads(as_json.stdout)["done"]) == (Exit.PROBLEMS, [])
    left = json.loads(bohdi("topics", "diff", *kafka, "--json").stdout)["differences"]
    assert left == ["bohdi.feedback: partitions 4, to be 8", "bohdi.answers: partitions 20, to be 16"]


def test_created_again_it_does_nothing_and_check_ends_with_0(kafka: KafkaSettings, fresh_prefix: str) -> None:
    topics = [replace(topic, name=fresh_prefix + topic.name) for topic in TOPICS]
    assert len(Cluster(kafka, 1, topics).create().missing) == len(TOPICS)
    assert Cluster(kafka, 1, topics).create().differences == []


async def test_several_at_once_make_and_mend_them_once(kafka: KafkaSettings, fresh_prefix: str) -> None:
    topics = [replace(topic, name=fresh_prefix + topic.name) for topic in TOPICS]
    for wanted in (topics, [replace(t, partitions=t.partitions + 3, retention_ms=10**9) for t in topics]):
        await asyncio.gather(*(asyncio.to_thread(Cluster(kafka, 1, wanted).create) for _ in range(4)))
        assert Cluster(kafka, 1, wanted).differences().differences == []


def test_a_setting_is_altered_and_the_others_stay(kafka: KafkaSettings, fresh_prefix: str) -> None:
    topic = replace(ANSWERS, name=fresh_prefix + "answers")
    Cluster(kafka, 1, [topic]).create()
    longer = Cluster(kafka, 1, [replace(topic, retention_ms=topic.retention_ms * 2)])
    assert list(longer.create().alter) == [topic.name]
    assert longer.differences().differences == []


def test_a_setting_that_the_broker_refuses_is_told_and_not_among_what_was_mended(
    kafka: KafkaSettings, fresh_prefix: str
) -> None:
    topic = replace(ANSWERS, name=fresh_prefix + "answers")
    Cluster(kafka, 1, [topic]).create()
    done = Cluster(kafka, 1, [replace(topic, retention_ms=-7, partitions=topic.partitions + 1)]).create()
    (why,) = done.refused
    assert why.startswith(f"{topic.name}: not altered: ") and "Invalid value -7 for configuration retention.ms" in why
    assert done.mended == [f"{topic.name}: partitions {topic.partitions}, to be {topic.partitions + 1}"]


def test_more_copies_than_brokers_is_one_line(kafka: KafkaSettings, fresh_prefix: str) -> None:
    with pytest.raises(
        LogError, match=r"refused by the broker: InvalidReplicationFactorError: .*replication"
    ) as raised:
        Cluster(kafka, 16, [replace(ANSWERS, name=fresh_prefix + "answers")]).create()
    assert "\n" not in str(raised.value) and len(str(raised.value)) < 300


@pytest.mark.parametrize("host", ["127.0.0.1", "no-such-host.invalid"])
def test_no_broker_is_one_line_within_the_bound(host: str) -> None:
    started_s = time.monotonic()
    with pytest.raises(LogError, match=f"{host}:.*: no broker answers: check address") as raised:
        Cluster(KafkaSettings.from_environment(f"{host}:{free_port()}")).differences()
    assert "\n" not in str(raised.value)
    assert time.monotonic() - started_s < ANSWER_WITHIN_S


def test_no_broker_has_an_exit_code_of_its_own_kind() -> None:
    ended = bohdi("topics", "check", "--kafka", f"127.0.0.1:{free_port()}")
    assert (ended.returncode, len(ended.stderr.splitlines())) == (Exit.LOG, 1), ended.stderr
