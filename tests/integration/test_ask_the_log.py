"""A recorded run of the micro-world is asked: replay --at, diff, what-if, the library and its example; and what cannot
be answered is one clear line."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from bohdi import open_run
from bohdi.cli import Exit
from bohdi.run_folder import RunFolder
from bohdi_common.core.state import state_sha256
from bohdi_common.events import codec
from bohdi_common.events.events_pb2 import Event
from bohdi_common.log.port import Record
from bohdi_common.runtime.shell import record_of
from tests.forked import TIMEOUT_S, bohdi
from tests.integration.test_bad_input import changed, complaint
from tests.integration.test_verify_folder import append
from tests.recorded_run import RecordedRun, settings

REAL_S = 900  # half a minute of one core
EXAMPLE = Path("examples/ask_the_log.py")


def in_folder(tmp_path: Path, feedback: Sequence[Event]) -> Path:
    folder = tmp_path / "run"
    folder.mkdir(exist_ok=True)
    append(folder, map(record_of, feedback))
    return folder


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two small rounds by the shipped models, with introspection."""
    aside = tmp_path_factory.mktemp("real")
    bandit = {"rounds": 2, "steps": 2, "slots": 12, "rehearsal_questions": 12, "window": 4}
    bandit |= {"introspection": "paper", "threshold": 0.99}
    config = changed(aside, bandit=bandit, training={"passes": 1.0}, evaluation=None)
    bohdi("run", config, "--seed", "1", "--dir", aside / "run", timeout=REAL_S).check_returncode()
    return aside / "run"


@pytest.fixture
def recorded(tmp_path: Path) -> Path:
    """A run by scripted models, in a folder."""
    run = RecordedRun(seed=3, settings=settings(3, bandit={"introspection": "paper"}))
    run.run()
    return in_folder(tmp_path, run.feedback)


def asked(*arguments: str | Path) -> Any:
    ended = bohdi(*arguments, "--json")
    assert (ended.returncode, ended.stderr) == (Exit.DONE, "")
    return json.loads(ended.stdout)


def test_at_every_rounds_end_the_replay_gives_the_hash_recorded_then(real: Path) -> None:
    for number in range(3):
        told = asked("replay", real, "--at", f"round:{number}")
        assert told["round"] == number
        assert told["state_sha256"] == told["recorded_sha256"]
        assert asked("replay", real, "--at", str(told["events"])) == told
    assert asked("verify", real)["checked"]["hashes"] == 3


def test_what_if_nothing_changes_gives_the_state_itself(real: Path) -> None:
    same = asked("what-if", real)
    assert same["sweeps"] == 2 and same["variants"][0]["sweeps_as_recorded"]
    whole = asked("replay", real)["state_sha256"]
    assert same["variants"][0]["state_sha256"] == same["recorded"]["state_sha256"] == whole


def test_what_if_the_threshold_were_zero_gives_no_rebirth(recorded: Path) -> None:
    told = asked("what-if", recorded, "--set", "bandit.threshold=0")
    assert told["recorded"]["rebirths"] > 0 == told["variants"][0]["rebirths"]


def test_a_grid_is_a_table_for_people_and_says_what_stayed_as_it_was(real: Path) -> None:
    ended = bohdi("what-if", real, "--grid", "bandit.threshold=0,0.5", "--grid", "rewards.share=0.5,1", "--hashes")
    assert (ended.returncode, ended.stderr) == (Exit.DONE, "")
    assert ended.stdout.count("bandit.threshold=0.5, rewards.share=1") == 2  # its row and its hash
    assert "is not in the log" in ended.stdout


def test_another_policy_is_estimated_with_an_interval_or_refused_with_the_reason(recorded: Path) -> None:
    same = asked("what-if", recorded, "--policy", "sharpness=2", "--at", "round:1")
    assert same["value"] is None and "are needed" in same["refused"]
    assert "ask for one" in complaint(
        bohdi("what-if", recorded, "--policy", "uniform", "--set", "bandit.window=3"), Exit.MISTAKE
    )
    assert "sharpness=S" in complaint(bohdi("what-if", recorded, "--policy", "best"), Exit.MISTAKE)


def test_what_lies_between_two_moments_is_told_to_people_and_to_programs(real: Path) -> None:
    told = asked("diff", f"{real}@round:1", "@round:2")
    assert told["a"]["round"] == 1 and told["moved"] and told["wins"]
    assert told == asked("diff", f"{real}@round:1", f"{real}@round:2")
    ended = bohdi("diff", f"{real}@0", real)
    assert (ended.returncode, ended.stderr) == (Exit.DONE, "")
    assert all(word in ended.stdout for word in ("born: ", "wins: ", "samples used: "))


def test_two_runs_are_compared_by_the_names_of_their_domains(real: Path, recorded: Path) -> None:
    told = asked("diff", real, recorded)
    assert told["moved"] == [] and told["born"] and told["gone"]


def test_the_example_runs_on_a_recorded_run(real: Path) -> None:
    command = [sys.executable, str(EXAMPLE), str(real)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert "base -> r2" in ended.stdout
    assert "threshold 0: 0 rebirths" in ended.stdout


def test_the_library_gives_what_the_commands_say(real: Path) -> None:
    run = open_run(real)
    state = run.state()
    assert run.state_sha256() == state_sha256(state) == asked("replay", real)["state_sha256"]
    assert len(list(run.events())) == state.sequence
    assert len(list(run.events("round:1"))) == run.state("round:1").sequence
    assert run.settings.bandit.window == 4
    assert run.diff("round:1", "round:2") == asked("diff", f"{real}@round:1", "@round:2")
    assert run.what_if(["bandit.threshold=0"]) == asked("what-if", real, "--set", "bandit.threshold=0")


def test_the_tables_have_a_row_for_each_domain_and_each_harvest(real: Path) -> None:
    run = open_run(real)
    state, nodes, harvests = run.state(), run.nodes(), run.harvests()
    assert nodes.num_rows == sum(state.tree.nodes_by_level[1:])
    assert sum(nodes["pairs"].to_pylist()) == state.pair_count == sum(harvests["took_effect"].to_pylist())
    assert run.nodes("0").num_rows == run.harvests("0").num_rows == 0
    top = [row for row in nodes.to_pylist() if row["level"] == 1]
    assert sum(row["rewards"] for row in top) == state.pair_count or any(row["rebirths"] for row in top)


@pytest.mark.parametrize(
    ("command", "said", "why"),
    [
        ("replay", "99999", "the run has only"),
        ("replay", "round:7", "has ended 2 rounds only"),
        ("replay", "soon", "no moment of a run"),
        ("what-if", "99999", "the run has only"),
    ],
)
def test_a_moment_that_is_not_in_the_log_is_one_clear_line(recorded: Path, command: str, said: str, why: str) -> None:
    assert why in complaint(bohdi(command, recorded, "--at", said), Exit.MISTAKE)


def test_a_diff_with_a_moment_past_the_end_or_of_no_run_is_one_clear_line(recorded: Path) -> None:
    assert "the run has only" in complaint(bohdi("diff", f"{recorded}@99999", "@3"), Exit.MISTAKE)
    assert "of no run" in complaint(bohdi("diff", "@3", "@4"), Exit.MISTAKE)


def test_a_run_without_training_has_moments_but_no_round(tmp_path: Path) -> None:
    run = RecordedRun(seed=3, settings=settings(3))
    run.run()
    before = next(n for n, event in enumerate(run.feedback) if event.HasField("training_drawn"))
    folder = in_folder(tmp_path, run.feedback[:before])
    assert "never trained" in complaint(bohdi("replay", folder, "--at", "round:1"), Exit.MISTAKE)
    assert asked("replay", folder, "--at", "20")["events"] == 20
    assert asked("diff", f"{folder}@20", "@")["samples"]["b"]["drawn"] == 0
    same = asked("what-if", folder)
    assert same["variants"][0]["state_sha256"] == same["recorded"]["state_sha256"]
    assert open_run(folder).harvests().num_rows > 0


COMMANDS = [("replay", "{}", "--at", "3"), ("diff", "{}@1", "@2"), ("what-if", "{}")]


@pytest.mark.parametrize("command", COMMANDS)
def test_an_empty_log_is_one_clear_line(tmp_path: Path, command: tuple[str, ...]) -> None:
    folder = in_folder(tmp_path, [])
    arguments = [part.format(folder) for part in command]
    assert "no RunStarted" in complaint(bohdi(*arguments), Exit.MISTAKE)


@pytest.mark.parametrize("command", COMMANDS)
def test_a_log_of_a_newer_schema_is_one_clear_line(recorded: Path, command: tuple[str, ...]) -> None:
    newer = Event(event_id="f" * 64, run_id="run", schema_version=codec.SCHEMA_VERSION + 1)
    newer.run_resumed.SetInParent()
    log = RunFolder(recorded).log
    first = RecordedRun(seed=3, settings=settings(3))
    first.run()
    log.unlink()
    start = record_of(first.feedback[0])
    append(recorded, [start, Record(start.topic, "run", newer.event_id, codec.encode(newer))])
    arguments = [part.format(recorded) for part in command]
    assert "newer Bohdi" in complaint(bohdi(*arguments), Exit.LOG)


def test_a_recorded_hash_that_the_fold_does_not_give_is_shown_and_ends_with_1(tmp_path: Path) -> None:
    run = RecordedRun(seed=3, settings=settings(3))
    run.run()
    drawn = next(e for e in run.feedback if e.round == 1 and e.HasField("paths_drawn") and e.step == 0)
    drawn.paths_drawn.state_sha256 = "0" * 64
    ended = bohdi("replay", in_folder(tmp_path, run.feedback), "--at", "round:1")
    assert ended.returncode == Exit.PROBLEMS
    assert f"recorded_sha256 {'0' * 64}" in ended.stdout
