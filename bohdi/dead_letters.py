"""The dead letters of a folder or of a cluster, read, and put back on the topic that they came from."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from bohdi.run_folder import RunFolder
from bohdi_common.core.ids import derived_id
from bohdi_common.events import codec
from bohdi_common.events.events_pb2 import Event
from bohdi_common.events.topics import DEAD, FEEDBACK, TOPICS
from bohdi_common.log import inbox
from bohdi_common.log.port import LogReader, Record, Stored
from bohdi_common.runtime.config import BadConfig


@dataclass(frozen=True)
class DeadLetter:
    """`number`: its offset in the dead topic. Topic, partition and offset are those where it stood."""

    number: int
    topic: str
    partition: str
    offset: str
    key: str
    reason: str
    value: bytes
    event: Event | None

    @property
    def place(self) -> str:
        return f"{self.topic}/{self.partition}/{self.offset}"

    @property
    def kind(self) -> str:
        return codec.kind_of(self.event) if self.event is not None else ""

    @property
    def run_id(self) -> str:
        return self.event.run_id if self.event is not None else ""


def of(dir: Path | None, kafka: str | None, run: str | None = None) -> Iterator[DeadLetter]:
    """The letters in their order; with `run` those known to be of it. Raises BadConfig, BadSetting, LogError."""
    for stored in _reader(dir, kafka).read(DEAD.name):
        letter = _letter(stored)
        if run is None or letter.run_id == run:
            yield letter


def numbered(dir: Path | None, kafka: str | None, numbers: Sequence[int]) -> Iterator[DeadLetter]:
    """The letters with these numbers. Raises BadConfig for one that is not there."""
    reader = _reader(dir, kafka)
    end = reader.end(DEAD.name)
    for number in numbers:
        if not 0 <= number < end:
            raise BadConfig(f"--letter: there is no letter {number}: there are {end}, from 0 on")
        yield _letter(next(iter(reader.read(DEAD.name, number, number + 1))))


def requeue(dir: Path | None, kafka: str | None, letter: DeadLetter) -> str:
    """Puts the letter's bytes back where they stood; says what was done. Done twice it is the same record to whoever
    handles it. Raises BadConfig for one that must not be put back."""
    if letter.topic == FEEDBACK.name:
        raise BadConfig(f"letter {letter.number}: nothing is ever put back on {FEEDBACK.name}: it is the run itself")
    if letter.topic not in {topic.name for topic in TOPICS}:
        raise BadConfig(f"letter {letter.number}: it came from {letter.topic!r}, which is no topic of Bohdi's")
    again = derived_id("requeued", letter.number, letter.place)
    record = Record(letter.topic, letter.key, again, letter.value)
    if dir is not None:
        inbox.put(RunFolder(dir).inbox, record)
        return f"letter {letter.number}: the run's host puts it back on {letter.topic} when it next looks"
    from bohdi.kafka_places import append  # who has a folder needs no Kafka

    append(kafka, [record])
    return f"letter {letter.number}: put back on {letter.topic}"


def _reader(dir: Path | None, kafka: str | None) -> LogReader:
    if dir is not None and kafka is None:
        return RunFolder(dir).read()
    if dir is not None:
        raise BadConfig("which letters? give the run's folder or --kafka, not both")
    from bohdi_common.log.kafka_reader import KafkaReader
    from bohdi_common.log.kafka_settings import KafkaSettings

    return KafkaReader(KafkaSettings.from_environment(kafka))


def _letter(stored: Stored) -> DeadLetter:
    told = dict(stored.headers)
    try:
        event = codec.decode(stored.value)
    except (codec.Undecodable, codec.NewerSchema):
        event = None
    return DeadLetter(
        stored.offset,
        told.get("topic", "?"),
        told.get("partition", "?"),
        told.get("offset", "?"),
        stored.key,
        told.get("reason", "it says no reason: not written by Bohdi"),
        stored.value,
        event,
    )
