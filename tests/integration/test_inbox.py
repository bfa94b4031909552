"""The command inbox: what the command line leaves for the host reaches the log, in order, once."""

from __future__ import annotations

import logging
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from bohdi_common.log import inbox
from bohdi_common.log.port import LogError, Record
from bohdi_common.log.sqlite import SqliteLog


def command(name: str, value: bytes = b"pause\n\0") -> Record:
    return Record("facts", "ключ", name, value)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "inbox"


@pytest.fixture
async def log(tmp_path: Path) -> AsyncIterator[SqliteLog]:
    log = SqliteLog.open(tmp_path / "run.log", create=True)
    yield log
    await log.close()


def names(log: SqliteLog) -> list[str]:
    return [stored.event_id for stored in log.read("facts")]


def test_what_is_put_is_taken_as_it_was_and_in_order(folder: Path) -> None:
    put = [command(str(i), bytes([i])) for i in range(20)] + [command("", b""), command("\n", b"\n" * 3)]
    paths = [inbox.put(folder, record) for record in put]
    assert inbox.take(folder) == list(zip(paths, put, strict=True))
    assert inbox.take(folder) == list(zip(paths, put, strict=True)), "taking removes nothing"


def test_an_inbox_that_is_not_there_is_empty(folder: Path) -> None:
    assert inbox.take(folder) == []


async def test_draining_appends_and_then_removes(folder: Path, log: SqliteLog) -> None:
    for name in "abc":
        inbox.put(folder, command(name))
    assert await inbox.drain(folder, log) == 3
    assert names(log) == ["a", "b", "c"]
    assert list(folder.iterdir()) == []
    assert await inbox.drain(folder, log) == 0


async def test_a_command_left_by_a_crash_after_its_append_counts_once(folder: Path, log: SqliteLog) -> None:
    inbox.put(folder, command("a"))
    await log.append([command("a")])
    assert await inbox.drain(folder, log) == 1
    assert names(log) == ["a"]


async def test_a_command_that_the_log_refuses_stays_with_those_behind_it(folder: Path, log: SqliteLog) -> None:
    for name in "abc":
        inbox.put(folder, command(name))

    class FailsAtB(SqliteLog):
        async def append(self, records, done=None):  # type: ignore[no-untyped-def]
            if records[0].event_id == "b":
                raise LogError("refused")
            return await log.append(records, done)

    failing = FailsAtB.__new__(FailsAtB)
    with pytest.raises(LogError, match="refused"):
        await inbox.drain(folder, failing)
    assert names(log) == ["a"]
    assert [record.event_id for _, record in inbox.take(folder)] == ["b", "c"]


def damaged(content: bytes) -> bytes:
    return content[:-1] + bytes([content[-1] ^ 1])


BAD = {
    "empty": lambda content: b"",
    "cut": lambda content: content[:-1],
    "damaged": damaged,
    "not a command": lambda content: b"hello",
    "a list": lambda content: inbox_file(b"[1, 2]\nvalue"),
    "a number as the key": lambda content: inbox_file(b'{"topic": "t", "key": 1, "event_id": "e"}\nvalue'),
    "a field too many": lambda content: inbox_file(b'{"topic": "t", "key": "k", "event_id": "e", "x": "y"}\nvalue'),
    "a lone surrogate": lambda content: inbox_file(b'{"topic": "t", "key": "\\ud800", "event_id": "e"}\nvalue'),
    "deep": lambda content: inbox_file(b"[" * 100_000),
    "too long": lambda content: content + bytes(inbox.COMMAND_BYTES_MAX),
}


def inbox_file(body: bytes) -> bytes:
    return b"%08x\n" % inbox.crc32(body) + body


@pytest.mark.parametrize("spoil", BAD.values(), ids=BAD.keys())
async def test_what_is_no_command_is_moved_aside_with_a_warning(
    folder: Path, log: SqliteLog, caplog: pytest.LogCaptureFixture, spoil
) -> None:
    bad = inbox.put(folder, command("bad"))
    content = spoil(bad.read_bytes())
    bad.write_bytes(content)
    inbox.put(folder, command("good"))
    with caplog.at_level(logging.WARNING):
        assert await inbox.drain(folder, log) == 1
    assert names(log) == ["good"]
    assert (folder / inbox.REFUSED / bad.name).read_bytes() == content
    assert f"{bad}: no command (" in caplog.text


async def test_links_and_pipes_are_moved_aside(folder: Path, log: SqliteLog) -> None:
    good = inbox.put(folder, command("good"))
    (folder / f"1{inbox.SUFFIX}").symlink_to(good)
    os.mkfifo(folder / f"2{inbox.SUFFIX}")
    assert await inbox.drain(folder, log) == 1
    assert names(log) == ["good"]
    assert len(list((folder / inbox.REFUSED).iterdir())) == 2


def test_a_command_being_written_is_not_taken(folder: Path) -> None:
    inbox.put(folder, command("a")).rename(folder / "1.part")
    assert inbox.take(folder) == []


def test_a_full_inbox_takes_no_more(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inbox, "COMMANDS_MAX", 3)
    for name in "abc":
        inbox.put(folder, command(name))
    with pytest.raises(LogError, match="3 commands wait already; start the run's host"):
        inbox.put(folder, command("d"))
    assert len(inbox.take(folder)) == 3


async def test_a_long_queue_is_drained_in_portions(
    folder: Path, log: SqliteLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inbox, "COMMANDS_TAKEN_MAX", 2)
    for name in "abc":
        inbox.put(folder, command(name))
    assert [await inbox.drain(folder, log) for _ in range(3)] == [2, 1, 0]
    assert names(log) == ["a", "b", "c"]


def test_a_command_over_the_limit_is_refused_at_putting(folder: Path) -> None:
    with pytest.raises(LogError, match="over the limit of 1048576"):
        inbox.put(folder, command("a", bytes(inbox.COMMAND_BYTES_MAX)))
    assert inbox.take(folder) == []


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "inbox").write_text("a file")
    with pytest.raises(LogError, match=f"{tmp_path / 'inbox'}: the command cannot be left there"):
        inbox.put(tmp_path / "inbox", command("a"))
