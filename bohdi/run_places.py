"""Where a run stands: in a folder of its own, or on a Kafka cluster beside others. What looks at runs asks here."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

from bohdi.run_folder import NoRun, RunFolder
from bohdi_common.events.events_pb2 import Event
from bohdi_common.events.topics import FEEDBACK
from bohdi_common.log.kafka_reader import KafkaReader
from bohdi_common.log.kafka_records import partition_of
from bohdi_common.log.kafka_settings import KafkaSettings
from bohdi_common.log.kafka_writer import KafkaWriter
from bohdi_common.log.port import LogError, LogReader, Record
from bohdi_common.models.places import RunStores
from bohdi_common.runtime.config import BadConfig
from bohdi_common.runtime.feedback import feedback_events
from bohdi_common.runtime.kafka_process import described
from bohdi_common.runtime.service_settings import ServiceSettings

_RUN_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
_APPEND_S = 30.0


class RunPlace(Protocol):
    """`how_to`: the options by which a person names this place."""

    how_to: str

    @property
    def run_id(self) -> str:
        """Raises NoRun."""
        ...

    @property
    def versions(self) -> Path:
        """Folder of the promoted versions, which may not be here."""
        ...

    def reader(self) -> LogReader:
        """The log that holds the run. Raises LogError."""
        ...


def events(place: RunPlace) -> Iterator[Event]:
    """The run's events in their order: the one at place n has the run sequence n. Raises NoRun, LogError."""
    run_id, some = place.run_id, False
    for _, event in feedback_events(place.reader()):
        if event.run_id == run_id:
            some = True
            yield event
    if not some:
        raise NoRun(f"{place.how_to}: the log holds no event of run {run_id}: check the name")


class FolderPlace:
    """A run in a folder."""

    def __init__(self, folder: RunFolder) -> None:
        self.folder = folder
        self.how_to = str(folder.path)

    @property
    def run_id(self) -> str:
        return self.folder.run_id(self.folder.read())

    @property
    def versions(self) -> Path:
        return self.folder.versions

    def reader(self) -> LogReader:
        return self.folder.read()


class KafkaPlace:
    """A run on a cluster."""

    def __init__(self, kafka: KafkaSettings, run_id: str) -> None:
        if not _RUN_ID.fullmatch(run_id):
            raise BadConfig(f"--run: not a run's name: {run_id!r}: letters, digits, '.', '_' and '-', 128 at most")
        self.kafka = kafka
        self.run_id = run_id
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

    def exists(self) -> bool:
        """Whether the log holds an event of the run."""
        return any(event.run_id == self.run_id for _, event in feedback_events(self.reader()))

    def append(self, records: list[Record]) -> None:
        """Raises LogError when it is not durable in time."""
        asyncio.run(self._append(records))

    async def _append(self, records: list[Record]) -> None:
        writer = KafkaWriter(self.kafka, described, self.partition)
        try:
            async with asyncio.timeout(_APPEND_S):
                await writer.append(records)
        except TimeoutError:
            raise LogError(
                f"{self.kafka.bootstrap}: not appended within {_APPEND_S:.0f} s; is the broker there?"
            ) from None
        finally:
            await writer.close()


def run_place(dir: Path | None, kafka: str | None, run: str | None) -> FolderPlace | KafkaPlace:
    """The place that a command's arguments name. Raises BadConfig unless it is just one."""
    if dir is not None and kafka is None and run is None:
        return FolderPlace(RunFolder(dir))
    if dir is None and run is not None:
        return KafkaPlace(KafkaSettings.from_environment(kafka), run)
    raise BadConfig(
        "which run? give its folder, or --run ID (and --kafka HOST:PORT, or BOHDI_KAFKA in the environment)"
    )
