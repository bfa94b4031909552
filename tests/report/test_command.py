"""`bohdi report`: one file, written in one step, the same for the same log; while a run goes on too; and what cannot be
done is one clear line."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from bohdi.cli import Exit
from bohdi.report import writing
from bohdi.report.writing import Writer
from bohdi.run_folder import NoRun, RunFolder
from bohdi.run_places import run_place
from bohdi_common.events.events_pb2 import Event
from bohdi_common.events.topics import FEEDBACK
from bohdi_common.log.port import Record
from bohdi_common.runtime.config import BadConfig
from bohdi_common.runtime.shell import record_of
from tests.forked import TIMEOUT_S, bohdi
from tests.integration.test_bad_input import complaint
from tests.integration.test_verify_folder import append
from tests.recorded_run import RecordedRun

_REFRESH = "load again every"


@pytest.fixture(scope="module")
def feedback() -> list[Event]:
    run = RecordedRun(seed=4)
    run.run()
    return run.feedback


def folder_of(events: list[Event], folder: Path) -> Path:
    folder.mkdir(exist_ok=True)
    append(folder, map(record_of, events))
    return folder


def written(folder: Path, file: Path) -> str:
    writer = Writer(run_place(folder, None, None), file)
    writer.read_on()
    writer.write()
    return file.read_text(encoding="utf-8")


def test_the_command_writes_one_file_and_the_same_one_again(feedback: list[Event], tmp_path: Path) -> None:
    folder = folder_of(feedback, tmp_path / "run")
    file = tmp_path / "report.html"
    ended = bohdi("report", folder, "--out", file)
    assert (ended.returncode, ended.stdout, ended.stderr) == (Exit.DONE, f"{file}\n", "")
    assert file.read_text(encoding="utf-8") == written(folder, tmp_path / "again.html")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["again.html", "report.html", "run"]


def test_a_report_of_every_part_of_a_run_is_worth_reading(feedback: list[Event], tmp_path: Path) -> None:
    for upto in (1, 2, len(feedback) // 3, 2 * len(feedback) // 3):
        page = written(folder_of(feedback[:upto], tmp_path / "run"), tmp_path / "report.html")
        assert "The run is not over" in page
        assert f'<dd id="fact-events">{upto}</dd>' in page


def test_live_it_is_written_anew_until_the_run_is_over(feedback: list[Event], tmp_path: Path) -> None:
    half = len(feedback) // 2
    folder, file = folder_of(feedback[:half], tmp_path / "run"), tmp_path / "report.html"
    command = [sys.executable, "-m", "bohdi", "report", str(folder), "--out", str(file)]
    process = subprocess.Popen([*command, "--live", "--every", "1"], stdout=subprocess.PIPE, text=True)
    try:
        wait_until(file.exists, process)
        first = file.read_text(encoding="utf-8")
        append(folder, map(record_of, feedback[half:-1]))
        wait_until(lambda: f">{len(feedback) - 1}</dd>" in file.read_text(encoding="utf-8"), process)
        append(folder, [record_of(feedback[-1])])
        said, _ = process.communicate(timeout=TIMEOUT_S)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == Exit.DONE and "the run is over: all rounds done" in said
    assert _REFRESH in first and f">{half}</dd>" in first
    assert file.read_text(encoding="utf-8") == written(folder, tmp_path / "whole.html")
    assert _REFRESH not in file.read_text(encoding="utf-8")


def wait_until(there: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    ends_s = time.monotonic() + TIMEOUT_S
    while not there():
        assert process.poll() is None and time.monotonic() < ends_s
        time.sleep(0.2)


def test_however_following_ends_the_last_page_stays_as_it_is(feedback: list[Event], tmp_path: Path) -> None:
    writer = Writer(run_place(folder_of(feedback[:50], tmp_path / "run"), None, None), tmp_path / "report.html")

    def interrupted(seconds: float) -> None:
        assert _REFRESH in (tmp_path / "report.html").read_text(encoding="utf-8")
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(writing.time, "sleep", interrupted)
        writer.follow(1.0)
    assert _REFRESH not in (tmp_path / "report.html").read_text(encoding="utf-8")


def test_following_waits_for_the_evaluation_of_the_last_version_which_comes_behind_the_end(
    feedback: list[Event], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = folder_of([*feedback, evaluated("base")], tmp_path / "run")
    writer = Writer(run_place(folder, None, None), tmp_path / "report.html")
    slept = []

    def last_one_comes(seconds: float) -> None:
        slept.append(seconds)
        append(folder, [record_of(evaluated("r2"))])

    monkeypatch.setattr(writing, "wall_clock_us", lambda: feedback[-1].time_us)
    monkeypatch.setattr(writing.time, "sleep", last_one_comes)
    writer.follow(3.0)
    assert slept == [3.0]
    assert "rose from 25.0% to 75.0% (r2)" in (tmp_path / "report.html").read_text(encoding="utf-8")


def evaluated(version: str) -> Event:
    accuracy = 0.25 if version == "base" else 0.75
    body = {"model": "target", "version": version, "scores": [{"domain": "d", "accuracy": accuracy}]}
    return Event(event_id=f"evaluated {version}", run_id="run", time_us=1, schema_version=1, target_evaluated=body)


def test_a_page_that_cannot_be_written_leaves_the_one_before(
    feedback: list[Event], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, file = folder_of(feedback, tmp_path / "run"), tmp_path / "report.html"
    before = written(folder, file)

    def full(self: Path, *_: object, **__: object) -> int:
        self.touch()
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(OSError, match="No space"):
        written(folder, file)
    assert file.read_text(encoding="utf-8") == before
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


def test_what_cannot_be_reported_is_one_clear_line(feedback: list[Event], tmp_path: Path) -> None:
    folder, file = folder_of(feedback[:5], tmp_path / "run"), tmp_path / "report.html"
    assert "which run?" in complaint(bohdi("report", "--out", file), Exit.MISTAKE)
    assert "Missing option '--out'" in complaint(bohdi("report", folder), Exit.MISTAKE)
    assert "--every is of --live" in complaint(bohdi("report", folder, "--out", file, "--every", "3"), Exit.MISTAKE)
    line = complaint(bohdi("report", tmp_path / "none", "--out", file), Exit.LOG)
    assert re.search(r"none.*: ", line)
    newer = Event(event_id="n", run_id="run", schema_version=99)
    append(folder, [Record(FEEDBACK.name, "run", "n", newer.SerializeToString())])
    assert "newer" in complaint(bohdi("report", folder, "--out", file), Exit.LOG)
    assert not file.exists()


def test_an_empty_log_a_run_without_rules_and_a_folder_for_a_file_are_refused(
    feedback: list[Event], tmp_path: Path
) -> None:
    with pytest.raises(NoRun, match="no RunStarted"):
        written(folder_of([], tmp_path / "empty"), tmp_path / "report.html")
    broken = Event()
    broken.CopyFrom(feedback[0])
    broken.run_started.settings.bandit.window = 0
    with pytest.raises(BadConfig, match="by what rules"):
        written(folder_of([broken], tmp_path / "broken"), tmp_path / "report.html")
    folder = folder_of(feedback[:3], tmp_path / "run")
    for file, why in ((tmp_path / "run", "a folder"), (tmp_path / "no" / "report.html", "its folder is not there")):
        with pytest.raises(BadConfig, match=why):
            written(folder, file)
    assert RunFolder(folder).log.is_file()


def test_without_the_package_of_the_charts_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "plotly", None)
    with pytest.raises(BadConfig, match=r"pip install 'bohdi\[report\]'"):
        writing.plotly_js()
