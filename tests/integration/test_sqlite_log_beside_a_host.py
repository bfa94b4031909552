"""A log is opened for reading at any moment while its host appends."""

from __future__ import annotations

import asyncio
from pathlib import Path

from bohdi_common.log.port import Record
from bohdi_common.log.sqlite import SqliteLog
from bohdi_common.log.sqlite_file import open_readonly

OPENINGS = 300


async def test_a_reader_that_opens_between_two_appends_finds_a_sound_log(tmp_path: Path) -> None:
    log = SqliteLog.open(tmp_path / "log", create=True)
    await log.append([Record("facts", "run", "first", b"value")])
    looking = asyncio.create_task(asyncio.to_thread(_open_often, tmp_path / "log"))
    number = 0
    while not looking.done():
        await log.append([Record("facts", "run", str(number), b"value")])
        number += 1
    await looking
    await log.close()


def _open_often(path: Path) -> None:
    for _ in range(OPENINGS):
        open_readonly(path).close_reading()
