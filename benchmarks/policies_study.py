"""Policies compared on whole simulated runs: the tables are in docs/simulator.md.

`python -m benchmarks.policies_study`: `bohdi simulate` over 20 seeds, each policy on the same worlds; about two minutes
of one core. The same on every machine.
"""

from __future__ import annotations

from pathlib import Path

from benchmarks.marked import table, write_between
from bohdi.simulator.model import DomainModel
from bohdi.simulator.policies import NAMES
from bohdi.simulator.report import FIGURES, compare, report, rows
from bohdi.simulator.setup import simulations

REPORT = Path("docs/simulator.md")
SEEDS = range(20)
# By the markers of their tables: the model, the harvests of a run, the mean weakness that is to be reached.
WORLDS = {
    "grown": (DomainModel(), 1_800, 0.2),
    "given": (DomainModel(width=(10, 10, 10), given=True), 9_000, 0.45),
}


def compared(model: DomainModel, harvests: int, mean: float) -> str:
    """A table, a policy a row."""
    found = {name: report(simulations(model, name, SEEDS, harvests), mean) for name in NAMES}
    compare(found)
    return table(["policy", *FIGURES], rows(found.items()))


def main() -> None:
    written = {name: compared(*world) for name, world in WORLDS.items()}
    write_between(REPORT, written)
    print(*written.values(), sep="\n\n")


if __name__ == "__main__":
    main()
