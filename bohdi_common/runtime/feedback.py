"""Reading the feedback log: the one place where bytes that are no event are passed over, so that all folds agree."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator

from bohdi_common.events import codec
from bohdi_common.events.events_pb2 import Event
from bohdi_common.events.topics import FEEDBACK
from bohdi_common.log.port import FollowedLog, LogReader, Stored

PassedOver = Callable[[Stored, str], None]


def _unseen(stored: Stored, reason: str) -> None: ...


def feedback_events(
    log: LogReader, start: int = 0, stop: int | None = None, passed_over: PassedOver = _unseen
) -> Iterator[tuple[int, Event]]:
    """(offset, event) for the feedback log's offsets from `start` up to `stop`, or to its end as it is now.
    `passed_over` is told of each record that holds no event, and why. Raises LogError and NewerSchema."""
    for stored in log.read(FEEDBACK.name, start, stop):
        event = _event_in(stored, passed_over)
        if event is not None:
            yield stored.offset, event


async def follow_feedback(
    log: FollowedLog, start: int, passed_over: PassedOver = _unseen
) -> AsyncIterator[tuple[int, Event]]:
    """(offset, event) from offset `start` on, and every later one as it comes, without end."""
    async for stored in log.follow(FEEDBACK.name, start):
        event = _event_in(stored, passed_over)
        if event is not None:
            yield stored.offset, event


def events_of(log: LogReader, run_id: str, stop: int | None = None) -> Iterator[Event]:
    """The run's events in their order: the one at place n has the run sequence n."""
    return (event for _, event in feedback_events(log, 0, stop) if event.run_id == run_id)


def _event_in(stored: Stored, passed_over: PassedOver) -> Event | None:
    try:
        return codec.decode(stored.value)
    except codec.Undecodable as error:
        passed_over(stored, str(error))
        return None
