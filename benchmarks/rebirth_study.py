"""What the two forms of Introspection-Rebirth cost and catch: a simulation, its tables in docs/rebirth.md.

`python -m benchmarks.rebirth_study`: sweeps as the bandit makes them (`swblrt.sweep`) over trees with 20,000 leaves
whose true chances are known. Ten seconds.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.marked import table, write_between
from benchmarks.trees import WINDOW, full_tree, give_history
from bohdi_common.core import swblrt
from bohdi_common.core.tree import Tree

REPORT = Path("docs/rebirth.md")
SHAPE = (20, 20, 50)
SWEEPS = 20
BEFORE = (20, 60)  # rewards before the window
BEFORE_STATIONARY = (20, 60, 200, 1000)
CHANGES = (0.2, 0.4, 0.6)
CHANGED_SHARE = 0.1
TESTS = (("paper", 0.2), ("paper", 0.05), ("two_sample", 0.2), ("two_sample", 0.05))

Shares = dict[tuple[str, float], tuple[list[float], list[float]]]


def simulate(tree: Tree, before: int, change: float, share: float) -> Shares:
    """For each test, over the sweeps: which share of the changed leaves was reborn, and which share of the others."""
    leaves = np.array(tree.leaves())
    found: Shares = {test: ([], []) for test in TESTS}
    for seed in range(SWEEPS):
        rng = np.random.default_rng(seed)
        changed = rng.random(len(leaves)) < share
        chance, chance_in_window = chances(changed, change, rng)
        give_history(tree, leaves, before, chance, chance_in_window, rng)
        for (form, threshold), (hits, false_alarms) in found.items():
            sweep = swblrt.sweep(tree, form, threshold)
            assert sweep.tested == len(leaves)
            reborn = np.isin(leaves, sweep.nodes)
            if changed.any():
                hits.append(float(reborn[changed].mean()))
            false_alarms.append(float(reborn[~changed].mean()))
    return found


def chances(
    changed: NDArray[np.bool_], change: float, rng: np.random.Generator
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Each leaf's chance of a reward before its window and in it: uniform, and moved up or down by `change` where it
    changed, just as the window began."""
    lower = rng.random(len(changed)) * np.where(changed, 1 - change, 1.0)
    upper = lower + np.where(changed, change, 0.0)
    rises = rng.random(len(changed)) < 0.5
    return np.where(rises, lower, upper), np.where(rises, upper, lower)


def tables() -> dict[str, str]:
    """By the name of their markers."""
    tree = full_tree(*SHAPE)
    names = [f"{'paper' if form == 'paper' else 'two-sample'}, {threshold}" for form, threshold in TESTS]
    stationary, power = [], []
    for before in BEFORE_STATIONARY:
        found = simulate(tree, before, 0.0, 0.0)
        stationary.append([str(before), *(_mean_and_sd(false_alarms) for _, false_alarms in found.values())])
    for change in CHANGES:
        for before in BEFORE:
            found = simulate(tree, before, change, CHANGED_SHARE)
            cells = [f"{np.mean(hits):.3f} / {np.mean(false_alarms):.4f}" for hits, false_alarms in found.values()]
            power.append([str(change), str(before), *cells])
    return {
        "stationary": table(["rewards before the window", *names], stationary),
        "power": table(["change", "rewards before the window", *names], power),
    }


def _mean_and_sd(shares: list[float]) -> str:
    return f"{np.mean(shares):.5f} ± {np.std(shares, ddof=1):.5f}"


def main() -> None:
    written = tables()
    write_between(REPORT, written)
    print(f"w = {WINDOW}", *written.values(), sep="\n\n")


if __name__ == "__main__":
    main()
