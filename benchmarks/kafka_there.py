"""One Kafka broker for all rows that need one: started by the first, stopped with the process."""

from __future__ import annotations

import atexit
import shutil
from functools import cache
from pathlib import Path

from kafka import KafkaAdminClient
from kafka.admin import NewTopic

from bohdi_common.events.topics import TOPICS
from bohdi_common.log.kafka_settings import KafkaSettings
from devbroker.broker import Broker

WORK = Path("benchmarks/work/kafka")


@cache
def broker() -> Broker:
    """A fresh broker that has the topics of the registry."""
    shutil.rmtree(WORK, ignore_errors=True)
    there = Broker((WORK / "broker").absolute())
    there.start()
    atexit.register(there.stop)
    make_topics(settings_of(there), {topic.name: topic.partitions for topic in TOPICS})
    return there


def settings() -> KafkaSettings:
    """How to reach the broker of this process, started if it is not there yet."""
    return settings_of(broker())


def settings_of(there: Broker) -> KafkaSettings:
    return KafkaSettings.from_environment(there.bootstrap)


def make_topics(kafka: KafkaSettings, partitions: dict[str, int]) -> None:
    """Topics by name, with so many partitions each."""
    admin = KafkaAdminClient(**kafka.for_kafka_python())
    limits = {"max.message.bytes": "4500000"}
    admin.create_topics([NewTopic(name, count, 1, topic_configs=limits) for name, count in partitions.items()])
    admin.close()
