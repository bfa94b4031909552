"""The event log of the local host: the port's adapter on one SQLite file (its format: `sqlite_file`).

One thread writes. The appends that wait while it commits share its next transaction, so that many callers pay for one
wait on the disk.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import sqlite3
import threading
from collections.abc import AsyncIterator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from queue import Empty, SimpleQueue

from bohdi_common.core.limits import RECORD_BYTES_MAX
from bohdi_common.log.port import Done, LogBusy, LogCorrupt, LogError, LogFull, Record, Stored
from bohdi_common.log.sqlite_file import (
    APPLICATION_ID,
    FORMAT,
    SCHEMA,
    SqliteReader,
    as_log_error,
    connect,
    first_position,
    headers_text,
    is_damage,
    log_errors,
    mark_checksum,
    record_checksum,
    topic_checksum,
    wal_of,
)

APPENDS_WAITING_MAX = 1024
APPENDS_PER_COMMIT_MAX = 256


@dataclass(frozen=True, slots=True)
class _Append:
    """An `append` call that waits for its commit."""

    records: Sequence[Record]
    done: Done | None
    answer: asyncio.Future[list[int]]


@dataclass(frozen=True, slots=True)
class _Head:
    """Where a topic's next record goes."""

    number: int
    length: int
    checksum: int


class SqliteLog(SqliteReader):
    """The `EventLog` of one host on one file. To be used from one event loop; `read` from any thread."""

    def __init__(self, path: Path, reading: sqlite3.Connection, writing: sqlite3.Connection, held: ExitStack) -> None:
        """`held`: closes the connections and lets go of the lock. Use `open`."""
        super().__init__(path, reading)
        self._writing = writing
        self._held = held
        self._heads = {name: _Head(number, length, checksum) for number, name, length, checksum in self.topic_rows()}
        self._distrust: LogError | None = None
        self._ends = {topic: head.length for topic, head in self._heads.items()}
        self._grown: dict[str, asyncio.Event] = {}
        self._closed = False
        self._room = asyncio.Semaphore(APPENDS_WAITING_MAX)
        self._queue: SimpleQueue[_Append | None] = SimpleQueue()
        self._follower_reads = ThreadPoolExecutor(1, "log-read")
        self._writer = threading.Thread(target=self._write, name="log-write", daemon=True)
        self._writer.start()

    @classmethod
    def open(cls, path: Path, *, create: bool) -> SqliteLog:
        """Opens the log for its host; makes it first if it is not there and `create` says so.

        Recovers by itself what a killed host or a power cut left. Raises LogBusy if another host has it open,
        LogCorrupt, LogNewer, LogFull, LogError."""
        if not create and not path.is_file():
            raise LogError(f"{path}: no such log; check the path")
        with log_errors(path), ExitStack() as held:
            held.callback(os.close, _lock_out_others(path))
            if create and not path.exists():
                _create(path)
            # Closed after the other: the last one out moves the write-ahead file's commits into the log's file.
            writing = held.enter_context(closing(connect(path, writable=True)))
            reading = held.enter_context(closing(connect(path, writable=False)))
            SqliteReader(path, reading).check()
            return cls(path, reading, writing, held.pop_all())

    async def append(self, records: Sequence[Record], done: Done | None = None) -> list[int]:
        """As the port says. Raises LogError for a record over RECORD_BYTES_MAX and a mark behind the topic's end."""
        await self._room.acquire()
        if self._closed:
            self._room.release()
            raise LogError(f"{self.path}: the log is closed")
        append = _Append(records, done, asyncio.get_running_loop().create_future())
        self._queue.put(append)
        return await append.answer

    def end(self, topic: str) -> int:
        """As the port says."""
        return self._ends.get(topic, 0)

    async def follow(self, topic: str, start: int) -> AsyncIterator[Stored]:
        """As the port says. Raises LogCorrupt at a record that is not what was written."""
        if start < 0:
            raise ValueError(f"start must not be below 0: {start}")
        loop = asyncio.get_running_loop()
        while not self._closed:
            end = self.end(topic)
            if start >= end:
                await self._grown.setdefault(topic, asyncio.Event()).wait()
                continue
            batch = await loop.run_in_executor(self._follower_reads, self._batch, topic, start, end)
            for stored in batch:
                yield stored
            start += len(batch)

    async def close(self) -> None:
        """As the port says. Appends still waiting for a place in the queue are refused with LogError."""
        if self._closed:
            return
        self._closed = True
        self._queue.put(None)
        await asyncio.get_running_loop().run_in_executor(self._follower_reads, self._writer.join)
        self._follower_reads.shutdown()
        self._wake_followers(list(self._grown))
        self._held.close()

    # On the event loop, called by the writer thread.

    def _settle(self, settled: list[tuple[_Append, list[int] | LogError]], ends: dict[str, int]) -> None:
        """Answers the callers of a group and wakes the followers of the topics that grew, to the lengths `ends`."""
        self._ends.update(ends)
        self._wake_followers(list(ends))
        for append, outcome in settled:
            self._room.release()
            if append.answer.done():  # The caller was cancelled.
                continue
            if isinstance(outcome, LogError):
                append.answer.set_exception(outcome)
            else:
                append.answer.set_result(outcome)

    def _wake_followers(self, topics: list[str]) -> None:
        for topic in topics:
            if grown := self._grown.pop(topic, None):
                grown.set()

    # In the writer thread, which alone uses `_writing`, `_heads` and `_distrust` once it runs.

    def _write(self) -> None:
        while group := self._next_group():
            before = self._heads
            outcomes = self._commit_or_explain(group)
            ends = {topic: head.length for topic, head in self._heads.items() if head != before.get(topic)}
            with suppress(RuntimeError):  # The loop was closed without `close`: nobody waits for the answers.
                loop = group[0].answer.get_loop()
                loop.call_soon_threadsafe(self._settle, list(zip(group, outcomes, strict=True)), ends)

    def _next_group(self) -> list[_Append]:
        """The appends that wait, at least one, in their order; none once the log closes."""
        group: list[_Append] = []
        with suppress(Empty):
            while len(group) < APPENDS_PER_COMMIT_MAX:
                append = self._queue.get(block=not group)
                if append is None:
                    if group:  # Seen again, alone, once these are committed.
                        self._queue.put(None)
                    break
                group.append(append)
        return group

    def _commit_or_explain(self, group: list[_Append]) -> list[list[int] | LogError]:
        """Commits the group and gives each append's offsets. A group that fails is tried again one append at a time,
        so that a bad one fails alone."""
        if self._distrust:
            return [self._distrust] * len(group)
        try:
            return list(self._commit(group))
        except Exception as error:  # Whatever it is, the callers wait for an answer.
            told = as_log_error(error, self.path)
            if _ends_trust(error, told):
                self._distrust = told
            elif len(group) > 1:
                return [outcome for append in group for outcome in self._commit_or_explain([append])]
            return [told] * len(group)

    def _commit(self, group: list[_Append]) -> list[list[int]]:
        heads = dict(self._heads)
        with _transaction(self._writing):
            offsets = [[self._insert(heads, record) for record in append.records] for append in group]
            for append in group:
                if append.done:
                    self._mark(heads, append.done)
            for topic, head in heads.items():
                if head != self._heads.get(topic):
                    self._writing.execute(
                        "UPDATE topics SET length = ?, checksum = ? WHERE number = ?",
                        (head.length, head.checksum, head.number),
                    )
        self._heads = heads
        return offsets

    def _insert(self, heads: dict[str, _Head], record: Record) -> int:
        """Offset of the record: its own, or that of the one with its id that is there already."""
        head = heads.get(record.topic) or self._insert_topic(heads, record.topic)
        find = "SELECT position FROM records WHERE topic = ? AND event_id = ?"
        for (position,) in self._writing.execute(find, (head.number, record.event_id)):
            return position - first_position(head.number)
        if len(record.value) > RECORD_BYTES_MAX:
            size = f"{len(record.value)} bytes, over {RECORD_BYTES_MAX}"
            raise LogError(f"{self.path}: event {record.event_id!r} has {size}; shorten it before it is appended")
        headers = headers_text(record.headers)
        checksum = record_checksum(head.checksum, head.length, record.key, record.event_id, record.value, headers)
        position = first_position(head.number) + head.length
        self._writing.execute(
            "INSERT INTO records VALUES (?, ?, ?, ?, ?, ?, ?)",
            (position, head.number, record.key, record.event_id, record.value, headers, checksum),
        )
        heads[record.topic] = replace(head, length=head.length + 1, checksum=checksum)
        return head.length

    def _insert_topic(self, heads: dict[str, _Head], topic: str) -> _Head:
        number = 1 + max((head.number for head in heads.values()), default=0)
        head = _Head(number, 0, topic_checksum(topic))
        self._writing.execute("INSERT INTO topics VALUES (?, ?, ?, ?)", (number, topic, 0, head.checksum))
        heads[topic] = head
        return head

    def _mark(self, heads: dict[str, _Head], done: Done) -> None:
        """Sets the mark; moves the cursor over the marks that follow on it, so that the few above it are all kept."""
        length = heads[done.topic].length if done.topic in heads else 0
        if not 0 <= done.offset < length:
            raise LogError(f"{self.path}: {done} cannot be set: the topic has {length} records")
        which = (done.consumer, done.topic)
        find = "SELECT offset FROM cursors WHERE consumer = ? AND topic = ?"
        cursor = next((offset for (offset,) in self._writing.execute(find, which)), 0)
        if done.offset < cursor:
            return
        if done.offset > cursor:
            row = (*which, done.offset, mark_checksum(*which, done.offset))
            self._writing.execute("INSERT OR IGNORE INTO marks VALUES (?, ?, ?, ?)", row)
            return
        cursor += 1
        fold = "DELETE FROM marks WHERE consumer = ? AND topic = ? AND offset = ?"
        while self._writing.execute(fold, (*which, cursor)).rowcount:
            cursor += 1
        row = (*which, cursor, mark_checksum(*which, cursor))
        self._writing.execute("INSERT OR REPLACE INTO cursors VALUES (?, ?, ?, ?)", row)


def _ends_trust(error: Exception, told: LogError) -> bool:
    """Whether no later commit can be relied on: the file is damaged, or the disk failed other than by being full (a
    failed fsync may have dropped what was to be written)."""
    failed = getattr(error, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_IOERR
    return is_damage(error) or (failed and not isinstance(told, LogFull))


@contextmanager
def _transaction(connection: sqlite3.Connection) -> Iterator[None]:
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:  # Some failures roll back by themselves.
            connection.execute("ROLLBACK")
        raise


def _create(path: Path) -> None:
    """Makes an empty log, aside at first: a file at `path` is always a whole one. The caller holds the lock."""
    if wal_of(path).exists():
        raise LogCorrupt(f"{wal_of(path)}: its log {path.name} is missing; restore that from a copy or choose another")
    aside = path.with_name(path.name + ".new")
    aside.unlink(missing_ok=True)
    with closing(sqlite3.connect(aside, isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        with _transaction(connection):
            for statement in SCHEMA:
                connection.execute(statement)
            connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            connection.execute(f"PRAGMA user_version = {FORMAT}")
    aside.rename(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def has_host(path: Path) -> bool:
    """Whether a host has the log at `path` open now."""
    try:
        lock = os.open(_lock_file(path), os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(lock)
    return False


def _lock_file(path: Path) -> Path:
    return path.with_name(path.name + ".lock")


def _lock_out_others(path: Path) -> int:
    """Takes the lock file beside the log, which the kernel lets go with the process. Raises LogBusy."""
    lock = os.open(_lock_file(path), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.ftruncate(lock, 0)
        os.pwrite(lock, str(os.getpid()).encode(), 0)
    except BlockingIOError:
        holder = os.pread(lock, 20, 0).decode(errors="replace") or "unknown"
        os.close(lock)
        raise LogBusy(f"{path}: the host with pid {holder} has this log open; stop it or choose another log") from None
    except BaseException:
        os.close(lock)
        raise
    return lock
