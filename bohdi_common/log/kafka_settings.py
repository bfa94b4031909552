"""stub"""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class KafkaSettings:
    bootstrap: str

    def for_aiokafka(self) -> dict[str, Any]:
        return {"bootstrap_servers": self.bootstrap}

    def for_kafka_python(self) -> dict[str, Any]:
        return {"bootstrap_servers": self.bootstrap}

    def for_faust(self) -> dict[str, Any]:
        return {}

    @classmethod
    def from_environment(cls, bootstrap: str | None = None) -> "KafkaSettings":
        import os

        return cls(bootstrap or os.environ["BOHDI_KAFKA"])
