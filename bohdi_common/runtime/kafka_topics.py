"""The cluster's topics held to the registry: what differs, and what to do about it. `plan` is pure."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, field

from kafka import KafkaAdminClient, errors
from kafka.admin import ConfigResource, ConfigResourceType, NewTopic

from bohdi_common.core.limits import OVERHEAD_BYTES_MAX
from bohdi_common.events.topics import FEEDBACK, TOPICS, Topic
from bohdi_common.log.kafka_door import refused_now
from bohdi_common.log.kafka_faults import log_errors
from bohdi_common.log.kafka_settings import KafkaSettings
from bohdi_common.log.port import LogError, LogUnavailable

_BOOTSTRAP_MS = 8_000
_COPIES = 3
_SEEN_S = 60.0
_POLL_S = 0.1
_TAKEN = "OK"  # what kafka-python says of a setting that was altered


@dataclass(frozen=True)
class Found:
    """A topic as the cluster has it."""

    partitions: int
    replication: int
    configs: Mapping[str, str]


@dataclass
class Plan:
    """`missing` topics to be made, `grow` those that need more partitions, `alter` settings that differ; `refused`:
    why some must not or could not be changed. A line each in `differences`, those that stay in `stays` too."""

    missing: list[Topic] = field(default_factory=list)
    grow: dict[str, int] = field(default_factory=dict)
    alter: dict[str, dict[str, str]] = field(default_factory=dict)
    refused: list[str] = field(default_factory=list)
    differences: list[str] = field(default_factory=list)
    stays: list[str] = field(default_factory=list)

    @property
    def mended(self) -> list[str]:
        """The differences that are none any more once the plan is carried out."""
        return [line for line in self.differences if line not in self.stays]

    def refuse(self, lines: Sequence[str], why: str) -> None:
        self.stays += lines
        self.refused.append(why)


def configs_of(topic: Topic, replication: int) -> dict[str, str]:
    """The topic's settings on the broker. Never compacted: the log is every event in its order."""
    return {
        "cleanup.policy": "delete",
        "retention.ms": str(topic.retention_ms),
        "retention.bytes": "-1",
        "min.insync.replicas": str(min(2, replication)),
        "max.message.bytes": str(topic.max_record_bytes + OVERHEAD_BYTES_MAX),
        "compression.type": "producer",
        "message.timestamp.type": "CreateTime",
    }


def plan(topics: Sequence[Topic], found: Mapping[str, Found], replication: int) -> Plan:
    """What is to be done so that the cluster has `topics`. Pure."""
    made = Plan()
    for topic in topics:
        if topic.name not in found:
            made.missing.append(topic)
            made.differences.append(f"{topic.name}: missing")
            continue
        _partitions(made, topic, found[topic.name].partitions)
        if found[topic.name].replication != replication:
            made.differences.append(f"{topic.name}: replication {found[topic.name].replication}, to be {replication}")
            how = "by reassigning partitions (kafka-reassign-partitions), not here"
            made.refuse(made.differences[-1:], f"{topic.name}: replication is changed {how}")
        for name, value in configs_of(topic, replication).items():
            there = found[topic.name].configs.get(name)
            if there != value:
                made.differences.append(f"{topic.name}: {name} {there}, to be {value}")
                made.alter.setdefault(topic.name, {})[name] = value
    return made


def _partitions(made: Plan, topic: Topic, there: int) -> None:
    if there == topic.partitions:
        return
    made.differences.append(f"{topic.name}: partitions {there}, to be {topic.partitions}")
    has = f"{topic.name}: has {there} partitions"
    if topic is FEEDBACK:
        made.refuse(made.differences[-1:], f"{has} and keeps them: a run lives in one, other numbers would re-key it")
    elif there > topic.partitions:
        made.refuse(made.differences[-1:], f"{has}: Kafka cannot take any away; make the topic anew")
    else:
        made.grow[topic.name] = topic.partitions


class Cluster:
    """The topics of a cluster, by kafka-python. `replication` None: as many copies as there are brokers, at most 3."""

    def __init__(self, kafka: KafkaSettings, replication: int | None = None, topics: Sequence[Topic] = TOPICS) -> None:
        self._kafka = kafka
        self._replication = replication
        self._topics = topics

    def differences(self) -> Plan:
        """What differs from the registry. Raises LogError."""
        with log_errors(self._kafka.bootstrap), closing(self._admin()) as admin:
            return plan(self._topics, _found(admin, self._topics), self._copies(admin))

    def create(self) -> Plan:
        """Makes, grows and alters what may be; gives the plan that was carried out, and what the broker refused of it
        among its `refused`. Done again it does nothing. Raises LogError."""
        with log_errors(self._kafka.bootstrap), closing(self._admin()) as admin:
            copies = self._copies(admin)
            made = plan(self._topics, _found(admin, self._topics), copies)
            for topic in made.missing:
                new = NewTopic(topic.name, topic.partitions, copies, topic_configs=configs_of(topic, copies))
                with (
                    log_errors(self._kafka.bootstrap, f"{topic.name}: create"),
                    suppress(errors.TopicAlreadyExistsError),  # another process was quicker
                ):
                    admin.create_topics([new])
            for name, count in made.grow.items():
                self._grow(admin, name, count)
            _alter(admin, made)
            self._until_seen(admin, made, copies)
            return made

    def _grow(self, admin: KafkaAdminClient, name: str, count: int) -> None:
        try:
            admin.create_partitions({name: count})
        except errors.InvalidPartitionsError:
            time.sleep(_POLL_S)
            if _found(admin, self._topics)[name].partitions != count:  # if so, another process was quicker
                raise

    def _until_seen(self, admin: KafkaAdminClient, made: Plan, copies: int) -> None:
        """A broker answers before its own metadata has what it did: waits a while until what was done is seen."""
        deadline_s = time.monotonic() + _SEEN_S
        while time.monotonic() < deadline_s:
            left = plan(self._topics, _found(admin, self._topics), copies)
            if set(left.differences) <= set(made.stays):
                return
            time.sleep(_POLL_S)
        raise LogUnavailable(f"{self._kafka.bootstrap}: done, but not seen within {_SEEN_S:.0f} s: run it again")

    def _copies(self, admin: KafkaAdminClient) -> int:
        return self._replication or min(_COPIES, len(admin.describe_cluster()["brokers"]))

    def _admin(self) -> KafkaAdminClient:
        refused_now(self._kafka)
        return KafkaAdminClient(**self._kafka.for_kafka_python(), bootstrap_timeout_ms=_BOOTSTRAP_MS)


def _alter(admin: KafkaAdminClient, made: Plan) -> None:
    """The broker takes all settings of a topic or none, and the client tells of a refusal only in what it returns."""
    if made.alter:
        told = [ConfigResource(ConfigResourceType.TOPIC, name, configs=c) for name, c in made.alter.items()]
        for name, said in admin.alter_configs(told)["topic"].items():
            if said != _TAKEN:
                lines = [line for line in made.differences for setting in made.alter[name]
                         if line.startswith(f"{name}: {setting} ")]  # fmt: skip
                made.refuse(lines, f"{name}: not altered: {' '.join(said.split())}")


def _found(admin: KafkaAdminClient, topics: Sequence[Topic]) -> dict[str, Found]:
    there = set(admin.list_topics())
    names = [topic.name for topic in topics if topic.name in there]
    if not names:
        return {}
    described = admin.describe_topics(names)
    resources = [ConfigResource(ConfigResourceType.TOPIC, name) for name in names]
    configs = admin.describe_configs(resources, config_filter="all").get("topic", {})
    if hidden := [name for name in names if not configs.get(name)]:  # the client drops the broker's refusal
        raise LogError(f"{hidden[0]}: its settings cannot be read: give this user the right DescribeConfigs on it")
    return {
        topic["name"]: Found(
            len(topic["partitions"]),
            min(len(partition["replica_nodes"]) for partition in topic["partitions"]),
            {name: told["value"] for name, told in configs[topic["name"]].items()},
        )
        for topic in described
    }
