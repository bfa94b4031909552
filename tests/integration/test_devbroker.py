"""The broker of the tests is a real one: killed and started again it has what it acknowledged."""

from __future__ import annotations

import os

import pytest

from bohdi_common.log.kafka_reader import KafkaReader
from bohdi_common.log.kafka_settings import KafkaSettings
from bohdi_common.log.kafka_writer import KafkaWriter
from bohdi_common.log.port import Record
from devbroker.broker import Broker
from tests.conftest import make_topics


async def test_what_it_acknowledged_is_there_after_kill_9(own_broker: Broker) -> None:
    settings = KafkaSettings.from_environment(own_broker.bootstrap)
    make_topics(settings, ["facts"])
    writer = KafkaWriter(settings)
    await writer.append([Record("facts", "key", str(n), b"value") for n in range(100)])
    await writer.close()
    before = own_broker.pid
    own_broker.kill()
    own_broker.start()
    assert own_broker.pid != before
    assert [stored.event_id for stored in KafkaReader(settings).read("facts")] == [str(n) for n in range(100)]


def test_it_ends_with_its_block(own_broker: Broker) -> None:
    pid = own_broker.pid
    own_broker.stop()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
