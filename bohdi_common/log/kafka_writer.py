"""Durable appends to Kafka: one idempotent producer, acknowledged by all in-sync replicas."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

from aiokafka import AIOKafkaProducer
from aiokafka import errors as kafka_errors

from bohdi_common.core.limits import OVERHEAD_BYTES_MAX, RECORD_BYTES_MAX
from bohdi_common.log.kafka_door import refused
from bohdi_common.log.kafka_records import encoded
from bohdi_common.log.kafka_settings import KafkaSettings
from bohdi_common.log.port import Headers, LogError, LogUnavailable, Record

ANSWER_S = 30.0
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
        self._heard_s = 0.0

    async def append(self, records: Sequence[Record], prefix: str = "") -> list[int]:
        """Writes `records`, each to the topic of its name behind `prefix`; returns their offsets once all are durable.

        Records of one partition stand in their order. Raises LogError for what no topic takes, before anything is
        written, and LogUnavailable when the broker cannot be reached or acknowledges nothing for ANSWER_S: some of it
        may be in the log all the same, and appending it again may write it twice."""
        messages = [encoded(record, self._describe(record)) for record in records]
        producer = None
        try:
            producer = await self._started()
            sent = [
                await producer.send(prefix + record.topic, partition=self._partition, **message)
                for record, message in zip(records, messages, strict=True)
            ]
            await self._acknowledged(sent)
            return [future.result().offset for future in sent]
        except _FINAL as error:
            raise LogError(f"{self._settings.bootstrap}: {_said(error)}") from error
        except kafka_errors.KafkaError as error:
            await self._discard(producer)
            raise LogUnavailable(f"{self._settings.bootstrap}: {_said(error)}") from error

    async def close(self) -> None:
        """Lets go of the connections; what is under way has a few seconds to finish."""
        await self._discard(self._producer)

    async def _acknowledged(self, sent: Sequence[asyncio.Future[Any]]) -> None:
        """Until all are answered for. An idempotent producer itself tries without end; what bounds it is the silence
        of the broker towards every append, so that a slow one is no silent one."""
        for future in sent:
            future.add_done_callback(self._heard)
        waiting, since_s = set(sent), time.monotonic()
        while waiting:
            left_s = max(since_s, self._heard_s) + ANSWER_S - time.monotonic()
            if left_s <= 0:
                raise kafka_errors.KafkaTimeoutError(f"nothing was acknowledged for {ANSWER_S:.0f} s")
            _, waiting = await asyncio.wait(waiting, timeout=left_s)

    def _heard(self, answered: asyncio.Future[Any]) -> None:
        """Looks at its error too, which nobody else does where a neighbour of the same append failed first."""
        self._heard_s = time.monotonic()
        if not answered.cancelled():
            answered.exception()

    async def _started(self) -> AIOKafkaProducer:
        async with self._starting:
            if self._producer is None:
                producer = AIOKafkaProducer(
                    **self._settings.for_aiokafka(),
                    acks="all",
                    enable_idempotence=True,
                    max_request_size=RECORD_BYTES_MAX + OVERHEAD_BYTES_MAX,
                    max_batch_size=_BATCH_BYTES,
                    request_timeout_ms=int(ANSWER_S * 1000),
                )
                try:
                    await _started_within(producer, ANSWER_S)
                except BaseException as error:
                    await _stopped(producer)
                    if isinstance(error, kafka_errors.KafkaConnectionError):
                        await refused(self._settings)
                    raise
                self._producer = producer
            return self._producer

    async def _discard(self, producer: AIOKafkaProducer | None) -> None:
        """A producer that failed may have lost its place in the sequence of its partition: the next append has a new
        one. Many appends share one; the first that fails lets go of it, the others must not of the one after it."""
        if producer is not None and self._producer is producer:
            self._producer = None
            await _stopped(producer)


async def _started_within(producer: AIOKafkaProducer, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await producer.start()
    except TimeoutError:
        raise kafka_errors.KafkaTimeoutError(f"no answer within {seconds:.0f} s") from None


async def _stopped(producer: AIOKafkaProducer) -> None:
    # Not wait_for: it would wait for a producer that cannot be cancelled.
    stopping = asyncio.ensure_future(producer.stop())
    done, _ = await asyncio.wait([stopping], timeout=_CLOSE_S)
    if not done:
        await _given_up(producer)
        done, _ = await asyncio.wait([stopping], timeout=_CLOSE_S)
    if done:
        with suppress(kafka_errors.KafkaError):
            stopping.result()


async def _given_up(producer: AIOKafkaProducer) -> None:
    """Left alone it would try without end, and when the broker came back write what nobody waits for any more."""
    sender = producer._sender.sender_task
    sender.cancel()
    await producer.client.close()  # what is under way fails
    done, _ = await asyncio.wait([sender], timeout=_CLOSE_S)
    if done:
        producer._message_accumulator.fail_all(kafka_errors.KafkaConnectionError("the broker is away"))


def _said(error: Exception) -> str:
    return " ".join(f"{type(error).__name__} {error}".split())
