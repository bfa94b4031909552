"""What reads a whole log, on one of a million events with their texts, against decoding the same bytes.

The log is one run of the simulator, as the services record it; it is kept in benchmarks/work/ and used again. Each
command is a process of its own; CPU seconds count, its start among them. One that needs more memory than MEMORY fails.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from benchmarks.made_run import WORK
from benchmarks.rows import Measured
from bohdi_common.events.events_pb2 import Event
from bohdi_common.events.topics import FEEDBACK
from bohdi_common.log.sqlite_file import open_readonly

MEMORY = 4 * 2**30  # bytes
_MILLION = 1_000_000
_BOHDI = [sys.executable, "-W", "ignore", "-m", "bohdi"]
_MADE_BY = 1  # to be raised with every change of the simulator's events: older logs are then made anew


@dataclass(frozen=True)
class LongLog:
    """A run's folder of so many events; `text_bytes`: of each question and answer."""

    events: int
    text_bytes: int

    def folder(self) -> Path:
        """Made if it is not there yet."""
        folder = WORK / f"simulated-{self.events}-{self.text_bytes}-{_MADE_BY}"
        if not folder.exists():
            aside = folder.with_suffix(".making")
            shutil.rmtree(aside, ignore_errors=True)
            _run("simulate", "--log", aside, "--events", self.events, "--text-bytes", self.text_bytes)
            aside.rename(folder)
        return folder

    def read_by(self, command: str) -> Measured:
        """CPU seconds for a million events of `bohdi COMMAND`. Raises RuntimeError when it fails or takes more than
        MEMORY."""
        folder, decode_s = self.folder(), _decode_s(self.folder())
        with tempfile.TemporaryDirectory(dir=WORK) as aside:
            told = {"export": ["--to", Path(aside) / "out"], "report": ["--out", Path(aside) / "report.html"]}
            cpu_s, peak = _run(command, folder, *told.get(command, []))
        if peak > MEMORY:
            raise RuntimeError(f"bohdi {command} took {peak / 2**20:,.0f} MiB, more than {MEMORY / 2**20:,.0f}")
        bare_s = decode_s * _MILLION / self.events
        against = f"reading and decoding alone, {bare_s:.1f} s; {peak / 2**20:,.0f} MiB at its peak"
        return Measured(cpu_s * _MILLION / self.events, "CPU s a million", against, decode_s / cpu_s)


THE_LOG = LongLog(_MILLION, 1_000)


def _run(*told: object) -> tuple[float, int]:
    """CPU seconds, and bytes at the peak, of a command. Raises RuntimeError with the end of what it said."""
    with tempfile.TemporaryFile() as said:
        process = subprocess.Popen([*_BOHDI, *map(str, told)], stdout=said, stderr=subprocess.STDOUT)
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            said.seek(0)
            raise RuntimeError(f"bohdi {told[0]} ended with {process.returncode}: {said.read()[-300:].decode()}")
    return used.ru_utime + used.ru_stime, used.ru_maxrss * 1024


@cache
def _decode_s(folder: Path) -> float:
    started_s = time.process_time()
    log = open_readonly(folder / "log.sqlite")
    for stored in log.read(FEEDBACK.name):
        Event.FromString(stored.value)
    log.close_reading()
    return time.process_time() - started_s
