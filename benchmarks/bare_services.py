"""A service whose handler does nothing, thrice: `python -m benchmarks.bare_services WHICH TOPIC GROUP GATE`.

WHICH is `ours` (the faust host as in production), `faust` (a bare agent: concurrency 1, acknowledged by faust after an
awaited send with acks=all) or `aiokafka` (a consumer and a producer in a loop, one awaited send an event, committed
every second). All put the same event into the feedback topic. Nothing is handled before the file GATE is there: all
processes have started and shared out the partitions by then.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bohdi_common.events import codec
from bohdi_common.events.events_pb2 import Event
from bohdi_common.events.topics import FEEDBACK, SPROUT_REQUESTS, Topic
from bohdi_common.log.kafka_records import encoded
from bohdi_common.log.kafka_settings import KafkaSettings
from bohdi_common.runtime.service_settings import ServiceSettings
from bohdi_common.runtime.shell import record_of

CAPACITY = 64
_GATE_POLL_S = 0.02
_COMMIT_S = 1.0


@dataclass
class Gate:
    """Closed until the file is there."""

    file: Path
    open: bool = False

    async def passed(self) -> None:
        while not self.open:
            self.open = self.file.exists()
            if not self.open:
                await asyncio.sleep(_GATE_POLL_S)


@dataclass
class Nothing:
    """The handler that does nothing: a request fails at once."""

    gate: Gate
    name: str = "bench"
    topic: Topic = SPROUT_REQUESTS

    async def handle(self, event: Event) -> Sequence[Event]:
        if not self.gate.open:
            await self.gate.passed()
        return [codec.result(event, self.name, 1, "sprout_failed", {"parent": event.sprout_requested.parent})]


def output_of(value: bytes) -> dict[str, Any]:
    """What the bare ones send for an input: as much work on the event itself as any service has to do."""
    event = codec.decode(value)
    body = {"parent": event.sprout_requested.parent}
    return encoded(record_of(codec.result(event, "bench", 1, "sprout_failed", body)), ())


def ours(kafka: KafkaSettings, topic: str, group: str, gate: Gate) -> None:
    from bohdi_common.runtime.faust_host import FaustHost

    async def close() -> None:
        pass

    told = ServiceSettings(Path("runs"), "127.0.0.1", 0, CAPACITY)
    there = Topic(topic, "any", 1, -1, SPROUT_REQUESTS.kinds, (), ())
    FaustHost(group, there, kafka, told, lambda: Nothing(gate), close).run()


def bare_faust(kafka: KafkaSettings, topic: str, group: str, gate: Gate) -> None:
    import faust

    app = faust.App(
        group,
        store="memory://",
        datadir=tempfile.mkdtemp(prefix="bench-faust-"),
        web_enabled=False,
        topic_allow_declare=False,
        topic_disable_leader=True,
        stream_wait_empty=False,
        consumer_auto_offset_reset="earliest",
        producer_acks=-1,
        broker_commit_interval=_COMMIT_S,
        worker_redirect_stdouts=False,
        **kafka.for_faust(),
    )
    raw = {"key_type": bytes, "value_type": bytes, "key_serializer": "raw", "value_serializer": "raw"}
    feedback = app.topic(FEEDBACK.name, **raw)

    @app.agent(app.topic(topic, **raw), concurrency=1)
    async def intake(stream: Any) -> None:
        async for value in stream:
            await gate.passed()
            await (await feedback.send(**output_of(value)))

    faust.Worker(app, loglevel="ERROR", quiet=True).execute_from_commandline()


def bare_aiokafka(kafka: KafkaSettings, topic: str, group: str, gate: Gate) -> None:
    asyncio.run(_loop(kafka, topic, group, gate))


async def _loop(kafka: KafkaSettings, topic: str, group: str, gate: Gate) -> None:
    from aiokafka import AIOKafkaConsumer, AIOKafkaProducer

    consumer = AIOKafkaConsumer(
        topic, **kafka.for_aiokafka(), group_id=group, auto_offset_reset="earliest", enable_auto_commit=False
    )
    producer = AIOKafkaProducer(**kafka.for_aiokafka(), acks="all", enable_idempotence=True)
    await consumer.start()
    await producer.start()
    committed_s = time.monotonic()
    async for message in consumer:
        await gate.passed()
        await producer.send_and_wait(FEEDBACK.name, **output_of(message.value))
        if time.monotonic() > committed_s + _COMMIT_S:
            await consumer.commit()
            committed_s = time.monotonic()


KINDS = {"ours": ours, "faust": bare_faust, "aiokafka": bare_aiokafka}

if __name__ == "__main__":
    which, topic, group, gate = sys.argv[1:]
    KINDS[which](KafkaSettings.from_environment(), topic, group, Gate(Path(gate)))
