"""What a service process is told by its environment beside how to reach Kafka (`log/kafka_settings.py`)."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from bohdi_common.log.kafka_settings import BadSetting

_HEALTH, _STORE, _CAPACITY = "BOHDI_HEALTH", "BOHDI_STORE", "BOHDI_CAPACITY"


@dataclass(frozen=True)
class ServiceSettings:
    """`store`: the folder of all runs' versions, shared by the services. `health`: where to answer, port 0 for any.
    `capacity`: inputs in flight."""

    store: Path
    health_host: str
    health_port: int
    capacity: int

    @classmethod
    def from_environment(cls, capacity: int, environment: Mapping[str, str] = os.environ) -> ServiceSettings:
        """`capacity`: the service's own, where the environment names none. Raises BadSetting."""
        host, _, port = environment.get(_HEALTH, "127.0.0.1:0").rpartition(":")
        if not host or not port.isdigit() or int(port) > 65535:
            raise BadSetting(f"{_HEALTH}: not HOST:PORT: {environment[_HEALTH]!r}: give 127.0.0.1:8080, say")
        given = environment.get(_CAPACITY, str(capacity))
        if not given.isdigit() or not 1 <= int(given) <= 10_000:
            raise BadSetting(f"{_CAPACITY}: not a number from 1 to 10000: {given!r}: correct or unset it")
        return cls(Path(environment.get(_STORE, "runs")).absolute(), host, int(port), int(given))
