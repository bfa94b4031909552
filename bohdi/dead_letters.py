"""Dead letters: what no service could handle, where it stood, and how it is put back."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass

from bohdi.run_folder import RunFolder
from bohdi_common.core.state import RunState
from bohdi_common.events import codec
from bohdi_common.events.events_pb2 import Event
from bohdi_common.events.topics import DEAD, FEEDBACK, TOPICS
from bohdi_common.log import inbox
from bohdi_common.log.kafka_settings import KafkaSettings
from bohdi_common.log.port import LogError, Record, Stored
from bohdi_common.log.sqlite import has_host
from bohdi_common.runtime.shell import CUT_FROM
from services.bandit.handler import Bandit

_REQUEUED_ON = tuple(topic.name for topic in TOPICS if topic not in (FEEDBACK, DEAD))
_APPEND_S = 30.0


class NotRequeued(Exception):
    """Why a letter stays where it is. One line."""


@dataclass(frozen=True)
class Letter:
    """A record of `bohdi.dead`. What its headers do not say (another program wrote it) is empty."""

    stored: Stored

    @property
    def number(self) -> str:
        """By which a person names it: its offset, behind the partition's number if that is not 0."""
        return f"{self.stored.partition}:{self.stored.offset}" if self.stored.partition else str(self.stored.offset)

    def told(self, name: str) -> str:
        """The first header of that name."""
        return next((value for header, value in self.stored.headers if header == name), "")

    @property
    def stood(self) -> str:
        """Topic, partition and offset of the original."""
        return "/".join(self.told(name) for name in ("topic", "partition", "offset")) if self.told("topic") else ""

    @property
    def event(self) -> Event | None:
        """The event that the bytes hold, if this program can read it."""
        try:
            return codec.decode(self.stored.value)
        except (codec.Undecodable, codec.NewerSchema):
            return None

    def requeued(self) -> Record:
        """The original once more, on its topic. Its id is the event's, `@`, and the letter's number: another than the
        first, so that a log which knows ids takes it, and the same each time, so that twice is once. Raises
        NotRequeued."""
        topic, cut = self.told("topic"), self.told(CUT_FROM)
        if topic == FEEDBACK.name:
            raise NotRequeued(f"{self.number}: nothing is ever requeued onto {topic}: it would change what runs are")
        if topic not in _REQUEUED_ON:
            raise NotRequeued(f"{self.number}: {topic or 'no topic'!r} is no topic that takes it: it stays here")
        if cut:
            raise NotRequeued(f"{self.number}: the original had {cut} bytes and is not whole here: it stays here")
        event = self.event
        original = event.event_id if event else self.told("original-event-id").partition("@")[0]
        return Record(topic, self.stored.key, f"{original}@dead-{self.number}", self.stored.value)


def letters(records: Iterator[Stored], run_id: str | None = None) -> Iterator[Letter]:
    """Each letter once, though a service that was killed may have written it twice; with `run_id` those whose event is
    of that run."""
    seen: set[str] = set()
    for stored in records:
        letter = Letter(stored)
        if stored.event_id in seen or (run_id is not None and (not letter.event or letter.event.run_id != run_id)):
            continue
        seen.add(stored.event_id)
        yield letter


class FolderDead:
    """The dead letters of a run's folder."""

    def __init__(self, folder: RunFolder) -> None:
        self._folder = folder
        self.how_to = str(folder.path)

    def records(self) -> Iterator[Stored]:
        return self._folder.read().read(DEAD.name)

    def requeue(self, record: Record) -> str:
        """Leaves the record in the host's inbox; says what comes of it. Raises NotRequeued and LogError."""
        reader = self._folder.read()
        if any(stored.event_id == record.event_id for stored in reader.read(record.topic)):
            return "stands there already"
        if over := self._state().finished:
            raise NotRequeued(f"the run is over ({over}): nobody would take it up")
        inbox.put(self._folder.inbox, record)
        return "asked of the host" if has_host(self._folder.log) else f"waits for `bohdi resume {self._folder.path}`"

    def _state(self) -> RunState:
        from bohdi.run_places import FolderPlace, events

        place = FolderPlace(self._folder)
        bandit = Bandit(place.run_id)
        for event in events(place):
            bandit.fold(event)
        return bandit.state


class KafkaDead:
    """The dead letters of a cluster, of all its runs."""

    def __init__(self, kafka: KafkaSettings) -> None:
        self._kafka = kafka
        self.how_to = f"--kafka {kafka.bootstrap}"

    def records(self) -> Iterator[Stored]:
        return self._all(DEAD.name)

    def requeue(self, record: Record) -> str:
        """Appends the record, unless its topic holds it; says which. Raises NotRequeued and LogError."""
        if any(stored.event_id == record.event_id for stored in self._all(record.topic)):
            return "stands there already"
        asyncio.run(self._append(record))
        return "appended"

    def _all(self, topic: str) -> Iterator[Stored]:
        from bohdi_common.log.kafka_reader import KafkaReader

        first = KafkaReader(self._kafka)
        count = first.partitions(topic)
        first.close_reading()
        if not count:
            raise LogError(f"{self._kafka.bootstrap}: no topic {topic}: run `bohdi topics create`")
        for number in range(count):
            reader = KafkaReader(self._kafka, number)
            yield from reader.read(topic)
            reader.close_reading()

    async def _append(self, record: Record) -> None:
        from bohdi_common.log.kafka_writer import KafkaWriter
        from bohdi_common.runtime.kafka_process import described

        writer = KafkaWriter(self._kafka, described)
        try:
            async with asyncio.timeout(_APPEND_S):
                await writer.append([record])
        except TimeoutError:
            raise LogError(f"{self._kafka.bootstrap}: not appended within {_APPEND_S:.0f} s; try again") from None
        finally:
            await writer.close()
