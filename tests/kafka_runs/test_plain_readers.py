"""The topics can be read with no code of Bohdi: a plain consumer, and protoc with the file of the events."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

from kafka import KafkaConsumer, TopicPartition

from bohdi_common.events.topics import FEEDBACK
from bohdi_common.log.kafka_settings import KafkaSettings
from devbroker.broker import Broker
from tests.kafka_runs.cluster import cluster

PROTO = Path("proto/bohdi/v1/events.proto")


def plain_records(bootstrap: str, topic: str, partitions: int) -> list[Any]:
    consumer = KafkaConsumer(bootstrap_servers=bootstrap, enable_auto_commit=False)
    places = [TopicPartition(topic, number) for number in range(partitions)]
    consumer.assign(places)
    consumer.seek_to_beginning(*places)
    records: list[Any] = []
    while len(records) < sum(consumer.end_offsets(places).values()):
        records += [record for batch in consumer.poll(timeout_ms=500).values() for record in batch]
    consumer.close()
    return records


def protoc_decoded(value: bytes) -> str:
    command = [sys.executable, "-m", "grpc_tools.protoc", f"-I{PROTO.parents[2]}", "--decode", "bohdi.v1.Event"]
    return subprocess.run([*command, str(PROTO)], input=value, capture_output=True, check=True).stdout.decode()


async def test_a_plain_consumer_and_protoc_print_an_event(own_broker: Broker, tmp_path: Path) -> None:
    async with cluster(own_broker, tmp_path, start=False) as there:
        await there.submit("my-run", seed=5)
    kafka: KafkaSettings = there.kafka
    (record,) = plain_records(kafka.bootstrap, FEEDBACK.name, FEEDBACK.partitions)
    headers = {name: value.decode() for name, value in record.headers}
    text = protoc_decoded(record.value)
    assert record.key == b"my-run"
    assert headers.pop("event-id") in text
    assert headers == {
        "event-type": "run_started",
        "content-type": "application/protobuf; message=bohdi.v1.Event",
        "schema-version": "1",
    }
    assert 'run_id: "my-run"' in text
    assert "run_started {" in text
    assert "seed: 5" in text
