"""Where a run stands: in a folder of its own, or on a Kafka cluster beside others. What looks at runs asks here."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

from bohdi.run_folder import NoRun, RunFolder
from bohdi_common.events.events_pb2 import Event, Settings
from bohdi_common.log.port import LogReader, Stored
from bohdi_common.runtime.config import BadConfig
from bohdi_common.runtime.feedback import feedback_events


class RunPlace(Protocol):
    """`how_to`: the options by which a person names this place. `folder`: the run's folder; None for a run on Kafka."""

    how_to: str
    folder: RunFolder | None

    @property
    def run_id(self) -> str:
        """Raises NoRun."""
        ...

    @property
    def versions(self) -> Path:
        """Folder of the promoted versions, which may not be here."""
        ...

    def reader(self) -> LogReader:
        """The log that holds the run's events. Raises LogError."""
        ...

    def records(self, topic: str, start: int = 0) -> Iterator[Stored]:
        """What stands in a topic: in a folder all of it, on Kafka what belongs to the run."""
        ...

    def keep_summary(self, text: str) -> None:
        """Leaves the closing figures beside the run."""
        ...


def events(place: RunPlace) -> Iterator[Event]:
    """The run's events in their order: the one at place n has the run sequence n. Raises NoRun, LogError."""
    run_id, some = place.run_id, False
    for _, event in feedback_events(place.reader()):
        if event.run_id == run_id:
            some = True
            yield event
    if not some:
        raise no_events(place)


def no_events(place: RunPlace) -> NoRun:
    """What is to be raised where the log holds nothing of the run."""
    return NoRun(f"{place.how_to}: the log holds no event of run {place.run_id}: check the name")


def settings(place: RunPlace) -> Settings:
    """What the run was started with. Raises NoRun, LogError."""
    for event in events(place):
        if event.HasField("run_started"):
            return event.run_started.settings
    raise NoRun(f"{place.how_to}: the log does not say with what the run was started")


class FolderPlace:
    """A run in a folder."""

    def __init__(self, folder: RunFolder) -> None:
        self.folder: RunFolder | None = folder
        self._folder = folder
        self.how_to = str(folder.path)

    @property
    def run_id(self) -> str:
        return self._folder.run_id(self._folder.read())

    @property
    def versions(self) -> Path:
        return self._folder.versions

    def reader(self) -> LogReader:
        return self._folder.read()

    def records(self, topic: str, start: int = 0) -> Iterator[Stored]:
        return self._folder.read().read(topic, start)

    def keep_summary(self, text: str) -> None:
        """Leaves the closing figures beside the run."""
        self._folder.summary.write_text(text, encoding="utf-8")


def run_place(dir: Path | None, kafka: str | None, run: str | None) -> RunPlace:
    """The place that a command's arguments name. Raises BadConfig unless it is just one."""
    if dir is not None and kafka is None and run is None:
        return FolderPlace(RunFolder(dir))
    if dir is None and run is not None:
        from bohdi.kafka_places import kafka_place  # who has a folder needs no Kafka

        return kafka_place(kafka, run)
    raise BadConfig(
        "which run? give its folder, or --run ID (and --kafka HOST:PORT, or BOHDI_KAFKA in the environment)"
    )
