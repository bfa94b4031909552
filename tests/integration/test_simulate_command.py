"""bohdi simulate at the command line, and what the other commands say of the run that it writes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from bohdi.cli import app
from bohdi.run_folder import RunFolder
from bohdi.verify_run import verify_folder
from bohdi_common.runtime.config import BadConfig

SMALL = ("--harvests", "180", "--seeds", "3", "--set", "bandit.slots=15")


def said(*arguments: str) -> str:
    done = CliRunner().invoke(app, ["simulate", *arguments], catch_exceptions=False)
    assert done.exit_code == 0
    return done.output


def refused(*arguments: str) -> str:
    done = CliRunner().invoke(app, ["simulate", *arguments])
    assert isinstance(done.exception, BadConfig)
    return str(done.exception)


def test_policies_are_compared_on_the_same_worlds_and_the_same_twice() -> None:
    asked = ("--policy", "default", "--policy", "uniform", *SMALL, "--json")
    told = json.loads(said(*asked))
    assert list(told["policies"]) == ["default", "uniform"]
    assert all(len(of["rounds"]) == 4 for of in told["policies"].values())
    assert json.loads(said(*asked)) == told


def test_the_table_says_what_its_figures_are() -> None:
    shown = said("--leaves", "27", *SMALL)
    assert "regret" in shown
    assert "Gini" in shown


@pytest.mark.parametrize("policy", ["default", "paper"])
def test_a_run_that_is_written_is_clean_and_another_can_be_taken_from_it(tmp_path: Path, policy: str) -> None:
    folder = tmp_path / "run"
    rehearsed = ("--set", "bandit.rehearsal_questions=20", "--set", "bandit.rehearsal_below=0.9")
    wrote = json.loads(
        said("--log", str(folder), "--policy", policy, "--text-bytes", "80", *SMALL, *rehearsed, "--json")
    )
    assert wrote["finished"] == "all rounds done"
    found = verify_folder(RunFolder(folder))
    assert found["problems"] == []
    assert found["checked"]["events"] == wrote["events"]
    assert found["checked"]["hashes"] == 5, "of each round's begin, and of the end"
    model = tmp_path / "model.yaml"
    said("--from", str(folder), "--write-model", str(model))
    assert json.loads(said(str(model), *SMALL, "--json"))["model"]["leaves"]


def test_a_log_ends_where_it_is_told_to(tmp_path: Path) -> None:
    assert json.loads(said("--log", str(tmp_path / "run"), "--events", "100", *SMALL, "--json"))["events"] == 100
    longer = ("--events", "4000", "--json")  # than a run has harvests that nobody asked to be long
    assert json.loads(said("--log", str(tmp_path / "long"), *longer))["events"] == 4000


def test_mistakes_are_one_line_each(tmp_path: Path) -> None:
    assert "exclude each other" in refused("--leaves", "8", "--from", str(tmp_path))
    assert "no such file" in refused(str(tmp_path / "none.yaml"))
    assert "no such policy" in refused("--policy", "best")
    assert "default or paper" in refused("--log", str(tmp_path / "run"), "--policy", "uniform")
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "file").touch()
    assert "exists already" in refused("--log", str(tmp_path / "there"))
    assert "slots" in refused("--set", "bandit.slots=none")
