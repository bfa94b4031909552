"""The SQLite log under kill -9, damaged files, full disks and second hosts; with real files and processes."""

from __future__ import annotations

import asyncio
import os
import random
import resource
import shutil
import signal
import sqlite3
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from bohdi_common.log.port import Done, LogBusy, LogCorrupt, LogError, LogFull, LogNewer, Record, Stored
from bohdi_common.log.sqlite import SqliteLog
from bohdi_common.log.sqlite_file import integrity, mark_checksum, open_readonly

KILLS = 20
FLIPS = 200


def facts(count: int, size: int = 300) -> list[Record]:
    """Records whose every value is another and can be found in the file."""
    return [
        Record("facts", f"key-{i:04d}", f"id-{i:04d}", f"value-{i:04d}-".encode() + bytes(size)) for i in range(count)
    ]


async def make_log(path: Path, count: int = 300) -> None:
    log = SqliteLog.open(path, create=True)
    await log.append(facts(count))
    await log.append([Record("other", "key", f"other-{i}", b"x") for i in range(20)], Done("judge", "facts", 0))
    for offset in (1, 2, 5, 7):
        await log.append([], Done("judge", "facts", offset))
    await log.close()


@pytest.fixture
async def path(tmp_path: Path) -> Path:
    """A sound log of two topics, closed: all of it is in the one file."""
    path = tmp_path / "run.log"
    await make_log(path)
    return path


def start_child(program: str, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(program), *arguments], stdout=subprocess.PIPE, text=True
    )


def contents(path: Path) -> tuple[dict[str, list[Stored]], int, set[int]]:
    """All that a reader can be told. Raises LogError."""
    reader = open_readonly(path)
    try:
        return (
            {topic: list(reader.read(topic)) for topic in ("facts", "other")},
            reader.cursor("judge", "facts"),
            reader.done_beyond("judge", "facts"),
        )
    finally:
        reader.close_reading()


def flip(path: Path, position: int, mask: int = 0xFF) -> None:
    with path.open("r+b") as file:
        file.seek(position)
        byte = file.read(1)[0]
        file.seek(position)
        file.write(bytes([byte ^ mask]))


def tamper(path: Path, *statements: str) -> None:
    """Changes the file behind the log's back, without the triggers."""
    connection = sqlite3.connect(path, isolation_level=None)
    triggers = connection.execute("SELECT name, sql FROM sqlite_schema WHERE type = 'trigger'").fetchall()
    for name, _ in triggers:
        connection.execute(f"DROP TRIGGER {name}")
    for statement in (*statements, *(sql for _, sql in triggers)):
        connection.execute(statement)
    connection.close()


# A killed host

WRITER = """
    import asyncio, sys
    from pathlib import Path
    from bohdi_common.log.port import Done, Record
    from bohdi_common.log.sqlite import SqliteLog

    async def caller(log, name):
        for i in range(100_000):
            (given,) = await log.append([Record("in", "k", f"{name}-{i}", b"i" * 100)])
            (made,) = await log.append([Record("out", str(given), f"{name}-{i}", b"o" * 100)], Done("c", "in", given))
            print(f"{name}-{i}", given, made, flush=True)

    async def main():
        log = SqliteLog.open(Path(sys.argv[1]), create=True)
        await asyncio.gather(*(caller(log, f"{sys.argv[2]}-{i}") for i in range(4)))

    asyncio.run(main())
"""


async def test_what_was_acknowledged_is_there_after_kill_9(tmp_path: Path) -> None:
    path = tmp_path / "run.log"
    moments = random.Random(1)
    acknowledged: dict[str, tuple[int, int]] = {}
    for kill in range(KILLS):
        child = start_child(WRITER, str(path), f"life{kill}")
        assert child.stdout is not None
        lines = [child.stdout.readline()]
        time.sleep(moments.uniform(0, 0.3))
        child.send_signal(signal.SIGKILL)
        lines += child.stdout.read().splitlines(keepends=True)
        child.wait()
        for line in lines:
            if line.endswith("\n"):
                name, given, made = line.split()
                acknowledged[name] = (int(given), int(made))
        reader = open_readonly(path)
        given_at = {stored.event_id: stored.offset for stored in reader.read("in")}
        outputs = list(reader.read("out"))
        made_at = {stored.event_id: stored.offset for stored in outputs}
        assert acknowledged.items() <= {name: (given_at[name], made_at[name]) for name in made_at}.items()
        marked = set(range(reader.cursor("c", "in"))) | reader.done_beyond("c", "in")
        assert marked == {int(stored.key) for stored in outputs}, "an output without its mark, or a mark without"
        reader.close_reading()
    assert len(acknowledged) > KILLS
    assert list(integrity(path)) == []


# A second host

HOLDER = """
    import asyncio, sys
    from pathlib import Path
    from bohdi_common.log.sqlite import SqliteLog

    async def main():
        log = SqliteLog.open(Path(sys.argv[1]), create=True)
        print("open", flush=True)
        await asyncio.sleep(60)

    asyncio.run(main())
"""


async def test_a_second_host_is_refused_with_the_pid_of_the_first_until_that_is_killed(tmp_path: Path) -> None:
    path = tmp_path / "run.log"
    holder = start_child(HOLDER, str(path))
    assert holder.stdout is not None
    assert holder.stdout.readline() == "open\n"
    with pytest.raises(LogBusy, match=f"run.log: the host with pid {holder.pid} has this log open; stop it"):
        SqliteLog.open(path, create=False)
    holder.kill()
    holder.wait()
    await SqliteLog.open(path, create=False).close()


async def test_a_host_that_closed_leaves_the_log_to_the_next(tmp_path: Path) -> None:
    path = tmp_path / "run.log"
    first = SqliteLog.open(path, create=True)
    with pytest.raises(LogBusy, match=f"pid {os.getpid()} "):
        SqliteLog.open(path, create=True)
    await first.close()
    await SqliteLog.open(path, create=False).close()


# Readers beside the host, on copies and on read-only media


async def test_a_reader_sees_what_the_host_has_committed_while_it_writes(tmp_path: Path) -> None:
    path = tmp_path / "run.log"
    log = SqliteLog.open(path, create=True)
    await log.append(facts(1))
    reader = open_readonly(path)

    async def write() -> None:
        for record in facts(200):
            await log.append([record])

    writing = asyncio.create_task(write())
    seen = [0]
    while not writing.done():
        seen.append(len(await asyncio.to_thread(lambda: list(reader.read("facts")))))
    await writing
    assert seen == sorted(seen)
    assert len(set(seen)) > 3
    assert reader.end("facts") == 200
    assert list(await asyncio.to_thread(lambda: list(integrity(path)))) == []
    reader.close_reading()
    await log.close()


def mount(*arguments: str | Path) -> bool:
    """Whether this user may mount that, and has."""
    return subprocess.run(["mount", *arguments], check=False, capture_output=True).returncode == 0


@contextmanager
def read_only(folder: Path) -> Iterator[None]:
    """Makes the folder read-only: for root, whom permissions do not stop, by a mount."""
    if mount("--bind", folder, folder):
        assert mount("-o", "remount,ro,bind", folder)
        undo = [["umount", "--lazy", folder]]  # Lazy: a test that failed may still hold a file.
    else:
        files = list(folder.iterdir())
        subprocess.run(["chmod", "a-w", *files, folder], check=True)
        undo = [["chmod", "u+w", folder, *files]]
    try:
        yield
    finally:
        for command in undo:
            subprocess.run(command, check=True)


@pytest.mark.parametrize("left", [["run.log"], ["run.log", "run.log-wal"], ["run.log", "run.log-wal", "run.log-shm"]])
async def test_a_copied_folder_can_be_read_where_nothing_can_be_written(tmp_path: Path, left: list[str]) -> None:
    """Whether its host closed it, or was killed with commits that only the write-ahead file holds."""
    path = tmp_path / "run.log"
    log = SqliteLog.open(path, create=True)
    await log.append(facts(50))
    if left == ["run.log"]:
        await log.close()
    copy = tmp_path / "copy"
    copy.mkdir()
    for name in left:
        shutil.copy(tmp_path / name, copy / name)
    with read_only(copy):
        reader = open_readonly(copy / "run.log")
        assert [stored.event_id for stored in reader.read("facts")] == [record.event_id for record in facts(50)]
        reader.close_reading()
        assert list(integrity(copy / "run.log")) == []
    await log.close()


def test_a_missing_log_is_named(tmp_path: Path) -> None:
    for opening in (open_readonly, lambda path: SqliteLog.open(path, create=False), lambda path: list(integrity(path))):
        with pytest.raises(LogError, match=r"run.log: no such log"):
            opening(tmp_path / "run.log")
    assert list(tmp_path.iterdir()) == []


# Damage


@pytest.mark.parametrize("part", ["key", "id", "value"])
@pytest.mark.parametrize("offset", [0, 150, 299])
async def test_a_flipped_byte_of_a_record_is_named_by_its_offset(path: Path, part: str, offset: int) -> None:
    content = path.read_bytes()
    # Found by all three together: an id alone stands in the index too.
    record_at = content.index(f"key-{offset:04d}id-{offset:04d}value-{offset:04d}".encode())
    flip(path, content.index(f"{part}-{offset:04d}".encode(), record_at) + 2, mask=0x01)
    with pytest.raises(LogCorrupt, match=f"topic 'facts' offset {offset}: "):
        contents(path)
    problems = list(integrity(path))
    assert [line for line in problems if f"topic 'facts' offset {offset}: " in line]
    assert not [line for line in problems if "topic 'facts' offset" in line and f"offset {offset}: " not in line]


async def test_the_records_before_a_damaged_one_are_given_and_those_behind_it_can_be(path: Path) -> None:
    flip(path, path.read_bytes().index(b"value-0150"), mask=0x01)
    reader = open_readonly(path)
    given: list[int] = []
    with pytest.raises(LogCorrupt, match="offset 150: the record is not what was written"):
        given.extend(stored.offset for stored in reader.read("facts"))
    assert given == list(range(150))
    assert [stored.offset for stored in reader.read("facts", 151)] == list(range(151, 300))
    reader.close_reading()


async def test_following_raises_at_a_damaged_record(path: Path) -> None:
    flip(path, path.read_bytes().index(b"value-0150"), mask=0x01)
    log = SqliteLog.open(path, create=False)
    given: list[int] = []
    with pytest.raises(LogCorrupt, match="offset 150: "):
        async for stored in log.follow("facts", 0):
            given.append(stored.offset)
    assert given == list(range(150))
    await log.close()


FACTS = 1 << 40

TAMPERINGS = {
    "removed in the middle": ([f"DELETE FROM records WHERE position = {FACTS + 9}"], "offset 9: the record is missing"),
    "removed at the end": ([f"DELETE FROM records WHERE position = {FACTS + 299}"], "offset 299: the last record"),
    "removed and the others moved up": (
        [
            f"DELETE FROM records WHERE position = {FACTS + 9}",
            f"UPDATE records SET position = position - 1 WHERE topic = 1 AND position > {FACTS + 9}",
        ],
        "offset 299: the last record",
    ),
    "two swapped": (
        [
            f"UPDATE records SET position = -1 WHERE position = {FACTS + 9}",
            f"UPDATE records SET position = {FACTS + 9} WHERE position = {FACTS + 10}",
            f"UPDATE records SET position = {FACTS + 10} WHERE position = -1",
        ],
        "offset 9: the record is not what was written",
    ),
    "added": (
        [f"INSERT INTO records VALUES ({FACTS + 300}, 1, 'k', 'new', x'00', '', 0)"],
        "offset 300: a record stands behind the end",
    ),
    "topic removed": (["DELETE FROM topics WHERE number = 2"], "the topics are not those of the records"),
    "topic renamed": (
        ["UPDATE topics SET name = 'faces' WHERE number = 1"],
        "topic 'faces' offset 0: the record is not",
    ),
    "text that is no UTF-8": (
        [f"UPDATE records SET key = CAST(x'ff' AS TEXT) WHERE position = {FACTS + 9}"],
        "offset 9: cannot be read",
    ),
    "cursor moved": (["UPDATE cursors SET offset = 9"], "the done mark 9 of 'judge' on topic 'facts' is not what"),
    "mark moved": (
        ["UPDATE marks SET offset = 9 WHERE offset = 7"],
        "the done mark 9 of 'judge' on topic 'facts' is not",
    ),
    "table removed": (["DROP TABLE marks"], "its tables are not those of format 2"),
    "table added": (["CREATE TABLE more (x)"], "its tables are not those of format 2"),
}


@pytest.mark.parametrize("statements, expected", TAMPERINGS.values(), ids=TAMPERINGS.keys())
async def test_tampering_is_seen_by_readers_and_by_the_full_check(
    path: Path, statements: list[str], expected: str
) -> None:
    tamper(path, *statements)
    with pytest.raises(LogCorrupt, match=expected):
        contents(path)
    assert [line for line in integrity(path) if expected in line]


async def test_a_mark_beyond_the_end_is_found(path: Path) -> None:
    checksum = mark_checksum("judge", "facts", 300)
    tamper(path, f"INSERT INTO marks VALUES ('judge', 'facts', 300, {checksum})")
    assert list(integrity(path)) == ["'judge' has marked 300 of topic 'facts' done, which ends before"]


async def test_a_truncated_file_gives_one_clear_error(path: Path) -> None:
    whole = path.read_bytes()
    for length in (0, 1, 50, 100, 4096, 5000, len(whole) // 2, len(whole) - 4096, len(whole) - 1):
        path.write_bytes(whole[:length])
        with pytest.raises(LogCorrupt) as raised:
            contents(path)
        assert str(raised.value).startswith(f"{path}: ")
        assert "\n" not in str(raised.value)
        assert list(integrity(path)), length
        with suppress(LogCorrupt):  # The host may open a log whose middle is gone; it never starts it anew.
            await SqliteLog.open(path, create=True).close()
        assert path.stat().st_size >= length


async def test_any_flipped_byte_is_detected_or_harmless(path: Path) -> None:
    """Harmless: the reader is told all that was written, and no mark that was not set."""
    expected = contents(path)
    whole = path.read_bytes()
    positions = random.Random(2)
    detected = 0
    for _ in range(FLIPS):
        position, mask = positions.randrange(len(whole)), positions.randrange(1, 256)
        path.write_bytes(whole)
        flip(path, position, mask)
        problems = list(integrity(path))
        try:
            found = contents(path)
        except LogError:
            assert problems, (position, mask)
            detected += 1
        else:
            assert found == expected or problems, (position, mask)
            assert found[0] == expected[0], (position, mask)
            assert found[1] <= expected[1], (position, mask)
            assert found[2] <= expected[2], (position, mask)
    assert detected > FLIPS / 4


async def test_a_torn_write_ahead_file_is_cut_back_to_its_last_whole_commit(tmp_path: Path) -> None:
    log = SqliteLog.open(tmp_path / "run.log", create=True)
    for record in facts(20):
        await log.append([record])
    copy = tmp_path / "copy.log"
    shutil.copy(tmp_path / "run.log", copy)
    ahead = (tmp_path / "run.log-wal").read_bytes()
    await log.close()
    (tmp_path / "copy.log-wal").write_bytes(ahead[:-1000])
    again = SqliteLog.open(copy, create=False)
    assert await again.append(facts(20)) == list(range(20))
    assert [stored.event_id for stored in again.read("facts")] == [record.event_id for record in facts(20)]
    await again.close()
    assert list(integrity(copy)) == []


def test_a_file_of_another_kind_is_refused_and_left_alone(tmp_path: Path) -> None:
    text, database = tmp_path / "text", tmp_path / "database"
    text.write_bytes(b"not a database " * 1000)
    connection = sqlite3.connect(database)
    connection.execute("CREATE TABLE theirs (x)")
    connection.close()
    for path, expected in ((text, "file is not a database"), (database, "not a Bohdi log")):
        before = path.read_bytes()
        for opening in (open_readonly, lambda path: SqliteLog.open(path, create=True)):
            with pytest.raises(LogCorrupt, match=f"{path}: .*{expected}"):
                opening(path)
        assert path.read_bytes() == before


@pytest.mark.parametrize(("version", "error", "use"), [(3, LogNewer, "a newer"), (1, LogCorrupt, "an older")])
async def test_another_format_is_refused(path: Path, version: int, error: type[LogError], use: str) -> None:
    connection = sqlite3.connect(path)
    connection.execute(f"PRAGMA user_version = {version}")
    connection.close()
    line = f"{path}: written in format {version}, this program reads 2; use {use} Bohdi"
    for opening in (open_readonly, lambda path: SqliteLog.open(path, create=True)):
        with pytest.raises(error, match=line):
            opening(path)
    assert list(integrity(path)) == [line]


def test_a_write_ahead_file_without_its_log_is_not_taken_for_a_new_log(tmp_path: Path) -> None:
    (tmp_path / "run.log-wal").write_bytes(b"commits")
    with pytest.raises(LogCorrupt, match=r"run.log-wal: its log run.log is missing"):
        SqliteLog.open(tmp_path / "run.log", create=True)


# A full disk


@contextmanager
def small_disk(folder: Path, kind: str) -> Iterator[Callable[[], object]]:
    """Makes `folder` take about 1 MB; gives what makes more room. Where a mount is refused, a file size limit."""
    folder.mkdir()
    mounted = kind == "disk" and mount("-t", "tmpfs", "-o", "size=1m", "tmpfs", folder)
    if mounted:
        try:
            yield lambda: mount("-o", "remount,size=8m", folder)
        finally:
            subprocess.run(["umount", "--lazy", folder], check=True)
        return
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (700_000, before[1]))
    try:
        yield lambda: resource.setrlimit(resource.RLIMIT_FSIZE, before)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("kind", ["disk", "file size limit"])
async def test_a_full_disk_refuses_an_append_whole_and_goes_on_once_there_is_room(tmp_path: Path, kind: str) -> None:
    folder = tmp_path / "small"
    with small_disk(folder, kind) as make_room:
        path = folder / "run.log"
        log = SqliteLog.open(path, create=True)
        await log.append(facts(1))
        written = [facts(1)[0].event_id]

        async def fill(name: str, size: int) -> None:
            pair = [Record("facts", "k", f"{name}-{part}", bytes(size)) for part in "ab"]
            await log.append(pair, Done("judge", "facts", 0))
            written.extend(record.event_id for record in pair)

        with pytest.raises(LogFull, match=r"run.log: the disk took no more \(.*\); make room"):
            for i in range(100):
                await fill(f"fill{i}", 20_000)
        outcomes = await asyncio.gather(
            fill("small-1", 100), fill("huge", 3_000_000), fill("small-2", 100), return_exceptions=True
        )
        assert isinstance(outcomes[1], LogFull)
        assert sorted(stored.event_id for stored in log.read("facts")) == sorted(written)
        make_room()
        await fill("room", 20_000)
        await log.close()
        assert sorted(stored.event_id for stored in contents(path)[0]["facts"]) == sorted(written)
        assert "room-b" in written
        assert list(integrity(path)) == []
