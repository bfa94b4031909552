"""What kafka-python raises, as the port's errors: one line each."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

from kafka import errors

from bohdi_common.log.port import LogCorrupt, LogError, LogUnavailable

_NOT_LET_IN = (
    errors.SaslAuthenticationFailedError,
    errors.TopicAuthorizationFailedError,
    errors.GroupAuthorizationFailedError,
    errors.ClusterAuthorizationFailedError,
)
_NOT_SO = (  # the cluster cannot do what was asked of it, however often
    errors.InvalidReplicationFactorError,
    errors.InvalidPartitionsError,
    errors.InvalidConfigurationError,
    errors.PolicyViolationError,
)
_NOBODY = (errors.KafkaConnectionError, errors.KafkaTimeoutError)


@contextmanager
def log_errors(bootstrap: str) -> Iterator[None]:
    """Turns what kafka-python raises about the cluster at `bootstrap` into LogCorrupt, LogUnavailable or LogError."""
    try:
        yield
    except errors.CorruptRecordError as error:
        raise LogCorrupt(f"{bootstrap}: a record fails its checksum: {error}") from error
    except errors.OffsetOutOfRangeError as error:
        raise LogCorrupt(f"{bootstrap}: records are gone: {error}; restore the topic from a copy") from error
    except _NOT_LET_IN as error:
        raise LogError(f"{bootstrap}: not let in: check user, password and certificates") from error
    except _NOBODY as error:
        raise LogUnavailable(f"{bootstrap}: no broker answers: check address and security settings") from error
    except _NOT_SO as error:
        raise LogError(f"{bootstrap}: refused by the broker: {_reason(error)}") from error
    except errors.KafkaError as error:
        said = " ".join(f"{type(error).__name__} {error}".split())
        raise LogUnavailable(f"{bootstrap}: {said}") from error


def _reason(error: errors.KafkaError) -> str:
    """What the broker says itself; kafka-python puts the whole request and answer around it."""
    said = re.search(r"error_message=(['\"])(.+?)\1, ", str(error))
    return f"{type(error).__name__}: {said[2] if said else 'it gives no reason'}"
