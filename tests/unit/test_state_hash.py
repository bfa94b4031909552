"""The canonical state: one form on every machine, and nothing left out of it."""

import os
import random
import subprocess
import sys
from dataclasses import fields, replace
from typing import Any

import pytest

from bohdi_common.core.state import Outcome, Slot, Sprout, Training, canonical, state_sha256
from tests import closed_loop
from tests.closed_loop import Loop

_IN_ANOTHER_PROCESS = """
from bohdi_common.core.state import state_sha256
from tests import closed_loop
rules = {"introspection": "paper", "rehearsal_questions": 10}
print(state_sha256(closed_loop.Loop(settings=closed_loop.settings(5, bandit=rules)).run()))
"""


def test_the_hash_is_the_same_in_processes_with_other_hash_seeds() -> None:
    hashes = [
        subprocess.run(
            [sys.executable, "-c", _IN_ANOTHER_PROCESS],
            env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
            capture_output=True, text=True, check=True,
        ).stdout
        for seed in ("0", "1", "4711")
    ]  # fmt: skip
    assert len(hashes[0].strip()) == 64
    assert len(set(hashes)) == 1


def midway() -> Loop:
    """A run in the middle of a step, with something in every part of its state."""
    rules = {"introspection": "paper", "rehearsal_questions": 10}
    loop = Loop(settings=closed_loop.settings(bandit=rules), order=random.Random(2))
    loop.run(lambda state: state.round == 1 and bool(state.sprouts) and state.open_slots > 3)
    loop.state.slots[0].outcome = Outcome("harvests", 1, 1)
    loop.state.training = Training("hash", "r9", "base", (1, 2), ("r1",), 7, 8)
    return loop


_ELSEWHERE = ("slots", "sprouts", "training", "tree", "rules", "ready")  # the last follows from the slots
STATE = [f.name for f in fields(midway().state) if f.name not in _ELSEWHERE]
ARMS = ["parent", "level", "is_unk", "alpha", "beta", "window", "open", "closed", "misses", "rebirths"]


def other(value: Any) -> Any:
    """Something of the type of `value` that is not equal to it."""
    match value:
        case bool():
            return not value
        case int() | float():
            return value + 1
        case str():
            return value + "x"
        case tuple():
            return (*value, value[0] if value else 1)
        case list():
            return [*value, value[0] if value else "x"]
        case dict():
            return dict(list(value.items())[1:]) if value else {"late": 1}
        case None:
            return Outcome("rejected", 3)
        case Outcome():
            return replace(value, reward=1 - value.reward)
    raise TypeError(f"no other value for {value!r}")


@pytest.mark.parametrize("name", STATE)
def test_the_hash_depends_on_every_field_of_the_state(name: str) -> None:
    state = midway().state
    before = state_sha256(state)
    setattr(state, name, other(getattr(state, name)))
    assert state_sha256(state) != before


@pytest.mark.parametrize(
    ("part", "name"),
    [(part, f.name) for part, of in (("slot", Slot), ("sprout", Sprout), ("training", Training)) for f in fields(of)],
)
def test_the_hash_depends_on_every_field_of_what_is_outstanding(part: str, name: str) -> None:
    state = midway().state
    assert state.training is not None
    held = {"slot": state.slots[0], "sprout": next(iter(state.sprouts.values())), "training": state.training}[part]
    before = state_sha256(state)
    setattr(held, name, other(getattr(held, name)))
    assert state_sha256(state) != before


@pytest.mark.parametrize("column", ARMS)
def test_the_hash_depends_on_every_column_of_the_tree(column: str) -> None:
    state = midway().state
    before = state_sha256(state)
    getattr(state.tree, column)[3] ^= 1
    assert state_sha256(state) != before


def test_the_hash_depends_on_every_rule_and_every_name() -> None:
    state = midway().state
    assert state.rules is not None
    seen = {state_sha256(state)}
    rules = state.rules
    for f in fields(rules):
        state.rules = replace(rules, **{f.name: other(getattr(rules, f.name))})
        seen.add(state_sha256(state))
    state.rules = rules
    state.tree.name[2] += "x"
    seen.add(state_sha256(state))
    assert len(seen) == len(fields(rules)) + 2


def test_the_canonical_form_holds_any_text() -> None:
    state = midway().state
    state.paused = "\ud800 half a pair, 量子, \x00"
    assert canonical(state)
