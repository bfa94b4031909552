"""What the command line asks of a run that nobody hosts waits in its inbox; the next host takes it before all else."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from bohdi.cli import Exit
from bohdi.run_folder import RunFolder
from bohdi.verify_run import verify_folder
from bohdi_common.core.state import RunState
from bohdi_common.models.versions import VersionStore
from bohdi_common.runtime.feedback import events_of
from services.bandit.handler import folded
from tests.integration.test_kills import host, killed_in


def bohdi(*arguments: str | Path) -> str:
    command = [sys.executable, "-m", "bohdi", *map(str, arguments)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (ended.returncode, ended.stderr) == (Exit.DONE, "")
    return ended.stdout.strip()


def state_of(folder: Path) -> RunState:
    reader = RunFolder(folder).read()
    run_id = RunFolder(folder).run_id(reader)
    return folded(events_of(reader, run_id), run_id)


def resumed(folder: Path) -> list[str]:
    """Hosts the run to its end; gives the inputs that the services took up."""
    handled = folder.with_suffix(".handled")
    handled.write_text("")
    ended = host(folder, "none", 0, "scripted")
    assert ended.returncode == 0, ended.stderr
    return handled.read_text().splitlines()


def test_a_cancelled_run_ends_at_its_resume_and_trains_nothing_more(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    killed_in(folder, "training", 1, "scripted")
    assert state_of(folder).training is not None
    job = VersionStore(RunFolder(folder).versions).job("r1", "ab")
    job.mkdir(exist_ok=True)
    assert "no host is at work" in bohdi("cancel", folder)
    assert resumed(folder) == []
    assert state_of(folder).finished == "cancelled by hand"
    assert state_of(folder).versions == ["base"] and not job.exists()
    assert verify_folder(RunFolder(folder))["problems"] == []
    assert bohdi("cancel", folder) == "the run is over: cancelled by hand"


def test_a_pause_that_nobody_took_does_not_stop_the_resume_after_it(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    killed_in(folder, "introspection", 1, "scripted")
    assert "no host is at work" in bohdi("pause", folder)
    assert resumed(folder)
    state = state_of(folder)
    assert (state.finished, state.pauses, state.resumes) == ("all rounds done", 1, 1)
    assert verify_folder(RunFolder(folder))["problems"] == []


def test_a_run_that_is_over_is_not_gone_on_with(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    assert resumed(folder)
    events = RunFolder(folder).read().end("bohdi.feedback")
    assert resumed(folder) == []
    assert RunFolder(folder).read().end("bohdi.feedback") == events
