"""The events' schema: the generated code is that of the proto, and the proto breaks no log written before."""

import copy
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.contract.schema_snapshot import FILE, Snapshot, breaks, snapshot

ROOT = Path(__file__).parents[2]


def test_generated_code_and_stub_are_those_of_the_proto(tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHON": sys.executable}
    subprocess.run(["sh", "proto/generate.sh", str(tmp_path)], cwd=ROOT, env=environment, check=True)
    for name in ("events_pb2.py", "events_pb2.pyi"):
        assert (tmp_path / name).read_text() == (ROOT / "bohdi_common/events" / name).read_text()


def test_nothing_that_was_released_has_changed() -> None:
    assert breaks(json.loads(FILE.read_text()), snapshot()) == []


def test_the_snapshot_is_up_to_date() -> None:
    """After an addition: `python -m tests.contract.schema_snapshot`."""
    assert json.loads(FILE.read_text()) == snapshot()


def doctored(change: Callable[[Snapshot], object]) -> Snapshot:
    other = copy.deepcopy(snapshot())
    change(other)
    return other


FIELD = {"number": 99, "type": "string", "label": "one", "oneof": None}


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda s: s["messages"].pop("Score"), ["Score: was taken away"]),
        (lambda s: s["messages"]["Score"].pop("domain"), ["Score.domain: was taken away"]),
        (lambda s: s["messages"]["Score"]["domain"].update(number=9), ["Score.domain: number was 1, is 9"]),
        (lambda s: s["messages"]["Score"]["domain"].update(type="bytes"), ["Score.domain: type was string, is bytes"]),
        (
            lambda s: s["messages"]["Score"]["domain"].update(label="repeated"),
            ["Score.domain: label was one, is repeated"],
        ),
        (
            lambda s: s["messages"]["Event"]["run_started"].update(oneof=None),
            ["Event.run_started: oneof was body, is None"],
        ),
        (
            lambda s: s["messages"]["Score"].update(fresh=FIELD | {"number": 1}),
            ["Score.fresh: takes the number 1 of domain"],
        ),
        (
            lambda s: s["messages"]["Score"].update(renamed=s["messages"]["Score"].pop("domain")),
            ["Score.domain: was taken away", "Score.renamed: takes the number 1 of domain"],
        ),
        (lambda s: s["enums"].pop("FailureClass"), ["FailureClass."] * 4),
        (
            lambda s: s["enums"]["FailureClass"].update(FAILURE_CLASS_REJECTED=7),
            ["FailureClass.FAILURE_CLASS_REJECTED: was 1, is 7"],
        ),
        (lambda s: s["enums"]["FailureClass"].update(FRESH=1), ["FailureClass.FRESH: takes the number 1"]),
    ],
)
def test_a_breaking_change_is_named(change: Callable[[Snapshot], object], told: list[str]) -> None:
    found = breaks(snapshot(), doctored(change))
    assert len(found) == len(told)
    assert all(line.startswith(start) for line, start in zip(found, told, strict=True))


@pytest.mark.parametrize(
    "change",
    [
        lambda s: None,
        lambda s: s["messages"].update(Fresh={"id": FIELD}),
        lambda s: s["messages"]["Score"].update(fresh=FIELD),
        lambda s: s["enums"].update(Fresh={"FRESH_UNSPECIFIED": 0}),
        lambda s: s["enums"]["FailureClass"].update(FRESH=4),
    ],
)
def test_what_is_only_added_breaks_nothing(change: Callable[[Snapshot], object]) -> None:
    assert breaks(snapshot(), doctored(change)) == []
