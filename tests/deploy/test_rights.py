"""The rights in the manifests are enough, and no more, on a real broker that enforces them: each service with a user of
its own takes a run to its end. (Users are told apart by passwords here, and by certificates on Strimzi.)"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import Coroutine, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from kafka import KafkaAdminClient
from kafka.admin import (
    ACL,
    ACLOperation,
    ACLPermissionType,
    ACLResourcePatternType,
    ResourcePattern,
    ResourceType,
    ScramMechanism,
    UserScramCredentialUpsertion,
)

from bohdi.kafka_places import KafkaPlace
from bohdi.kafka_runs import submit
from bohdi.run_folder import resolved
from bohdi_common.core.state import ALL_ROUNDS_DONE, RunState
from bohdi_common.events.topics import TOPICS
from bohdi_common.log.kafka_settings import KafkaSettings
from bohdi_common.log.kafka_writer import KafkaWriter
from bohdi_common.log.port import LogError, Record
from bohdi_common.models.places import RunStores
from bohdi_common.runtime import config as configs
from bohdi_common.runtime import kafka_process
from bohdi_common.runtime.feedback import feedback_events
from bohdi_common.runtime.health import Health
from bohdi_common.runtime.kafka_topics import Cluster
from devbroker.broker import Broker
from devbroker.security import PASSWORD
from services.bandit.handler import Bandit
from tests import scripted
from tests.deploy import code_facts
from tests.deploy.pods import name_of, of_kind
from tests.deploy.rendered import ROOT, Object, overlay

RUN_S = 400.0
SAID_S = 120.0
GROUP = "bohdi.judging"
NAMES = [topic.name for topic in TOPICS]
OUTSIDE = "outside"  # a user who may see topics and group, and no more
STOP_S = 30.0
_WORDS = {"topic": ResourceType.TOPIC, "group": ResourceType.GROUP, "cluster": ResourceType.CLUSTER}


class Enforcing(Broker):
    """A broker that lets nobody do what no right allows; its own user may all."""

    def _properties(self) -> dict[str, object]:
        return super()._properties() | {
            "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
            "super.users": "User:bohdi;User:ANONYMOUS",  # the latter: the controller's listener, on loopback
        }

    def of(self, user: str) -> dict[str, str]:
        """The variables by which a user's process reaches it."""
        return self.environment | {"BOHDI_KAFKA_USER": user}


def rights(user: Object) -> Iterator[ACL]:
    """What a KafkaUser may, as the broker is told of it."""
    for acl in user["spec"]["authorization"]["acls"]:
        resource = acl["resource"]
        prefixed = resource.get("patternType") == "prefix"
        pattern = ResourcePattern(
            _WORDS[resource["type"]],
            resource.get("name", "kafka-cluster"),
            ACLResourcePatternType.PREFIXED if prefixed else ACLResourcePatternType.LITERAL,
        )
        for word in acl["operations"]:
            operation = ACLOperation[{"AlterConfigs": "ALTER_CONFIGS", "DescribeConfigs": "DESCRIBE_CONFIGS"}.get(
                word, word.upper())]  # fmt: skip
            yield ACL(f"User:{name_of(user)}", "*", operation, ACLPermissionType.ALLOW, pattern)


def rights_outside() -> Iterator[ACL]:
    prefixed = ACLResourcePatternType.PREFIXED
    for kind in (ResourceType.TOPIC, ResourceType.GROUP):
        pattern = ResourcePattern(kind, "bohdi.", prefixed)
        yield ACL(f"User:{OUTSIDE}", "*", ACLOperation.DESCRIBE, ACLPermissionType.ALLOW, pattern)


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Enforcing]:
    """Knows the users of the production overlay."""
    users = of_kind(overlay("production"), "KafkaUser")
    broker = Enforcing(tmp_path_factory.mktemp("rights"), secure=True)
    with broker:
        settings = KafkaSettings.from_environment(environment=broker.environment)
        with closing(KafkaAdminClient(**settings.for_kafka_python())) as admin:
            told = [
                UserScramCredentialUpsertion(name, ScramMechanism.SCRAM_SHA_512, PASSWORD)
                for name in (*map(name_of, users), OUTSIDE)
            ]
            assert set(admin.alter_user_scram_credentials(told).values()) == {None}
            made = admin.create_acls([*(right for user in users for right in rights(user)), *rights_outside()])
            assert not made["failed"]
        yield broker


def settings_of(broker: Enforcing, user: str) -> KafkaSettings:
    return KafkaSettings.from_environment(environment=broker.of(user))


def test_the_job_makes_the_topics_and_a_service_may_not(broker: Enforcing) -> None:
    may_not = r"^[\d.:]+: bohdi\.feedback: create: this user has no right to that: TopicAuthorization.*: give it one"
    with pytest.raises(LogError, match=may_not):
        Cluster(settings_of(broker, "judging")).create()
    Cluster(settings_of(broker, "topics")).create()
    assert Cluster(settings_of(broker, "run")).differences().differences == []
    with pytest.raises(LogError, match=r"bohdi\.feedback: its settings cannot be read: .* right DescribeConfigs"):
        Cluster(settings_of(broker, "judging")).differences()


async def test_a_service_without_a_right_to_its_group_waits_for_it_and_says_so(broker: Enforcing) -> None:
    Cluster(settings_of(broker, "topics")).create()
    health = Health("judging", SAID_S)
    waiting = kafka_process.wait_for_broker(settings_of(broker, "bandit"), NAMES, health, GROUP)
    await said_by(waiting, health, f"this user has no right to the consumer group {GROUP}: give it Describe and Read")


async def test_a_service_that_may_ask_after_its_group_and_not_join_it_is_not_ready_and_says_why(
    broker: Enforcing, monkeypatch: pytest.MonkeyPatch
) -> None:
    Cluster(settings_of(broker, "topics")).create()
    monkeypatch.setattr(kafka_process, "_ASSIGNED_S", 0.0)
    health, settings = Health("judging", SAID_S, phase="running"), settings_of(broker, OUTSIDE)
    await asyncio.wait_for(kafka_process.wait_for_broker(settings, NAMES, health, GROUP), SAID_S)
    watching = kafka_process.watch(settings, NAMES, health, GROUP)
    await said_by(watching, health, f"outside of the consumer group {GROUP}: see that this user has the right Read")
    assert GROUP in health.not_ready()


async def said_by(doing: Coroutine[Any, Any, None], health: Health, line: str) -> None:
    """Returns once that is the problem of who does it."""
    task, until_s = asyncio.create_task(doing), time.monotonic() + SAID_S
    while line not in health.problem:
        assert time.monotonic() < until_s and not task.done(), health.problem
        await asyncio.sleep(0.05)
    task.cancel()


async def test_a_service_may_not_write_to_a_topic_of_another(broker: Enforcing) -> None:
    Cluster(settings_of(broker, "topics")).create()
    writer = KafkaWriter(settings_of(broker, "judging"))
    try:
        with pytest.raises(LogError, match="TopicAuthorizationFailed"):
            await asyncio.wait_for(writer.append([Record("bohdi.training.requests", "key", "id", b"value")]), 30)
    finally:
        await writer.close()


def test_every_service_does_its_work_with_its_own_rights_alone(broker: Enforcing, tmp_path: Path) -> None:
    Cluster(settings_of(broker, "topics")).create()
    place = KafkaPlace(settings_of(broker, "run"), "rights")
    place.stores = RunStores(tmp_path / "store")
    processes = [started(broker, name, tmp_path) for name in code_facts.SERVICES]
    try:
        tiny = scripted.small({"rounds": 1, "steps": 1, "slots": 8, "rehearsal_questions": 8})
        submit(place, resolved(configs.load(ROOT / "configs/demo.yaml", tiny), ROOT / "configs"), seed=1)
        state = ended(place, processes)
    finally:
        for process in processes:
            process.terminate()
        for process in processes:
            process.wait(STOP_S)
    assert (state.finished, state.paused) == (ALL_ROUNDS_DONE, "")
    assert (place.versions / "r1").is_dir()  # trained, published, promoted


def started(broker: Enforcing, name: str, folder: Path) -> subprocess.Popen[bytes]:
    own = broker.of(name.replace("_", "-")) | {"BOHDI_STORE": str(folder / "store")}
    with (folder / f"{name}.log").open("wb") as log:
        command = [sys.executable, "-W", "ignore", "-m", f"tests.scripted.{name}"]
        return subprocess.Popen(command, env={**os.environ, **own}, stdout=log, stderr=log, cwd=ROOT)


def ended(place: KafkaPlace, processes: list[subprocess.Popen[bytes]]) -> RunState:
    """The state of the run when it is over. A process that ended before has a reason in its log."""
    deadline_s = time.monotonic() + RUN_S
    while time.monotonic() < deadline_s:
        assert [process.poll() for process in processes] == [None] * len(processes)
        bandit, reader = Bandit(place.run_id), place.reader()
        for _, event in feedback_events(reader):
            bandit.fold(event)
        reader.close_reading()
        if bandit.state.finished or bandit.state.paused:
            return bandit.state
        time.sleep(2.0)
    raise TimeoutError(f"the run was not over after {RUN_S:.0f} s")
