"""Runs schedules: `python -m tests.simulation --schedules N [--seed S] [--first K]`.

One schedule again, with all that happens in it: `--first K --schedules 1 --trace`. Exit code 1: one found something.
"""

from __future__ import annotations

import argparse
import sys
import time

from tests.simulation import schedule
from tests.simulation.plants import PLANTS, found_after

_TOLD_EVERY_S = 10.0


def main() -> int:
    wanted = _wanted()
    if wanted.plants:
        return _plants(wanted)
    bad = turns = 0
    began_s = told_s = time.monotonic()
    for count, number in enumerate(range(wanted.first, wanted.first + wanted.schedules), 1):
        result = schedule.run(wanted.seed, number)
        turns += result.turns
        if wanted.trace:
            print(result.trace.text())
        if wanted.digests:
            print(number, result.trace.digest())
        if result.findings:
            bad += 1
            print(result.report(), flush=True)
        if time.monotonic() - told_s > _TOLD_EVERY_S:
            told_s = time.monotonic()
            print(f"{count} of {wanted.schedules} schedules, {bad} with findings", file=sys.stderr, flush=True)
    took_s = time.monotonic() - began_s
    print(
        f"{wanted.schedules} schedules of seed {wanted.seed} from {wanted.first} on: {bad} with findings; "
        f"{turns} turns, {wanted.schedules / took_s:.1f} schedules/s",
        file=sys.stderr,
    )
    return int(bad > 0)


def _plants(wanted: argparse.Namespace) -> int:
    """How many schedules each planted bug takes to be found."""
    missed = 0
    for plant in PLANTS:
        with plant.planted():
            found = found_after(plant, wanted.seed, wanted.schedules)
        missed += found is None
        print(f"{plant.name}: {'NOT FOUND' if found is None else f'{found[0]} schedules: {found[1].findings[0]}'}")
    return int(missed > 0)


def _wanted() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--schedules", type=int, default=2000, metavar="N")
    parser.add_argument("--seed", type=int, default=0, metavar="S")
    parser.add_argument("--first", type=int, default=0, metavar="K", help="number of the first schedule")
    parser.add_argument("--trace", action="store_true", help="print all that happens")
    parser.add_argument("--digests", action="store_true", help="print a hash of all that happens in each schedule")
    parser.add_argument(
        "--plants", action="store_true", help="plant bugs and say after how many schedules each is found"
    )
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
