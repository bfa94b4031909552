"""What kafka-python and aiokafka raise, as the port's errors: one line each."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

from aiokafka import errors as aio_errors
from kafka import errors

from bohdi_common.log.port import LogCorrupt, LogError, LogUnavailable

_NOT_LET_IN = (
    errors.SaslAuthenticationFailedError,
    errors.UnsupportedSaslMechanismError,
    aio_errors.AuthenticationFailedError,
    aio_errors.SaslAuthenticationFailed,
    aio_errors.UnsupportedSaslMechanismError,
)
_NO_RIGHT = (  # for who was let in
    errors.AuthorizationError,
    aio_errors.TopicAuthorizationFailedError,
    aio_errors.GroupAuthorizationFailedError,
    aio_errors.ClusterAuthorizationFailedError,
)
_NOT_SO = (  # the cluster cannot do what was asked of it, however often
    errors.InvalidReplicationFactorError,
    errors.InvalidPartitionsError,
    errors.InvalidConfigurationError,
    errors.PolicyViolationError,
)
_NOBODY = (errors.KafkaConnectionError, errors.KafkaTimeoutError)


@contextmanager
def log_errors(bootstrap: str, place: str = "") -> Iterator[None]:
    """Turns what the clients raise about the cluster at `bootstrap` into LogCorrupt, LogUnavailable or LogError.
    `place`: what was read there, for a person."""
    where = f"{bootstrap}: {place}: " if place else f"{bootstrap}: "
    try:
        yield
    except (errors.CorruptRecordError, aio_errors.CorruptRecordException) as error:
        raise LogCorrupt(f"{where}a record fails its checksum; restore the topic from a copy") from error
    except (errors.OffsetOutOfRangeError, aio_errors.OffsetOutOfRangeError) as error:
        raise LogCorrupt(f"{where}records are gone; restore the topic from a copy") from error
    except _NOT_LET_IN as error:
        raise LogError(f"{where}not let in: check user, password and certificates") from error
    except _NO_RIGHT as error:
        raise LogError(f"{where}this user has no right to that: {_reason(error)}: give it one (an ACL)") from error
    except _NOBODY as error:
        raise LogUnavailable(f"{where}no broker answers: check address and security settings") from error
    except _NOT_SO as error:
        raise LogError(f"{where}refused by the broker: {_reason(error)}") from error
    except (errors.KafkaError, aio_errors.KafkaError) as error:
        raise LogUnavailable(f"{where}{_said(error)}") from error


def _said(error: Exception) -> str:
    return " ".join(f"{type(error).__name__} {error}".split())


def _reason(error: errors.KafkaError) -> str:
    """What the broker says itself; kafka-python puts the whole request and answer around it."""
    said = re.search(r"error_message=(['\"])(.+?)\1, ", str(error))
    return f"{type(error).__name__}: {said[2] if said else 'it gives no reason'}"
