"""`bohdi profile` on a run in a folder: a table to read, JSON, and a file that is read back."""

from __future__ import annotations

import io
import json
from pathlib import Path

from rich.console import Console

from bohdi import profile_file, profile_view
from bohdi.cli import Exit
from bohdi.domain_text import Validation
from tests.forked import bohdi
from tests.integration.test_verify_folder import folder
from tests.unit.test_route import PROFILE

__all__ = ["folder"]


def test_the_file_and_the_json_say_the_same_and_the_file_can_be_routed_by(folder: Path, tmp_path: Path) -> None:
    file = tmp_path / "profile.json"
    ended = bohdi("profile", folder, "--json", "--out", file)
    assert (ended.returncode, ended.stderr) == (Exit.DONE, "")
    said, written = json.loads(ended.stdout), json.loads(file.read_text())
    assert written.pop("questions")
    assert said == written
    assert profile_file.load(file).rates[()]["target"].harvests > 10


def test_the_table_has_a_row_for_each_domain_with_the_best_models_rate() -> None:
    shown = io.StringIO()
    Console(file=shown, width=160).print(profile_view.table(PROFILE))
    rows = {row.split("│")[1].strip(): row for row in shown.getvalue().splitlines() if row.startswith("│")}
    assert list(rows) == ["Root", "x", "x1", "apples", "y", "y1", "bridges"]
    rate = PROFILE.rates["x", "x1", "apples"]["a"]
    assert f"{rate.rate:.2f} [{rate.low:.2f}, {rate.high:.2f}] 8/8" in rows["apples"]


def test_what_was_not_measured_is_said_and_why() -> None:
    lines = list(profile_view.lines(PROFILE, None, "too few questions", None))
    assert lines[-1].endswith("was not measured: too few questions")
    measured = Validation(90, 10, (1.0, 0.9, 0.8), 0.1, 0.7, 0.95)
    assert "leaf 0.800 right" in list(profile_view.lines(PROFILE, measured, "", None))[-1]
