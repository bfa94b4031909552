"""A feedback log in memory, of events that name questions."""

from __future__ import annotations

from collections.abc import Iterator

from bohdi_common.events import codec
from bohdi_common.events.events_pb2 import Event
from bohdi_common.log.port import Stored


class Log:
    """The feedback log, in memory; counts how often it was read."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.reads: list[int] = []

    def add(self, kind: str, run_id: str, question: str, request_hash: str = "", step: int = 0) -> None:
        body = {"request_hash": request_hash or f"request {len(self.events)}", "question": question}
        self.events.append(Event(event_id="e", run_id=run_id, step=step, schema_version=1, **{kind: body}))

    def read(self, topic: str, start: int = 0, stop: int | None = None) -> Iterator[Stored]:
        self.reads.append(start)
        for offset, event in enumerate(self.events[start:stop], start):
            yield Stored(topic, offset, event.run_id, event.event_id, codec.encode(event))

    def end(self, topic: str) -> int:
        return len(self.events)
