"""Durable appends: what callers of the log get, against SQLite's own commit of the same record on the same disk."""

from __future__ import annotations

import asyncio
import shutil
import sqlite3
import time
from contextlib import closing
from pathlib import Path

from benchmarks.rows import Measured
from bohdi_common.log.port import Record
from bohdi_common.log.sqlite import SqliteLog

WORK = Path("benchmarks/work/appends")
_VALUE = bytes(300)
_TURNS, _TURN_S = 5, 0.4
# A commit that makes the write-ahead file longer waits longer for the disk than one that writes over what was moved
# into the database: both files are made that long beforehand, or the one that grows for longer would look slower.
_WARM_RECORDS = 12_000
_WARM_RAW = (
    "INSERT INTO records (value) WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 20000)"
    " SELECT zeroblob(300) FROM n"
)


def per_second(callers: int) -> Measured:
    """One record an append, each awaited until a power cut would not lose it; the best turn counts."""
    shutil.rmtree(WORK, ignore_errors=True)
    WORK.mkdir(parents=True)
    rate, raw_rate = asyncio.run(_turns(callers))
    against = f"SQLite's own commits one by one, WAL, synchronous FULL, {raw_rate:,.0f}"
    return Measured(rate, "appends/s", against, rate / raw_rate)


async def _turns(callers: int) -> tuple[float, float]:
    log = SqliteLog.open(WORK / "log.sqlite", create=True)
    with closing(sqlite3.connect(WORK / "raw.sqlite", isolation_level=None)) as raw:
        raw.execute("PRAGMA journal_mode = WAL")
        raw.execute("PRAGMA synchronous = FULL")
        raw.execute("CREATE TABLE records (position INTEGER PRIMARY KEY, value BLOB NOT NULL)")
        try:
            await log.append([_record(f"warm-{n}") for n in range(_WARM_RECORDS)])
            raw.executescript(_WARM_RAW)
            turns = [(await _appends(log, callers, turn), _commits(raw)) for turn in range(_TURNS)]
        finally:
            await log.close()
    rates, raw_rates = zip(*turns, strict=True)
    return max(rates), max(raw_rates)


def _record(event_id: str) -> Record:
    return Record("bohdi.feedback", "run", event_id, _VALUE)


async def _appends(log: SqliteLog, callers: int, turn: int) -> float:
    end_s = time.perf_counter() + _TURN_S

    async def caller(number: int) -> int:
        done = 0
        while time.perf_counter() < end_s:
            await log.append([_record(f"{turn}-{number}-{done}")])
            done += 1
        return done

    start_s = time.perf_counter()
    done = sum(await asyncio.gather(*map(caller, range(callers))))
    return done / (time.perf_counter() - start_s)


def _commits(raw: sqlite3.Connection) -> float:
    start_s, done = time.perf_counter(), 0
    while time.perf_counter() < start_s + _TURN_S:
        raw.execute("INSERT INTO records (value) VALUES (?)", (_VALUE,))  # in a transaction of its own
        done += 1
    return done / (time.perf_counter() - start_s)
