"""Durable appends to Kafka: one idempotent producer, acknowledged by all in-sync replicas."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

from aiokafka import AIOKafkaProducer
from aiokafka import errors as kafka_errors

from bohdi_common.core.limits import OVERHEAD_BYTES_MAX, RECORD_BYTES_MAX
from bohdi_common.log.kafka_records import encoded
from bohdi_common.log.kafka_settings import KafkaSettings
from bohdi_common.log.port import Headers, LogError, LogUnavailable, Record

_REQUEST_TIMEOUT_MS = 30_000
_BATCH_BYTES = 256 * 1024
_CLOSE_S = 5.0

# What no waiting mends.
_FINAL = (
    kafka_errors.MessageSizeTooLargeError,
    kafka_errors.InvalidTopicError,
    kafka_errors.TopicAuthorizationFailedError,
    kafka_errors.ClusterAuthorizationFailedError,
    kafka_errors.AuthenticationFailedError,
)
Describe = Callable[[Record], Headers]


class KafkaWriter:
    """`describe` gives the headers that every record gets beside its event's id, for readers that have no code of ours.
    `partition` writes all records there; None: by their keys."""

    def __init__(
        self, settings: KafkaSettings, describe: Describe = lambda record: (), partition: int | None = None
    ) -> None:
        self._settings = settings
        self._describe = describe
        self._partition = partition
        self._producer: AIOKafkaProducer | None = None
        self._starting = asyncio.Lock()

    async def append(self, records: Sequence[Record], prefix: str = "") -> list[int]:
        """Writes `records`, each to the topic of its name behind `prefix`; returns their offsets once all are durable.

        Records of one partition stand in their order. Raises LogError for what no topic takes, before anything is
        written, and LogUnavailable when the broker cannot be reached or has not answered in time: some of it may be
        in the log all the same, and appending it again may write it twice."""
        messages = [encoded(record, self._describe(record)) for record in records]
        producer = None
        try:
            producer = await self._started()
            sent = [
                await producer.send(prefix + record.topic, partition=self._partition, **message)
                for record, message in zip(records, messages, strict=True)
            ]
            return [(await future).offset for future in sent]
        except _FINAL as error:
            raise LogError(f"{self._settings.bootstrap}: {_said(error)}") from error
        except kafka_errors.KafkaError as error:
            await self._discard(producer)
            raise LogUnavailable(f"{self._settings.bootstrap}: {_said(error)}") from error

    async def close(self) -> None:
        """Lets go of the connections; what is under way has a few seconds to finish."""
        await self._discard(self._producer)

    async def _started(self) -> AIOKafkaProducer:
        async with self._starting:
            if self._producer is None:
                producer = AIOKafkaProducer(
                    **self._settings.for_aiokafka(),
                    acks="all",
                    enable_idempotence=True,
                    max_request_size=RECORD_BYTES_MAX + OVERHEAD_BYTES_MAX,
                    max_batch_size=_BATCH_BYTES,
                    request_timeout_ms=_REQUEST_TIMEOUT_MS,
                )
                try:
                    await producer.start()
                except BaseException:
                    await _stopped(producer)
                    raise
                self._producer = producer
            return self._producer

    async def _discard(self, producer: AIOKafkaProducer | None) -> None:
        """A producer that failed may have lost its place in the sequence of its partition: the next append has a new
        one. Many appends share one; the first that fails lets go of it, the others must not of the one after it."""
        if producer is not None and self._producer is producer:
            self._producer = None
            await _stopped(producer)


async def _stopped(producer: Any) -> None:
    # Not wait_for: it would wait for a producer that cannot be cancelled.
    stopping = asyncio.ensure_future(producer.stop())
    done, _ = await asyncio.wait([stopping], timeout=_CLOSE_S)
    if done:
        with suppress(kafka_errors.KafkaError):
            stopping.result()


def _said(error: Exception) -> str:
    return " ".join(f"{type(error).__name__} {error}".split())
