"""The event-log port: append-only topics of bytes, at-least-once delivery, done marks. Adapter: `sqlite`.

A topic is a sequence of records with offsets 0, 1, 2, ... in the order of appending; where a store divides topics into
partitions (Kafka), a log object looks at one of them. The log does not look into a value; it knows an event only by its
id.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

Headers = tuple[tuple[str, str], ...]  # names and values, as they are written; for people and tools


@dataclass(frozen=True, slots=True)
class Record:
    """What is appended."""

    topic: str
    key: str
    event_id: str
    value: bytes
    headers: Headers = ()


class Stored(NamedTuple):
    """What is read back: a record and where it stands in its topic.

    A named tuple, not a frozen dataclass: a fold reads millions, and a dataclass takes a quarter off its speed."""

    topic: str
    offset: int
    key: str
    event_id: str
    value: bytes
    headers: Headers = ()
    partition: int = 0


@dataclass(frozen=True, slots=True)
class Done:
    """A consumer's mark that the input at `offset` of `topic` needs no more handling."""

    consumer: str
    topic: str
    offset: int


class LogError(Exception):
    """The log cannot be used. The message is one line: what, where, what to do."""


class LogCorrupt(LogError):
    """A record is not what was written, or is missing between others. Names topic and offset."""


class LogBusy(LogError):
    """Another host has this log open."""


class LogFull(LogError):
    """The disk took no more; nothing of the refused append is in the log."""


class LogUnavailable(LogError):
    """The log's broker is away; the same call may succeed later. Some of an append may be in the log all the same."""


class LogNewer(LogError):
    """Written by a newer format than this program reads."""


class LogReader(Protocol):
    """What replay and analysis need of a log."""

    def read(self, topic: str, start: int = 0, stop: int | None = None) -> Iterator[Stored]:
        """Records of `topic` with start <= offset < stop (None: the end as it is when the call is made), in order.

        Every checksum is checked. Raises LogCorrupt at the first record that fails, after giving all before it, and
        ValueError for a start below 0."""
        ...

    def end(self, topic: str) -> int:
        """Offset that the next record of `topic` will get."""
        ...


class FollowedLog(LogReader, Protocol):
    """What a reader needs that goes on with a log as it grows."""

    def follow(self, topic: str, start: int) -> AsyncIterator[Stored]:
        """As `read`, and then every record appended later, without end, each as soon as its commit is durable."""
        ...


class EventLog(FollowedLog, Protocol):
    """One host's access to the log of its runs. One contract suite holds every adapter to this (tests/contract)."""

    async def append(self, records: Sequence[Record], done: Done | None = None) -> list[int]:
        """Writes `records` and the mark `done` in one transaction; returns once all of it survives a power cut.

        A record whose event id its topic already holds is not written again. Returns each record's offset, that of
        the first of its id. Concurrent calls share a commit. Raises LogFull or LogError with nothing written."""
        ...

    def cursor(self, consumer: str, topic: str) -> int:
        """Lowest offset of `topic` that `consumer` has not marked done."""
        ...

    def done_beyond(self, consumer: str, topic: str) -> set[int]:
        """Offsets above the cursor that `consumer` has marked done."""
        ...

    async def close(self) -> None:
        """Finishes the appends under way and lets go of the log. `follow` iterators end."""
        ...
