"""The report of a long run, from its log to the file, against decoding the same bytes."""

from __future__ import annotations

import tempfile
from pathlib import Path

from benchmarks.made_run import MadeRun
from benchmarks.rows import Measured
from benchmarks.timing import seconds
from bohdi.report.writing import Writer
from bohdi.run_places import run_place
from bohdi_common.events.events_pb2 import Event
from bohdi_common.events.topics import FEEDBACK
from bohdi_common.log.sqlite_file import open_readonly

_MILLION = 1_000_000


def written(made: MadeRun) -> Measured:
    """Seconds for a million events."""
    log = made.log()
    decode_s = seconds(lambda: _decode(log))
    with tempfile.TemporaryDirectory() as aside:
        report_s = seconds(lambda: _report(log.parent, Path(aside) / "report.html"))
    value = report_s * _MILLION / made.events
    return Measured(value, "s a million", "reading and decoding alone", decode_s / report_s)


def _decode(log: Path) -> None:
    reader = open_readonly(log)
    for stored in reader.read(FEEDBACK.name):
        Event.FromString(stored.value)
    reader.close_reading()


def _report(folder: Path, file: Path) -> None:
    writer = Writer(run_place(folder, None, None), file)
    writer.read_on()
    writer.write()
