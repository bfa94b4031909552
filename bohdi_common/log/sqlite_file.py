"""The log's SQLite file: its format, reading it, and finding what is wrong in it. `sqlite` writes it.

Four tables. `records` holds every topic; a record's row id is `topic number << 40 | offset`, so that a topic is one
range and its order is that of the file. Each record carries a CRC-32 over its offset, key, event id and value that
goes on from the CRC-32 of the record before it, the first one's from that of the topic's name: a record that was
changed, removed, put in or swapped breaks the chain where it stands. `topics` holds each topic's length and last
checksum, which tells when records are missing at the end. `cursors` and `marks` hold what consumers have done.
"""

from __future__ import annotations

import errno
import json
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from itertools import islice
from pathlib import Path
from typing import Any
from zlib import crc32

from bohdi_common.log.port import Headers, LogCorrupt, LogError, LogFull, LogNewer, Stored

APPLICATION_ID = int.from_bytes(b"Bohd", "big")
FORMAT = 2
OFFSET_BITS = 40
READ_RECORDS = 256  # Records fetched at a time: more is no faster and holds the lock, and a follower's thread, longer.
BUSY_WAIT_S = 5.0
PROBLEMS_LISTED = 100

SCHEMA = (
    "CREATE TABLE topics (number INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, length INTEGER NOT NULL,"
    " checksum INTEGER NOT NULL) STRICT",
    "CREATE TABLE records (position INTEGER PRIMARY KEY, topic INTEGER NOT NULL, key TEXT NOT NULL,"
    " event_id TEXT NOT NULL, value BLOB NOT NULL, headers TEXT NOT NULL, checksum INTEGER NOT NULL) STRICT",
    "CREATE UNIQUE INDEX records_by_id ON records (topic, event_id)",
    "CREATE TABLE cursors (consumer TEXT NOT NULL, topic TEXT NOT NULL, offset INTEGER NOT NULL,"
    " checksum INTEGER NOT NULL, PRIMARY KEY (consumer, topic)) STRICT, WITHOUT ROWID",
    "CREATE TABLE marks (consumer TEXT NOT NULL, topic TEXT NOT NULL, offset INTEGER NOT NULL,"
    " checksum INTEGER NOT NULL, PRIMARY KEY (consumer, topic, offset)) STRICT, WITHOUT ROWID",
    "CREATE TRIGGER no_update BEFORE UPDATE ON records BEGIN SELECT RAISE(ABORT, 'a record is never changed'); END",
    "CREATE TRIGGER no_delete BEFORE DELETE ON records BEGIN SELECT RAISE(ABORT, 'a record is never removed'); END",
    # INSERT OR REPLACE deletes without asking the trigger above.
    "CREATE TRIGGER no_replace BEFORE INSERT ON records WHEN EXISTS (SELECT 1 FROM records"
    " WHERE position = NEW.position OR topic = NEW.topic AND event_id = NEW.event_id)"
    " BEGIN SELECT RAISE(ABORT, 'a record is never replaced'); END",
)

# What SQLite says when the disk, a quota or a file size limit takes no more. All come before the commit.
_FULL = {sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR_WRITE, sqlite3.SQLITE_IOERR_SHMSIZE}
_FULL_ERRNO = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_ADVICE = {
    sqlite3.SQLITE_IOERR: "check the disk, then start again",
    sqlite3.SQLITE_BUSY: f"another program has held a lock on it for over {BUSY_WAIT_S:.0f} s, stop that program",
    sqlite3.SQLITE_CANTOPEN: "check that this user may read the file and its folder",
    sqlite3.SQLITE_READONLY: "check that this user may write the file and its folder",
}
_DAMAGED = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}


def first_position(topic_number: int) -> int:
    """Row id of the topic's record with offset 0."""
    return topic_number << OFFSET_BITS


def topic_checksum(topic: str) -> int:
    """What the chain of a topic's checksums starts from."""
    return crc32(topic.encode())


def record_checksum(before: int, offset: int, key: str, event_id: str, value: bytes, headers: str) -> int:
    """Checksum of a record whose predecessor has the checksum `before`. `headers`: as they stand in the file."""
    return crc32(value, crc32(f"{offset}\0{key}\0{event_id}\0{headers}\0".encode(), before))


def headers_text(headers: Headers) -> str:
    """Headers as they stand in the file: JSON, or nothing where there are none."""
    return json.dumps(headers, ensure_ascii=False) if headers else ""


def _headers(text: str) -> Headers:
    return tuple((name, value) for name, value in json.loads(text))


def mark_checksum(consumer: str, topic: str, offset: int) -> int:
    """Checksum of a row of `cursors` or `marks`."""
    return crc32(f"{consumer}\0{topic}\0{offset}\0".encode())


def as_log_error(error: Exception, path: Path) -> LogError:
    """The port's error, of one line, for what SQLite or the operating system raised at `path`."""
    if isinstance(error, LogError):
        return error
    code = getattr(error, "sqlite_errorcode", 0)
    said = " ".join(str(error).split())  # SQLite quotes a damaged statement with its line breaks.
    if code in _FULL or getattr(error, "errno", None) in _FULL_ERRNO:
        return LogFull(f"{path}: the disk took no more ({said}); make room and append again")
    if is_damage(error):
        return LogCorrupt(f"{path}: damaged ({said}); restore it from a copy, `bohdi verify` lists what is wrong")
    advice = _ADVICE.get(code & 0xFF)
    return LogError(f"{path}: {said}; {advice}" if advice else f"{path}: {said}")


def is_damage(error: Exception) -> bool:
    """Whether SQLite, or Python's reading of its texts and numbers, says that the file is not what was written."""
    code = getattr(error, "sqlite_errorcode", 0)
    # Python's own: a text that is not UTF-8, SQLite's message quoting such a text, a number that leads out of range.
    undecodable = isinstance(error, sqlite3.OperationalError) and not code and "decode" in str(error)
    return undecodable or isinstance(error, UnicodeDecodeError | OverflowError) or code & 0xFF in _DAMAGED


@contextmanager
def log_errors(path: Path) -> Iterator[None]:
    """Turns what SQLite and the operating system raise at `path` into the port's errors."""
    try:
        yield
    except (sqlite3.Error, OSError, UnicodeDecodeError, OverflowError) as error:
        raise as_log_error(error, path) from error


def connect(path: Path, *, writable: bool) -> sqlite3.Connection:
    """A connection to the file that is there. Raises sqlite3.Error, or LogError if no file is there.

    A read-only one works beside a host, and on read-only media too."""
    if not path.is_file():
        raise LogError(f"{path}: no such log; check the path")
    try:
        return _connect(path, "mode=rw" if writable else "mode=ro")
    except sqlite3.OperationalError as error:
        if writable or getattr(error, "sqlite_errorcode", 0) & 0xFF != sqlite3.SQLITE_CANTOPEN:
            raise
    # The folder takes no shared-memory file, so nobody writes here. With a write-ahead file left by a killed host,
    # SQLite can index that in this process's memory, if told that nobody else is there; `immutable` would ignore it.
    ahead = wal_of(path)
    if ahead.exists() and ahead.stat().st_size:
        return _connect(path, "mode=ro&vfs=unix-none", "PRAGMA locking_mode = EXCLUSIVE")
    return _connect(path, "mode=ro&immutable=1")


def _connect(path: Path, options: str, *pragmas: str) -> sqlite3.Connection:
    connection = sqlite3.connect(
        f"{path.absolute().as_uri()}?{options}",
        uri=True,
        timeout=BUSY_WAIT_S,
        isolation_level=None,  # This module begins and commits by itself.
        check_same_thread=False,
    )
    try:
        # FULL: a commit waits for the disk, so that a power cut loses nothing that was acknowledged.
        for pragma in (*pragmas, "PRAGMA synchronous = FULL", "PRAGMA cell_size_check = ON"):
            connection.execute(pragma)
        connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()  # The first reading is the true opening.
    except BaseException:
        connection.close()
        raise
    return connection


def wal_of(path: Path) -> Path:
    """SQLite's write-ahead file of the log at `path`: commits that are not in the file itself yet."""
    return path.with_name(path.name + "-wal")


class SqliteReader:
    """Reads a log's file, while a host writes it or not; never writes. The part of the port that only reads."""

    def __init__(self, path: Path, connection: sqlite3.Connection) -> None:
        self.path = path
        self._reading = connection
        self._one_at_a_time = threading.Lock()

    def close_reading(self) -> None:
        """Lets go of the file of a log opened by `open_readonly`."""
        self._reading.close()

    def query(self, sql: str, *values: Any) -> list[Any]:
        """All rows of one short query.

        Fetched whole under a lock: a statement left open would show its old snapshot to the queries of other threads
        and keep the write-ahead file from being emptied."""
        with self._one_at_a_time, log_errors(self.path):
            return self._reading.execute(sql, values).fetchall()

    def read(self, topic: str, start: int = 0, stop: int | None = None) -> Iterator[Stored]:
        """As the port says."""
        if start < 0:
            raise ValueError(f"start must not be below 0: {start}")
        end = self.end(topic)
        return self._records(topic, start, end if stop is None else min(stop, end))

    def end(self, topic: str) -> int:
        """As the port says."""
        rows = self.query("SELECT length FROM topics WHERE name = ?", topic)
        return rows[0][0] if rows else 0

    def topics(self) -> list[str]:
        """Names of the topics that hold a record, in the order in which they got their first."""
        return [name for _, name, _, _ in self.topic_rows()]

    def topic_rows(self) -> list[tuple[int, str, int, int]]:
        """Number, name, length and last checksum of each topic. Raises LogCorrupt for a row of other types."""
        rows = self.query("SELECT number, name, length, checksum FROM topics ORDER BY number")
        for row in rows:
            if [type(value) for value in row] != [int, str, int, int]:
                raise LogCorrupt(f"{self.path}: the topic {row} is not what was written; restore it from a copy")
        return rows

    def cursor(self, consumer: str, topic: str) -> int:
        """As the port says. Raises LogCorrupt if the row is not what was written."""
        offsets = self._marked("cursors", consumer, topic)
        return offsets.pop() if offsets else 0

    def done_beyond(self, consumer: str, topic: str) -> set[int]:
        """As the port says. Raises LogCorrupt if a row is not what was written."""
        return self._marked("marks", consumer, topic)

    def check(self) -> None:
        """The cheap check at opening: format, both ends of each topic, done marks; its time does not grow with the
        topics. Raises LogCorrupt or LogNewer."""
        with self._one_moment():
            self._check()

    def _check(self) -> None:
        self.check_format()
        for problem in self.problems_at_the_ends():
            raise LogCorrupt(f"{self.path}: {problem}; restore it from a copy, `bohdi verify` lists what is wrong")

    @contextmanager
    def _one_moment(self) -> Iterator[None]:
        """All queries within see the log as it is now: a host may append between two of them."""
        self.query("BEGIN")
        try:
            yield
        finally:
            with suppress(LogError):  # a damaged file may have ended it
                self.query("ROLLBACK")

    def problems_at_the_ends(self) -> Iterator[str]:
        """One line for each thing wrong at a topic's first or last record or in the done marks."""
        known = self.topic_rows()
        if [number for number, *_ in known] != self._topic_numbers_of_records():
            yield "the topics are not those of the records"
        for number, name, length, checksum in known:
            yield from self._problems_of_topic(number, name, length, checksum)
        lengths = {name: length for _, name, length, _ in known}
        for table in ("cursors", "marks"):
            for consumer, topic, offset, checksum in self.query(
                f"SELECT consumer, topic, offset, checksum FROM {table}"
            ):
                if checksum != mark_checksum(consumer, topic, offset):
                    yield f"the done mark {offset} of {consumer!r} on topic {topic!r} is not what was written"
                elif offset > lengths.get(topic, 0) - (table == "marks"):  # A cursor may stand at the end itself.
                    yield f"{consumer!r} has marked {offset} of topic {topic!r} done, which ends before"

    def _problems_of_topic(self, number: int, name: str, length: int, checksum: int) -> Iterator[str]:
        first, last = first_position(number), first_position(number) + length - 1
        try:
            self._batch(name, 0, 1)
        except LogCorrupt as error:
            yield str(error).removeprefix(f"{self.path}: ")
        if self.query("SELECT checksum FROM records WHERE position = ?", last) != [(checksum,)]:
            yield f"topic {name!r} offset {length - 1}: the last record is missing or is not the one written last"
        if self.query(
            "SELECT 1 FROM records WHERE position > ? AND position < ? LIMIT 1", last, first + (1 << OFFSET_BITS)
        ):
            yield f"topic {name!r} offset {length}: a record stands behind the end"

    def _topic_numbers_of_records(self) -> list[int]:
        """Numbers of the topics that have records, found by leaping from topic to topic."""
        numbers: list[int] = []
        leap = "SELECT position >> ? FROM records WHERE position >= ? ORDER BY position LIMIT 1"
        while rows := self.query(leap, OFFSET_BITS, first_position(numbers[-1] + 1) if numbers else 0):
            numbers.append(rows[0][0])
        return numbers

    def check_format(self) -> None:
        """Raises LogCorrupt if this is not a Bohdi log, LogNewer if it is one of a later format."""
        ((application,),) = self.query("PRAGMA application_id")
        ((version,),) = self.query("PRAGMA user_version")
        if application != APPLICATION_ID:
            raise LogCorrupt(f"{self.path}: not a Bohdi log; check the path")
        if version > FORMAT:
            raise LogNewer(f"{self.path}: written in format {version}, this program reads {FORMAT}; use a newer Bohdi")
        if version < FORMAT:
            raise LogCorrupt(
                f"{self.path}: written in format {version}, this program reads {FORMAT}; use an older Bohdi"
            )
        tables = {sql for (sql,) in self.query("SELECT sql FROM sqlite_schema WHERE sql IS NOT NULL")}
        if tables != set(SCHEMA):
            raise LogCorrupt(f"{self.path}: its tables are not those of format {FORMAT}; restore it from a copy")

    def _marked(self, table: str, consumer: str, topic: str) -> set[int]:
        rows = self.query(f"SELECT offset, checksum FROM {table} WHERE consumer = ? AND topic = ?", consumer, topic)
        for offset, checksum in rows:
            if checksum != mark_checksum(consumer, topic, offset):
                raise LogCorrupt(
                    f"{self.path}: the done mark {offset} of {consumer!r} on topic {topic!r} is not what was written;"
                    " restore it from a copy"
                )
        return {offset for offset, _ in rows}

    def _records(self, topic: str, start: int, stop: int) -> Iterator[Stored]:
        while start < stop:
            batch = self._batch(topic, start, stop)
            yield from batch
            start += len(batch)

    def _batch(self, topic: str, start: int, stop: int) -> list[Stored]:
        """One to READ_RECORDS records from `start` on, fewer if one fails its check. Raises LogCorrupt if the first
        one does. The records up to `stop` must have been written."""
        first, before = self._chain_before(topic, start)
        try:
            rows = self.query(
                "SELECT position, key, event_id, value, headers, checksum FROM records"
                " WHERE position >= ? AND position < ? ORDER BY position",
                first + start,
                first + min(stop, start + READ_RECORDS),
            )
        except LogCorrupt as error:
            if stop > start + 1:  # One by one, to give what is good and to name the one that is not.
                return self._batch(topic, start, start + 1)
            raise LogCorrupt(f"{self.path}: topic {topic!r} offset {start}: cannot be read ({error})") from error
        batch = _as_written(topic, start, first, before, rows)
        if batch:
            return batch
        found = "not what was written" if rows and rows[0][0] == first + start else "missing"
        raise LogCorrupt(f"{self.path}: topic {topic!r} offset {start}: the record is {found}; restore it from a copy")

    def _chain_before(self, topic: str, start: int) -> tuple[int, int]:
        """Position of the topic's first record, and the checksum that the record at `start` goes on from."""
        rows = self.query("SELECT number FROM topics WHERE name = ?", topic)
        if not rows:
            raise LogCorrupt(f"{self.path}: topic {topic!r} is missing; restore it from a copy")
        first = first_position(rows[0][0])
        if start == 0:
            return first, topic_checksum(topic)
        rows = self.query("SELECT checksum FROM records WHERE position = ?", first + start - 1)
        if not rows:
            raise LogCorrupt(
                f"{self.path}: topic {topic!r} offset {start - 1}: the record is missing; restore it from a copy"
            )
        return first, rows[0][0]


def open_readonly(path: Path) -> SqliteReader:
    """Opens the log for reading, after the cheap check. Raises LogError, LogCorrupt or LogNewer."""
    with log_errors(path), ExitStack() as undo:
        reader = SqliteReader(path, undo.enter_context(closing(connect(path, writable=False))))
        reader.check()
        undo.pop_all()
        return reader


def _as_written(topic: str, start: int, first: int, before: int, rows: list[Any]) -> list[Stored]:
    """The rows up to the first that does not go on from the one before it. This loop sets the speed of every fold."""
    good: list[Stored] = []
    offset, chain = start, before
    with suppress(TypeError):  # A damaged row can hold a value of another type.
        for position, key, event_id, value, headers, checksum in rows:
            chain = record_checksum(chain, offset, key, event_id, value, headers)
            if chain != checksum or position != first + offset:
                break
            good.append(Stored(topic, offset, key, event_id, value, _headers(headers) if headers else ()))
            offset += 1
    return good


def integrity(path: Path) -> Iterator[str]:
    """The full check, which reads the whole file: one line for each problem found, at most about PROBLEMS_LISTED a
    part. Gives nothing if the log is sound. Raises LogError if there is no such file or the disk fails."""
    try:
        with log_errors(path), closing(connect(path, writable=False)) as connection:
            reader = SqliteReader(path, connection)
            reader.check_format()
            yield from _problems_of_file(reader)
            yield from islice(reader.problems_at_the_ends(), PROBLEMS_LISTED)
            for topic in reader.topics():
                yield from islice(_problems_of_records(reader, topic), PROBLEMS_LISTED)
    except (LogCorrupt, LogNewer) as error:
        yield str(error)


def _problems_of_file(reader: SqliteReader) -> Iterator[str]:
    for (line,) in reader.query(f"PRAGMA integrity_check({PROBLEMS_LISTED})"):
        if line != "ok":
            yield f"{reader.path}: {line}"


def _problems_of_records(reader: SqliteReader, topic: str) -> Iterator[str]:
    """A line for each record that fails; the reading goes on behind it."""
    start, end = 0, reader.end(topic)
    while start < end:
        try:
            for stored in reader.read(topic, start, end):
                start = stored.offset + 1
        except LogCorrupt as error:
            yield str(error)
            start += 1
