"""The embedded log in memory: what a process's death leaves of it, and an `EventLog` on it (the port's contract)."""

from __future__ import annotations

import asyncio
import contextvars
import random
from collections import defaultdict
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass, field

from bohdi_common.log.port import Done, LogError, LogFull, Record, Stored
from tests.simulation.loop import Process
from tests.simulation.tape import Tape
from tests.simulation.trace import Trace
from tests.simulation.weather import Weather


@dataclass(eq=False)
class _Append:
    records: Sequence[Record]
    done: Done | None
    answer: asyncio.Future[list[int]]


@dataclass
class Disk:
    """What survives. `marks`: the offsets that a consumer marked done, by consumer and topic."""

    tape: Tape
    offset_of: dict[tuple[str, str], int] = field(default_factory=dict)
    marks: defaultdict[tuple[str, str], set[int]] = field(default_factory=lambda: defaultdict(set))

    def commit(self, append: _Append) -> tuple[list[int], list[Stored]]:
        """Records and mark in one transaction: nothing comes between them. Returns offsets and what is new."""
        written: list[Stored] = []
        for record in append.records:
            if (record.topic, record.event_id) not in self.offset_of:
                written.append(self.tape.add(record, 0))
                self.offset_of[record.topic, record.event_id] = written[-1].offset
        done = append.done
        if done is not None and done.offset not in self.marks[done.consumer, done.topic]:
            self.marks[done.consumer, done.topic].add(done.offset)
            self.tape.acknowledge(done.consumer, done.topic, 0, [done.offset])
        return [self.offset_of[record.topic, record.event_id] for record in append.records], written


class DiskLog:
    """The log as one process has it open. Its appends become durable a moment later, each whole; those that had not
    when the process died became so or did not."""

    def __init__(self, disk: Disk, process: Process | None, weather: Weather, trace: Trace | None = None) -> None:
        self._disk = disk
        self._process = process
        self._weather = weather
        self._trace = trace
        self._loop = asyncio.get_running_loop()
        self._outside = contextvars.Context()
        self._waiting: list[_Append] = []
        self._grown: list[asyncio.Future[None]] = []
        self._closed = False

    async def append(self, records: Sequence[Record], done: Done | None = None) -> list[int]:
        """As the port says."""
        if self._closed:
            raise LogError("the log is closed")
        for record in records:
            (record.topic + record.key + record.event_id).encode()
        append = _Append(records, done, self._loop.create_future())
        if self._process is not None and not self._process.alive:
            return await append.answer
        self._waiting.append(append)
        self._loop.call_later(self._weather.latency_s(), self._commit, append, context=self._outside)
        return await append.answer

    def _commit(self, append: _Append) -> None:
        """Commits in the order of the calls, each whole: those before this one too."""
        while append in self._waiting:
            first = self._waiting.pop(0)
            full = self._weather.chance.random() < self._weather.disk_full
            self._answer(first, LogFull("the disk is full") if full else self._write(first))

    def _write(self, append: _Append) -> list[int]:
        offsets, written = self._disk.commit(append)
        if self._trace is not None:
            for stored in written:
                self._trace.note("log", "writes", stored)
            if append.done is not None:
                self._trace.note("log", "marks done", append.done)
        grown, self._grown = self._grown, []
        for waiter in grown:
            if not waiter.done():
                waiter.set_result(None)
        return offsets

    def _answer(self, append: _Append, outcome: list[int] | LogError) -> None:
        if append.answer.done():
            return
        if isinstance(outcome, LogError):
            append.answer.set_exception(outcome)
        else:
            append.answer.set_result(outcome)

    def process_died(self, chance: random.Random) -> None:
        """Of the appends under way some were committed; the caller never heard of it."""
        waiting, self._waiting = self._waiting, []
        for append in waiting:
            if chance.random() < 0.5:
                self._write(append)

    def read(self, topic: str, start: int = 0, stop: int | None = None) -> Iterator[Stored]:
        if start < 0:
            raise ValueError(f"start must not be below 0: {start}")
        return iter(self._stored(topic)[start:stop])

    def end(self, topic: str) -> int:
        return len(self._stored(topic))

    def _stored(self, topic: str) -> list[Stored]:
        return self._disk.tape.stored(topic, 0)

    async def follow(self, topic: str, start: int) -> AsyncIterator[Stored]:
        if start < 0:
            raise ValueError(f"start must not be below 0: {start}")
        while not self._closed:
            stored = self._stored(topic)
            if start >= len(stored):
                waiter = self._loop.create_future()
                self._grown.append(waiter)
                await waiter
                continue
            await asyncio.sleep(0)
            for record in self._stored(topic)[start : len(stored)]:
                yield record
                start += 1

    def cursor(self, consumer: str, topic: str) -> int:
        marks = self._disk.marks[consumer, topic]
        cursor = 0
        while cursor in marks:
            cursor += 1
        return cursor

    def done_beyond(self, consumer: str, topic: str) -> set[int]:
        return {mark for mark in self._disk.marks[consumer, topic] if mark > self.cursor(consumer, topic)}

    async def close(self) -> None:
        """As the port says."""
        self._closed = True
        while self._waiting:
            await asyncio.wait([append.answer for append in self._waiting])
        for waiter in self._grown:
            if not waiter.done():
                waiter.set_result(None)
