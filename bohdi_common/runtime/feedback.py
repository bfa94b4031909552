"""Reading the feedback log: the one place where bytes that are no event are passed over, so that all folds agree."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Iterator
from itertools import chain

from bohdi_common.events import codec
from bohdi_common.events.events_pb2 import Event
from bohdi_common.events.topics import FEEDBACK
from bohdi_common.log.port import FollowedLog, LogCorrupt, LogReader, Stored

_log = logging.getLogger("bohdi")


def feedback_records(log: LogReader, start: int = 0, stop: int | None = None) -> Iterator[tuple[Stored, Event | None]]:
    """The feedback log's records from `start` up to `stop`, or to its end as it is now, each with its event; None for
    bytes that are none. Raises LogError and NewerSchema; LogCorrupt too when the first of them are gone, for this topic
    is kept for ever."""
    return ((stored, _event_in(stored)) for stored in _whole(log.read(FEEDBACK.name, start, stop), start))


def _whole(records: Iterator[Stored], start: int) -> Iterator[Stored]:
    first = next(records, None)
    if first is None:
        return iter(())
    if first.offset != start:
        where = f"topic {first.topic}/{first.partition}"
        raise LogCorrupt(f"{where}: records before offset {first.offset} are gone; restore the topic from a copy")
    return chain((first,), records)


async def follow_records(log: FollowedLog, start: int) -> AsyncIterator[tuple[Stored, Event | None]]:
    """As `feedback_records` from offset `start` on, and every later record as it comes, without end."""
    async for stored in log.follow(FEEDBACK.name, start):
        yield stored, _event_in(stored)


def feedback_events(log: LogReader, start: int = 0, stop: int | None = None) -> Iterator[tuple[int, Event]]:
    """(offset, event) for the feedback log's offsets from `start` up to `stop`, or to its end as it is now. Raises
    LogError and NewerSchema."""
    return ((stored.offset, event) for stored, event in feedback_records(log, start, stop) if event is not None)


async def follow_feedback(log: FollowedLog, start: int) -> AsyncIterator[tuple[int, Event]]:
    """(offset, event) from offset `start` on, and every later one as it comes, without end."""
    async for stored, event in follow_records(log, start):
        if event is not None:
            yield stored.offset, event


def events_of(log: LogReader, run_id: str, stop: int | None = None) -> Iterator[Event]:
    """The run's events in their order: the one at place n has the run sequence n."""
    return (event for _, event in feedback_events(log, 0, stop) if event.run_id == run_id)


def why_unfit(stored: Stored, event: Event | None) -> str:
    """Why a record has no place on the feedback log; empty when it has. An event of another topic's kind has none: it
    counts in its run's order, as every fold has it, and moves nothing."""
    if event is None:
        return "the bytes are no event"
    return "" if codec.topic_of(event) is FEEDBACK else f"{codec.kind_of(event)} does not belong on {stored.topic}"


def _event_in(stored: Stored) -> Event | None:
    try:
        return codec.decode(stored.value)
    except codec.Undecodable as error:
        _log.info("%s/%d offset %d is skipped: %s", stored.topic, stored.partition, stored.offset, error)
        return None
