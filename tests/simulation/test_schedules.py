"""Two thousand schedules of the whole system, and the bugs that they would find."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from bohdi_common.events.topics import DEAD, FEEDBACK
from tests.simulation import schedule
from tests.simulation.plan import MODES
from tests.simulation.plants import PLANTS, Plant, found_after

SEED = 0
SCHEDULES = 2_000
_ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("mode", MODES)
def test_nothing_is_lost_nothing_counted_twice_and_every_run_ends(mode: str) -> None:
    for number in range(MODES.index(mode), SCHEDULES, len(MODES)):
        result = schedule.run(SEED, number)
        assert not result.findings, result.report()


@pytest.mark.parametrize("plant", PLANTS, ids=lambda plant: plant.name.replace(" ", "-"))
def test_a_bug_is_found(plant: Plant) -> None:
    with plant.planted():
        found = found_after(plant, SEED, SCHEDULES)
    assert found is not None, f"{plant.name}: not found in {SCHEDULES} schedules"
    print(f"{plant.name}: found after {found[0]} schedules: {found[1].findings[0]}")


# ---- the simulator itself --------------------------------------------------------------------------------------


def test_a_schedule_follows_from_its_seed_whatever_the_hash_seed() -> None:
    numbers = range(8)
    here = [f"{number} {schedule.run(SEED, number).trace.digest()}" for number in numbers]
    assert here == [f"{number} {schedule.run(SEED, number).trace.digest()}" for number in numbers]
    assert len({line.split()[1] for line in here}) == len(here)
    for hash_seed in ("1", "2"):
        command = [sys.executable, "-m", "tests.simulation", "--digests", "--schedules", str(len(here))]
        there = subprocess.run(
            command,
            cwd=_ROOT,
            env=os.environ | {"PYTHONHASHSEED": hash_seed},
            capture_output=True,
            text=True,
            check=True,
        )
        assert there.stdout.splitlines() == here


def test_the_world_is_as_bad_as_it_says() -> None:
    """A simulator in which nothing went wrong any more would find nothing and say nothing."""
    happened: Counter[str] = Counter()
    for number in range(160):
        result = schedule.run(SEED, number)
        happened.update(line.what.split(" to generation")[0] for line in result.trace.lines)
        ids = Counter(stored.event_id for _, stored in result.tape.of(FEEDBACK.name))
        happened["stands twice in the log"] += sum(count > 1 for count in ids.values())
        happened["is dead"] += len(result.tape.of(DEAD.name))
    rare = {what: happened[what] for what in _HAPPENS if happened[what] < _OFTEN_ENOUGH}
    assert not rare


_OFTEN_ENOUGH = 5
_HAPPENS = (
    "crashes",
    "is asked to end",
    "rebalances",
    "loses its connection",
    "refuses the commit of",
    "goes away for",
    "refuses",
    "acknowledgement lost",
    "has its deliveries begin at",
    "reads behind by",
    "asks for",
    "stands twice in the log",
    "is dead",
    "marks done",
)
