"""Whether a cluster lets this process in. Its clients do not tell: aiokafka keeps to itself why no broker could be
used, kafka-python why a handshake failed, and both try again for as long as they are let."""

from __future__ import annotations

import asyncio
import ssl
from concurrent.futures import ThreadPoolExecutor

from aiokafka.conn import create_conn

from bohdi_common.log.kafka_faults import log_errors
from bohdi_common.log.kafka_settings import PREFIX, KafkaSettings
from bohdi_common.log.port import LogError, LogUnavailable

_ANSWER_MS = 5_000


async def refused(settings: KafkaSettings) -> None:
    """Raises LogError for a cluster that no waiting mends: it does not know user and password, or its certificate is
    not trusted. Returns for one that lets this process in, and for one that is away."""
    told = settings.for_aiokafka()
    for address in told.pop("bootstrap_servers"):
        host, _, port = address.rpartition(":")
        try:
            with log_errors(settings.bootstrap):
                connection = await create_conn(host.strip("[]"), int(port), request_timeout_ms=_ANSWER_MS, **told)
        except ssl.SSLCertVerificationError as error:
            why = f"the broker's certificate is not trusted: {error.verify_message}"
            raise LogError(f"{settings.bootstrap}: {why}; check {PREFIX}_CA and the address") from error
        except (LogUnavailable, OSError, TimeoutError):
            continue
        connection.close()
        return


def refused_now(settings: KafkaSettings) -> None:
    """As `refused`, from any thread, whether an event loop runs there or not. A broker without TLS refuses nobody."""
    if settings.security != "plaintext":
        with ThreadPoolExecutor(1) as apart:
            apart.submit(asyncio.run, refused(settings)).result()
