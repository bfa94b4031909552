"""The benchmarks' own rules: what a floor says, what a missing row does, what a script may write into a document."""

from pathlib import Path

import pytest

from benchmarks import long_log
from benchmarks.__main__ import ROWS, measured
from benchmarks.marked import table, write_between
from benchmarks.rows import Floor, Measured, Row, result


def halved() -> Measured:
    return Measured(value=30.0, unit="ms", against="twice as long", ratio=2.0)


def broken() -> Measured:
    raise OSError("no disk")


@pytest.mark.parametrize(
    ("floor", "met"),
    [
        (Floor(30), True),
        (Floor(31), False),
        (Floor(30, most=True), True),
        (Floor(29, most=True), False),
        (Floor(2, ratio=True), True),
        (Floor(3, ratio=True), False),
    ],
)
def test_a_floor_is_of_the_value_or_of_the_ratio_and_at_least_or_at_most(floor: Floor, met: bool) -> None:
    assert result(Row("a row", halved, floor)).met is met


def test_a_row_without_a_floor_is_neither_met_nor_missed() -> None:
    assert (result(Row("a row", halved)).floor, result(Row("a row", halved)).met) == (None, None)


def test_a_row_that_cannot_be_measured_is_named_and_the_others_are_kept() -> None:
    results, missing = measured([Row("first", broken), Row("second", halved)])
    assert [r.name for r in results] == ["second"]
    assert missing == ["first: OSError: no disk"]


@pytest.mark.parametrize("command", ["replay", "verify"])
def test_a_simulated_log_is_made_and_read(command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(long_log, "WORK", tmp_path)
    found = long_log.LongLog(300, 200).read_by(command)
    assert found.value > 0 and 0 < found.ratio < 1


def test_a_command_that_wants_more_memory_than_there_is_to_be_has_no_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(long_log, "WORK", tmp_path)
    monkeypatch.setattr(long_log, "MEMORY", 2**20)
    with pytest.raises(RuntimeError, match=r"bohdi replay took .* MiB, more than 1"):
        long_log.LongLog(50, 10).read_by("replay")


def test_no_two_rows_have_one_name() -> None:
    assert len({row.name for row in ROWS}) == len(ROWS)


def test_a_script_writes_between_its_markers_alone(tmp_path: Path) -> None:
    document = tmp_path / "a.md"
    document.write_text("before\n<!-- part -->\nold\n<!-- end part -->\nafter\n")
    write_between(document, {"part": table(["a", "b"], [["1", "2"]])})
    assert document.read_text() == (
        "before\n<!-- part -->\n| a | b |\n| --- | --- |\n| 1 | 2 |\n<!-- end part -->\nafter\n"
    )


def test_a_document_without_the_markers_is_refused_and_left_alone(tmp_path: Path) -> None:
    document = tmp_path / "a.md"
    document.write_text("<!-- part -->\nnever closed\n")
    with pytest.raises(ValueError, match="no markers <!-- part -->"):
        write_between(document, {"part": "new"})
    assert document.read_text() == "<!-- part -->\nnever closed\n"
