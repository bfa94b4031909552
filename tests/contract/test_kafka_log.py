"""The event log on Kafka keeps the port's contract, on a real broker."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

import pytest
from kafka import KafkaAdminClient
from kafka.admin import NewTopic

from bohdi_common.log.kafka import KafkaLog
from bohdi_common.log.kafka_settings import KafkaSettings
from tests.contract.event_log_contract import EventLogContract


class TestKafkaLog(EventLogContract):
    @pytest.fixture(autouse=True)
    def _topics(self) -> None:
        self.settings = KafkaSettings(os.environ["BOHDI_KAFKA"])
        self.prefix = f"t{secrets.token_hex(4)}."
        admin = KafkaAdminClient(**self.settings.for_kafka_python())
        limits = {"max.message.bytes": "5000000"}
        admin.create_topics([NewTopic(self.prefix + t, 1, 1, topic_configs=limits) for t in ("facts", "other")])
        admin.close()

    async def open(self, folder: Path) -> KafkaLog:
        return KafkaLog(self.settings, prefix=self.prefix)
