"""A run on a Kafka cluster, as a place to look at and to append what a person asks."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from pathlib import Path

from bohdi.run_folder import RunFolder
from bohdi_common.events import codec
from bohdi_common.events.topics import FEEDBACK
from bohdi_common.log.kafka_reader import KafkaReader
from bohdi_common.log.kafka_records import partition_of
from bohdi_common.log.kafka_settings import KafkaSettings
from bohdi_common.log.kafka_writer import KafkaWriter
from bohdi_common.log.port import LogError, Record, Stored
from bohdi_common.models.places import RunStores
from bohdi_common.runtime.config import BadConfig
from bohdi_common.runtime.feedback import feedback_events
from bohdi_common.runtime.kafka_process import described
from bohdi_common.runtime.service_settings import ServiceSettings

_RUN_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
_APPEND_S = 30.0


class KafkaPlace:
    """A run on a cluster."""

    def __init__(self, kafka: KafkaSettings, run_id: str) -> None:
        if not _RUN_ID.fullmatch(run_id):
            raise BadConfig(f"--run: not a run's name: {run_id!r}: letters, digits, '.', '_' and '-', 128 at most")
        self.kafka = kafka
        self.run_id = run_id
        self.folder: RunFolder | None = None
        self.how_to = f"--kafka {kafka.bootstrap} --run {run_id}"
        self.stores = RunStores(ServiceSettings.from_environment(capacity=1).store)
        self._partition = -1

    @property
    def versions(self) -> Path:
        return self.stores.versions(self.run_id)

    @property
    def partition(self) -> int:
        """The partition of the feedback topic in which the run stands. Raises LogError."""
        if self._partition < 0:
            reader = KafkaReader(self.kafka)
            count = reader.partitions(FEEDBACK.name)
            reader.close_reading()
            if not count:
                raise LogError(f"{self.kafka.bootstrap}: no topic {FEEDBACK.name}: run `bohdi topics create`")
            self._partition = partition_of(self.run_id, count)
        return self._partition

    def reader(self) -> KafkaReader:
        return KafkaReader(self.kafka, self.partition)

    def records(self, topic: str, start: int = 0) -> Iterator[Stored]:
        """The run is what stands in its own partition of the feedback log; requests are spread."""
        spread = range(KafkaReader(self.kafka).partitions(topic))
        for number in [self.partition] if topic == FEEDBACK.name else spread:
            for stored in KafkaReader(self.kafka, number).read(topic, start):
                if _run_of(stored) in (self.run_id, None):
                    yield stored

    def keep_summary(self, text: str) -> None:
        """Leaves the closing figures beside the run's versions."""
        self.versions.parent.mkdir(parents=True, exist_ok=True)
        (self.versions.parent / "summary.json").write_text(text, encoding="utf-8")

    def exists(self) -> bool:
        """Whether the log holds an event of the run."""
        return any(event.run_id == self.run_id for _, event in feedback_events(self.reader()))

    def append(self, records: list[Record]) -> None:
        """Raises LogError when it is not durable in time."""
        _append_within(self.kafka, records)


def _run_of(stored: Stored) -> str | None:
    """The run of the event in a record; None for bytes that are no event, or one that whoever asks must see."""
    try:
        return codec.decode(stored.value).run_id
    except (codec.Undecodable, codec.NewerSchema):
        return None


def append(kafka: str | None, records: list[Record]) -> None:
    """Onto the cluster that `kafka` or the environment names, by the records' keys. Raises LogError."""
    _append_within(KafkaSettings.from_environment(kafka), records)


def _append_within(kafka: KafkaSettings, records: list[Record]) -> None:
    async def appended() -> None:
        writer = KafkaWriter(kafka, described)
        try:
            async with asyncio.timeout(_APPEND_S):
                await writer.append(records)
        finally:
            await writer.close()

    try:
        asyncio.run(appended())
    except TimeoutError:
        raise LogError(f"{kafka.bootstrap}: not appended within {_APPEND_S:.0f} s; is the broker there?") from None


def kafka_place(kafka: str | None, run_id: str) -> KafkaPlace:
    """The run on the cluster that `kafka` or the environment names. Raises BadSetting, BadConfig."""
    return KafkaPlace(KafkaSettings.from_environment(kafka), run_id)
