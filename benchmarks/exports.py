"""A run written as tables (two readings, one fold, parquet and DuckDB), against decoding the same events once."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from itertools import count
from pathlib import Path

from benchmarks.folds import AS_IN_THE_DEMO, decode
from benchmarks.made_run import WORK
from benchmarks.rows import Measured
from benchmarks.timing import best_seconds
from bohdi.exports.run_tables import export
from bohdi.exports.training_sets import export_data
from bohdi.run_folder import RunFolder
from bohdi.run_places import FolderPlace, RunPlace
from bohdi_common.events.topics import FEEDBACK
from bohdi_common.log.sqlite_file import open_readonly

_TURNS = 2


def tables() -> Measured:
    """`bohdi export`."""
    return _written(export)


def training_sets() -> Measured:
    """`bohdi export-data`."""
    return _written(export_data)


def _written(write: Callable[[RunPlace, Path], object]) -> Measured:
    made = AS_IN_THE_DEMO
    file = made.log()
    log = open_readonly(file)
    values = [stored.value for stored in log.read(FEEDBACK.name)]
    log.close_reading()
    numbers = count()
    with tempfile.TemporaryDirectory(dir=WORK) as aside:
        write_s, decode_s = best_seconds(
            _TURNS,
            lambda: write(FolderPlace(RunFolder(file.parent)), Path(aside) / str(next(numbers))),
            lambda: decode(values),
        )
    against = f"protobuf decoding alone, {decode_s / made.events * 1e6:.1f} s a million events"
    return Measured(write_s / made.events * 1e6, "s a million events", against, decode_s / write_s)
