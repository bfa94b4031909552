"""A host that is told to stop does so soon, says how to go on, and two hosts never share one run."""

from __future__ import annotations

import signal
import time
from pathlib import Path

import pytest

from bohdi.cli import Exit
from bohdi.run_folder import RunFolder
from bohdi.verify_run import verify_folder
from tests.forked import Forked, bohdi

SOON_S = 30
START_S = 120


def host(folder: Path) -> Forked:
    return Forked("bohdi", "run", "configs/demo.yaml", "--dir", folder, "--seed", "1")


def wait_for_harvests(folder: Path, count: int) -> None:
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline:
        if RunFolder(folder).log.exists() and RunFolder(folder).read().end("bohdi.feedback") > count:
            return
        time.sleep(0.2)
    pytest.fail(f"no {count} events within {START_S} s")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_a_run_soon_with_its_own_exit_code_and_the_way_to_go_on(tmp_path: Path, number: int) -> None:
    folder = tmp_path / "run"
    running = host(folder)
    wait_for_harvests(folder, 30)
    running.send_signal(number)
    _, errors = running.communicate(timeout=SOON_S)
    assert running.returncode == Exit.INTERRUPTED
    assert errors.strip() == f"bohdi: interrupted: go on with `bohdi resume {folder}`"
    assert verify_folder(RunFolder(folder))["problems"] == []


def test_a_second_host_is_refused_and_a_pause_from_outside_ends_the_first_with_its_reason(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    running = host(folder)
    wait_for_harvests(folder, 10)
    second = bohdi("resume", folder)
    assert second.returncode == Exit.LOG
    assert str(running.pid) in second.stderr
    assert bohdi("pause", folder).returncode == Exit.DONE
    _, errors = running.communicate(timeout=SOON_S)
    assert running.returncode == Exit.PAUSED
    assert "asked for by hand" in errors
    assert "paused: asked for by hand" in bohdi("status", folder).stdout


def test_a_run_cancelled_from_outside_is_over_with_what_it_has(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    running = host(folder)
    wait_for_harvests(folder, 30)
    asked = bohdi("cancel", folder)
    assert (asked.returncode, asked.stdout.strip()) == (Exit.DONE, "asked: the host ends the run within a second")
    out, errors = running.communicate(timeout=SOON_S)
    assert (running.returncode, errors) == (Exit.DONE, "")
    assert "ended early: cancelled by hand" in out
    assert verify_folder(RunFolder(folder))["problems"] == []
    assert bohdi("replay", folder).stdout.split()[-1] == out.split()[-1]
