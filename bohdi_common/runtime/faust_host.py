"""The faust host: one worker service in a process of its own, on its topic of a Kafka cluster.

One faust agent with concurrency 1 over an un-acknowledging stream feeds an `OrderedWindow`; outputs are durable before
their input is acknowledged; acknowledgements go out in offset order. (faust's own acknowledging loses what is in flight
when it commits past it, and acknowledges an event whose handler failed.)
"""

from __future__ import annotations

import asyncio
import logging
import shutil
import tempfile
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import faust
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka import errors as kafka_errors
from aiokafka.admin import AIOKafkaAdminClient

from bohdi_common.events.topics import DEAD, TOPICS, Topic
from bohdi_common.log.kafka_records import stored
from bohdi_common.log.kafka_settings import KafkaSettings
from bohdi_common.log.kafka_writer import KafkaWriter
from bohdi_common.runtime.health import Health, serve
from bohdi_common.runtime.kafka_process import described, end_within, stop_hard, wait_for_broker, watch, watch_lag
from bohdi_common.runtime.metric_collectors import gather, of_health
from bohdi_common.runtime.ordered_window import OrderedWindow, Partition
from bohdi_common.runtime.service_settings import ServiceSettings
from bohdi_common.runtime.shell import Service, Shell
from bohdi_common.runtime.worker import handling

HELD_PER_SLOT = 4  # inputs held unacknowledged for each in flight: a slow one does not stop those behind it
STUCK_AFTER_S = 6 * 3600.0
_SESSION_S, _HEARTBEAT_S, _REBALANCE_S = 10.0, 2.0, 20.0
_MAX_POLL_S = 2 * STUCK_AFTER_S  # above the longest handler times its wait in the queue: else the group evicts us
_DRAIN_S = 5.0
_COORDINATOR_TRIES = 40
_COORDINATOR_PAUSE_S = 0.5
_END_S = 20.0

_log = logging.getLogger("bohdi")


@dataclass
class FaustHost:
    """`make` makes the service once the event loop runs; `close` lets go of what it made."""

    name: str
    topic: Topic
    kafka: KafkaSettings
    settings: ServiceSettings
    make: Callable[[], Service]
    close: Callable[[], Awaitable[None]]
    drain_s: float = _DRAIN_S
    health: Health = field(init=False)

    def run(self) -> None:
        """Until a signal ends it. Does not return: the process ends with 0, or with STOPPED_HARD when it had to."""
        self.health = Health(self.name, STUCK_AFTER_S)
        gather(of_health(self.health))
        port = serve(self.health, self.settings.health_host, self.settings.health_port)
        _log.info("%s: health on %s:%d", self.name, self.settings.health_host, port)
        topics = [topic.name for topic in TOPICS]
        asyncio.run(wait_for_broker(self.kafka, topics, self.health, self.group))
        faust.Worker(_app(self, topics), loglevel=logging.getLogger().level, quiet=True).execute_from_commandline()

    @property
    def group(self) -> str:
        """The consumer group of this service."""
        return f"bohdi.{self.name}"

    # ---- called by the app, in faust's event loop --------------------------------------------------------------

    async def begin(self) -> None:
        """Makes writer, service and window."""
        self._writer = KafkaWriter(self.kafka, described)
        self._admin = AIOKafkaAdminClient(**self.kafka.for_aiokafka())
        self._offsets = AIOKafkaConsumer(**self.kafka.for_aiokafka())
        await self._admin.start()
        await self._offsets.start()
        capacity = self.settings.capacity
        handle = handling(Shell(self.make()), self._writer.append)
        self.window = OrderedWindow(handle, capacity=capacity, held_max=HELD_PER_SLOT * capacity)
        self.window.failed.add_done_callback(lambda failed: stop_hard(failed.exception()))
        self.health.in_flight = lambda: self.window.held
        self.health.oldest_input_age_s = lambda: self.window.oldest_age_s
        watching = watch(self.kafka, [topic.name for topic in TOPICS], self.health, self.group)
        lag = watch_lag(self.kafka, lambda: self.window.settled, self.health)
        self._watching = [asyncio.create_task(each) for each in (watching, lag)]
        self.health.phase = "running"

    async def assigned(self, partitions: set[Any]) -> None:
        """Partitions are this worker's, from their committed offsets on."""
        starts = await self._starts([TopicPartition(tp.topic, tp.partition) for tp in partitions])
        self.window.assigned(starts)
        self.health.assigned = len(starts)

    async def _starts(self, places: list[TopicPartition]) -> dict[Partition, int]:
        """Where each partition's deliveries must begin. A broker that has just come back has no coordinator at first.
        Raises the broker's error when that lasts."""
        for left in reversed(range(_COORDINATOR_TRIES)):
            try:
                committed = await self._admin.list_consumer_group_offsets(self.group, partitions=places)
                oldest = await self._offsets.beginning_offsets(places)
                return {(p.topic, p.partition): self._start(p, committed, oldest[p]) for p in places}
            except kafka_errors.KafkaError as error:
                if not left:
                    raise
                _log.warning("%s: where to begin is not known yet: %s", self.name, type(error).__name__)
                await asyncio.sleep(_COORDINATOR_PAUSE_S)
        raise AssertionError("the last try returns or raises")

    def _start(self, place: TopicPartition, committed: Mapping[TopicPartition, Any], oldest: int) -> int:
        """The committed offset, or the oldest that is kept where that comes later or nothing was committed."""
        offset = committed[place].offset if place in committed else -1
        if 0 <= offset < oldest:
            where = f"{place.topic}/{place.partition}"
            _log.error("%s: %d records from offset %d on expired unhandled", where, oldest - offset, offset)
        return int(max(offset, oldest))

    async def revoked(self) -> None:
        """No partition is this worker's any more."""
        self.window.revoked()
        self.health.assigned = None

    async def end(self) -> None:
        """The intake is over: lets the work in hand finish, for a while."""
        self.health.phase = "stopping"
        await self.window.drain(self.drain_s)

    async def ended(self) -> None:
        """The last commit is out."""
        for watching in self._watching:
            watching.cancel()
        await self.close()
        await self._writer.close()
        await self._admin.close()
        await self._offsets.stop()


def _app(host: FaustHost, topics: list[str]) -> faust.App:
    datadir = tempfile.mkdtemp(prefix="bohdi-faust-")  # faust wants one; with a store in memory nothing is in it

    class App(faust.App):
        async def on_start(self) -> None:
            await host.begin()
            await super().on_start()

        async def on_stop(self) -> None:
            end_within(_END_S)
            await host.end()
            await super().on_stop()
            shutil.rmtree(datadir, ignore_errors=True)
            await host.ended()

    app = App(
        host.group,
        store="memory://",
        datadir=datadir,
        web_enabled=False,
        topic_allow_declare=False,
        topic_disable_leader=True,
        stream_wait_empty=False,
        stream_buffer_maxsize=4096,
        consumer_auto_offset_reset="earliest",
        consumer_max_fetch_size=DEAD.max_record_bytes * 2,
        broker_session_timeout=_SESSION_S,
        broker_heartbeat_interval=_HEARTBEAT_S,
        broker_rebalance_timeout=_REBALANCE_S,
        broker_max_poll_interval=_MAX_POLL_S,
        broker_commit_interval=1.0,
        worker_redirect_stdouts=False,
        **host.kafka.for_faust(),
    )
    raw = {"key_type": bytes, "value_type": bytes, "key_serializer": "raw", "value_serializer": "raw"}

    @app.agent(app.topic(host.topic.name, **raw), concurrency=1, name=f"bohdi.{host.name}")
    async def intake(stream: Any) -> None:
        async for event in stream.noack().events():
            message = event.message

            def still_ours(generation: int = message.generation_id) -> bool:
                return generation == app.consumer_generation_id and app.flow_control.is_active()

            try:
                await host.window.take(_as_stored(message), event.ack, still_ours)
            except Exception as error:  # faust would acknowledge the event and go on
                stop_hard(error)

    app.on_partitions_assigned.connect(lambda _, partitions, **rest: host.assigned(partitions), weak=False)
    app.on_partitions_revoked.connect(lambda _, partitions, **rest: host.revoked(), weak=False)
    return app


def _as_stored(message: Any) -> Any:
    return stored(message.topic, message)
