"""The event log on Kafka keeps the port's contract, on a real broker."""

from __future__ import annotations

from pathlib import Path

import pytest

from bohdi_common.log.kafka import KafkaLog
from bohdi_common.log.kafka_settings import KafkaSettings
from tests.conftest import make_topics
from tests.contract.event_log_contract import EventLogContract


class TestKafkaLog(EventLogContract):
    @pytest.fixture(autouse=True)
    def _topics(self, kafka: KafkaSettings, fresh_prefix: str) -> None:
        self.kafka, self.prefix = kafka, fresh_prefix
        make_topics(kafka, [fresh_prefix + topic for topic in ("facts", "other")])

    async def open(self, folder: Path) -> KafkaLog:
        return KafkaLog(self.kafka, prefix=self.prefix)
