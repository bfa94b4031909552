"""What every process on Kafka does: waits for its broker and topics, says how it is, ends in time."""

from __future__ import annotations

import asyncio
import logging
import os
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka import errors as kafka_errors
from aiokafka.admin import AIOKafkaAdminClient

from bohdi_common.events import codec
from bohdi_common.log.kafka_door import refused
from bohdi_common.log.kafka_settings import KafkaSettings
from bohdi_common.log.port import Headers, LogError, Record
from bohdi_common.runtime.health import Health

STOPPED_HARD = 70  # EX_SOFTWARE: what was in hand is delivered again
_PROBE_S = 3.0
_LAG_S = 5.0
_PROBE_TIMEOUT_MS = 5_000
_ASSIGNED_S = 60.0  # a member of a group has its partitions by then, or an answer that there are none for it

_log = logging.getLogger("bohdi")


def described(record: Record) -> Headers:
    """Headers by which a reader without code of ours knows what a record holds. A dead letter holds anything."""
    kind = _kind(record.value)
    return () if not kind else (("event-type", kind), ("content-type", "application/protobuf; message=bohdi.v1.Event"),
                                ("schema-version", str(codec.SCHEMA_VERSION)))  # fmt: skip


def _kind(value: bytes) -> str:
    with suppress(codec.Undecodable, codec.NewerSchema):
        return codec.kind_of(codec.decode(value))
    return ""


async def wait_for_broker(settings: KafkaSettings, topics: Sequence[str], health: Health, group: str = "") -> None:
    """Until the broker answers, has all `topics` and lets this process ask after `group`, however long that takes.
    Raises LogError for a broker that will never let this process in."""
    said = ""
    while True:
        problem = await _missing(settings, topics, group)
        health.loop_turned_s = time.monotonic()
        if not problem:
            health.broker_seen_s = time.monotonic()
            return
        if problem != said:
            _log.warning("waiting: %s", problem)
        health.problem = said = problem
        await asyncio.sleep(_PROBE_S)


async def _missing(settings: KafkaSettings, topics: Sequence[str], group: str) -> str:
    """Why work cannot begin, or go on; empty when it can."""
    admin = AIOKafkaAdminClient(**settings.for_aiokafka(), request_timeout_ms=_PROBE_TIMEOUT_MS)
    try:
        await admin.start()
        there = set(await admin.list_topics())
        barred = group and await _barred(admin, group)
    except (kafka_errors.KafkaError, OSError) as error:
        await refused(settings)
        return f"{settings.bootstrap}: no broker answers ({type(error).__name__})"
    finally:
        with suppress(Exception):
            await admin.close()
    missing = sorted(set(topics) - there)
    if missing:
        return f"{settings.bootstrap}: no topic {', '.join(missing)}: run `bohdi topics create`"
    return f"{settings.bootstrap}: {barred}" if barred else ""


async def _barred(admin: AIOKafkaAdminClient, group: str) -> str:
    """Why this process may not ask after the group; empty when it may. (Whether it may join, the broker does not tell
    before it tries.)"""
    try:
        await admin.find_coordinator(group)
    except kafka_errors.GroupAuthorizationFailedError:
        return f"this user has no right to the consumer group {group}: give it Describe and Read (an ACL)"
    except kafka_errors.KafkaError:  # one that has just started has no coordinator
        return ""
    return ""


async def watch(settings: KafkaSettings, topics: Sequence[str], health: Health, group: str = "") -> None:
    """Notes every few seconds that the loop turns, whether the broker answers, and, of a member of `group`, whether it
    has partitions: the clients keep to themselves that one may not join. Without end."""
    outside_since_s, said = time.monotonic(), False
    while True:
        health.loop_turned_s = now_s = time.monotonic()
        try:
            health.problem = await _missing(settings, topics, group)
        except LogError as error:
            health.problem = str(error)
        if not health.problem:
            health.broker_seen_s = time.monotonic()
        if health.problem or health.assigned is not None:
            outside_since_s, said = now_s, False
        elif group and now_s - outside_since_s > _ASSIGNED_S:
            mend = "see that this user has the right Read on it and on its topic"
            health.problem = f"{settings.bootstrap}: outside of the consumer group {group}: {mend}"
            if not said:
                _log.warning("%s", health.problem)
            said = True
        await asyncio.sleep(_PROBE_S)


async def watch_lag(
    settings: KafkaSettings, settled: Callable[[], Mapping[tuple[str, int], int]], health: Health
) -> None:
    """Notes every few seconds how many events of each partition are not `settled`. Without end; while the broker is
    away the last numbers stand, and `watch` tells of it."""
    consumer: AIOKafkaConsumer | None = None
    try:
        while True:
            await asyncio.sleep(_LAG_S)
            places = {TopicPartition(*place): offset for place, offset in settled().items()}
            try:
                if consumer is None:
                    consumer = AIOKafkaConsumer(**settings.for_aiokafka(), request_timeout_ms=_PROBE_TIMEOUT_MS)
                    await consumer.start()
                ends = await consumer.end_offsets(list(places)) if places else {}
                health.lag = {(p.topic, p.partition): max(0, end - places[p]) for p, end in ends.items()}
            except Exception as error:  # what only tells must end nothing
                _log.info("the lag is not known: %s", type(error).__name__)
                await _stopped(consumer)
                consumer = None
    finally:
        await _stopped(consumer)


async def _stopped(consumer: AIOKafkaConsumer | None) -> None:
    if consumer is not None:
        with suppress(Exception):
            await consumer.stop()


def end_within(seconds: float) -> None:
    """Ends this process then, if it still lives: with its broker gone a client may wait for ever."""
    timer = threading.Timer(seconds, os._exit, (STOPPED_HARD,))
    timer.daemon = True
    timer.start()


def stop_hard(why: object) -> None:
    """Ends the process at once, acknowledging nothing: what it had in hand is delivered again."""
    _log.critical("stopped: %s", why)
    logging.shutdown()
    os._exit(STOPPED_HARD)
