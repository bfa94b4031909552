"""Real parts that many tests share, each started once and only when a test asks for it."""

from __future__ import annotations

import os
import secrets
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from bohdi_common.events.topics import DEAD
from bohdi_common.log.kafka_settings import KafkaSettings
from bohdi_common.runtime.kafka_topics import Cluster
from devbroker.broker import LIBS, Broker

# Their files take minutes, those of the others seconds: begun first, they keep no worker busy when the others are done.
LONG = ("simulation", "kafka_runs", "integration")


_SHARED = "TESTS_KAFKA"  # where the workers of one `pytest -n` find their broker


def pytest_configure(config: pytest.Config) -> None:
    """Where there are workers, the process that started them has the broker, one for all."""
    workers = config.getoption("numprocesses", None) and not hasattr(config, "workerinput")
    if workers and LIBS.is_dir() and "BOHDI_KAFKA" not in os.environ:
        folder = tempfile.TemporaryDirectory(prefix="bohdi-tests-")
        broker = Broker(Path(folder.name) / "kafka")
        broker.start()
        os.environ[_SHARED] = broker.bootstrap
        config.add_cleanup(folder.cleanup)
        config.add_cleanup(broker.stop)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The order of the files; within a file, that of its tests."""
    items.sort(key=lambda item: LONG.index(room) if (room := item.path.parent.name) in LONG else len(LONG))


@pytest.fixture(scope="session")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KafkaSettings]:
    """A broker that tests share: one's own in BOHDI_KAFKA, else one of this session. Not to be stopped by a test."""
    if "BOHDI_KAFKA" in os.environ:
        yield KafkaSettings.from_environment()
        return
    if _SHARED in os.environ:
        yield KafkaSettings.from_environment(os.environ[_SHARED])
        return
    with Broker(tmp_path_factory.mktemp("kafka")) as broker:
        yield KafkaSettings.from_environment(broker.bootstrap)


@pytest.fixture(autouse=True)
def exact_floats() -> Iterator[None]:
    """A host with models in its own process has its thread take denormals for zero; the next test's thread does not."""
    yield
    if "torch" in sys.modules:
        sys.modules["torch"].set_flush_denormal(False)


@pytest.fixture
def own_broker(tmp_path: Path) -> Iterator[Broker]:
    """A broker of the test's own, to be killed and started again."""
    with Broker(tmp_path / "broker") as broker:
        yield broker


@pytest.fixture
def fresh_prefix() -> str:
    """Before the names of a test's topics, so that it meets no other test on the shared broker."""
    return f"t{secrets.token_hex(4)}."


def make_topics(kafka: KafkaSettings, names: Sequence[str], partitions: int = 1) -> None:
    """Topics that take all that Bohdi writes."""
    Cluster(kafka, 1, [replace(DEAD, name=name, partitions=partitions) for name in names]).create()
