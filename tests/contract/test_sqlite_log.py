"""The event log of the local host keeps the port's contract, and what only it can promise."""

from __future__ import annotations

import asyncio
import os
import sqlite3
from pathlib import Path

import pytest

from bohdi_common.core.limits import RECORD_BYTES_MAX
from bohdi_common.log import sqlite
from bohdi_common.log.port import Done, LogBusy, LogError
from bohdi_common.log.sqlite import SqliteLog
from bohdi_common.log.sqlite_file import integrity
from tests.contract.event_log_contract import PROMPT_S, EventLogContract, ids, record


class TestSqliteLog(EventLogContract):
    async def open(self, folder: Path) -> SqliteLog:
        return SqliteLog.open(folder / "run.log", create=True)

    async def test_a_mark_behind_the_end_is_refused(self, log: SqliteLog) -> None:
        await log.append([record("a")])
        with pytest.raises(LogError, match=r"offset=2\) cannot be set: the topic has 2 records"):
            await log.append([record("b")], Done("judge", "facts", 2))
        assert ids(log) == ["a"]

    async def test_an_input_its_outputs_and_its_mark_may_be_one_append(self, log: SqliteLog) -> None:
        await log.append([record("a"), record("b", "other")], Done("judge", "facts", 0))
        assert log.cursor("judge", "facts") == 1

    async def test_a_record_over_the_limit_is_refused(self, log: SqliteLog) -> None:
        at_limit = record("a", value=bytes(RECORD_BYTES_MAX))
        await log.append([at_limit])
        with pytest.raises(LogError, match="event 'b' has 4194305 bytes, over 4194304"):
            await log.append([record("b", value=bytes(RECORD_BYTES_MAX + 1))])
        assert ids(log) == ["a"]

    async def test_more_callers_than_the_queue_holds_are_all_served(self, log: SqliteLog) -> None:
        callers = sqlite.APPENDS_WAITING_MAX + 500
        offsets = await asyncio.gather(*(log.append([record(str(i))]) for i in range(callers)))
        assert sorted(offset for (offset,) in offsets) == list(range(callers))

    async def test_appends_that_wait_share_a_commit(self, log: SqliteLog, monkeypatch: pytest.MonkeyPatch) -> None:
        groups: list[int] = []
        commit = log._commit
        monkeypatch.setattr(log, "_commit", lambda group: (groups.append(len(group)), commit(group))[1])
        await asyncio.gather(*(log.append([record(str(i))]) for i in range(500)))
        assert sum(groups) == 500
        assert len(groups) < 50
        assert max(groups) <= sqlite.APPENDS_PER_COMMIT_MAX

    async def test_a_commit_waits_for_the_disk(self, log: SqliteLog) -> None:
        """No test can cut the power; these two settings are what SQLite asks for."""
        assert log._writing.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        assert log._writing.execute("PRAGMA synchronous").fetchone() == (2,)

    async def test_an_append_after_closing_is_refused(self, tmp_path: Path) -> None:
        log = await self.open(tmp_path)
        await log.close()
        for _ in range(sqlite.APPENDS_WAITING_MAX + 1):  # and takes no room from the next, which would wait for ever
            with pytest.raises(LogError, match="the log is closed"):
                await asyncio.wait_for(log.append([record("a")]), PROMPT_S)

    async def test_after_the_disk_has_failed_nothing_more_is_taken(
        self, log: SqliteLog, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """What a failed fsync was to write may be lost, though a later one says that all is well."""

        def failing(group: object) -> list[list[int]]:
            error = sqlite3.OperationalError("disk I/O error")
            error.sqlite_errorcode = sqlite3.SQLITE_IOERR_FSYNC
            raise error

        with monkeypatch.context() as broken:
            broken.setattr(log, "_commit", failing)
            with pytest.raises(LogError, match="check the disk, then start again"):
                await log.append([record("a")])
        with pytest.raises(LogError, match="check the disk, then start again"):
            await log.append([record("b")])
        assert ids(log) == []

    async def test_what_a_host_left_that_was_killed_while_it_made_the_log_is_in_nobodys_way(
        self, tmp_path: Path
    ) -> None:
        (tmp_path / "run.log.new").write_bytes(b"half of a file")
        (tmp_path / "run.log.lock").write_text("99999999999")  # a longer pid than any
        log = await self.open(tmp_path)
        with pytest.raises(LogBusy, match=rf"the host with pid {os.getpid()} has this log open"):
            await self.open(tmp_path)
        await log.append([record("a")])
        await log.close()

    async def test_a_consumer_that_has_done_all_leaves_a_sound_log(self, tmp_path: Path) -> None:
        log = await self.open(tmp_path)
        await log.append([record("a")])
        await log.append([], Done("judge", "facts", 0))
        await log.close()
        assert list(integrity(tmp_path / "run.log")) == []
        await (await self.open(tmp_path)).close()

    async def test_marks_below_the_cursor_take_no_room(self, log: SqliteLog) -> None:
        await log.append([record(str(i)) for i in range(50)])
        for offset in (*range(1, 40), 0, 45):
            await log.append([], Done("judge", "facts", offset))
        assert log.query("SELECT offset FROM marks") == [(45,)]
        assert log.query("SELECT offset FROM cursors") == [(40,)]

    @pytest.mark.parametrize(
        "statement",
        [
            "UPDATE records SET value = x'00'",
            "DELETE FROM records",
            "INSERT OR REPLACE INTO records SELECT position, topic, key, event_id, x'00', '', checksum FROM records",
            "INSERT OR REPLACE INTO records SELECT position+9, topic, key, event_id, x'00', '', checksum FROM records",
        ],
    )
    async def test_a_record_cannot_be_changed_or_removed(self, log: SqliteLog, statement: str) -> None:
        await log.append([record("a")])
        other = sqlite3.connect(log.path)
        with pytest.raises(sqlite3.IntegrityError, match="a record is never"):
            other.execute(statement)
        other.close()
        assert [stored.value for stored in log.read("facts")] == [b"value"]
