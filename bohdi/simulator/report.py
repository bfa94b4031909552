"""What is told of a policy over many seeds: each figure with its 95% interval (Student's t over the seeds)."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.stats import t as student

from bohdi.simulator.engine import Round, Simulation
from bohdi.simulator.world import Floats

_CONFIDENCE = 0.95

FIGURES = {
    "mean": "mean weakness of the target over all leaves at the end",
    "to_first": "that less the first policy's, seed by seed",
    "to_mean": "harvests until that mean was reached, of the seeds that reached it",
    "reached": "share of the seeds that reached it",
    "regret": "by how much weaker than the leaf harvested the weakest leaf was, a harvest",
    "coverage": "share of all leaves with a record in store",
    "imbalance": "Gini coefficient of the records over all leaves: 0 where each has as many",
    "rebirths": "of nodes, a run",
    "false": "share of the rebirths whose node had not changed by 0.1",
    "missed": "share of the tests of a node that had changed which left it as it was; it is tested in every sweep",
}


@dataclass(frozen=True)
class Told:
    """A mean over the seeds within `low` to `high`; None where it is of no seed, or of one."""

    mean: float | None
    low: float | None
    high: float | None
    seeds: int

    @classmethod
    def of(cls, values: Floats) -> Told:
        """`values`, shape (seeds,); nan: a seed of which there is nothing to tell."""
        known = values[~np.isnan(values)]
        if not len(known):
            return cls(None, None, None, 0)
        mean = float(known.mean())
        if len(known) == 1:
            return cls(mean, None, None, 1)
        half = float(student.ppf((1 + _CONFIDENCE) / 2, len(known) - 1) * known.std(ddof=1) / math.sqrt(len(known)))
        return cls(mean, mean - half, mean + half, len(known))


def report(simulations: Iterable[Simulation], mean: float) -> dict[str, Any]:
    """Runs simulations of other seeds each to their ends: `figures` as FIGURES says, `mean` the one to be reached;
    `rounds`: the mean of the target's weakness over the seeds after each; `means`: that of each seed at the end."""
    batches = [_measured(simulation, mean) for simulation in simulations]
    by_seed = {name: np.concatenate([batch.by_seed[name] for batch in batches]) for name in batches[0].by_seed}
    means = by_seed["mean"]
    return {
        "figures": {name: vars(Told.of(values)) for name, values in by_seed.items()},
        "harvests": sum(batch.harvests for batch in batches),
        "rounds": (np.sum([batch.rounds for batch in batches], axis=0) / len(means)).tolist(),
        "means": means.tolist(),
    }


@dataclass(frozen=True)
class _Measured:
    """`by_seed`: figures, each of shape (seeds,); `rounds`: the sum over the seeds of the mean weakness after each."""

    by_seed: dict[str, Floats]
    harvests: int
    rounds: list[float]


def _measured(simulation: Simulation, mean: float) -> _Measured:
    sums, reached, rounds = _Sums(), np.full(len(simulation.world.seeds), np.nan), []
    for done in simulation.rounds():
        sums.add(done)
        rounds.append(float(done.mean.sum()))
        now = np.isnan(reached) & (done.mean <= mean)
        reached[now] = sums.harvests[now]
        last = done
    with np.errstate(invalid="ignore", divide="ignore"):
        figures = {
            "mean": last.mean,
            "to_mean": reached,
            "reached": ~np.isnan(reached),
            "regret": sums.regret / sums.harvests,
            "coverage": simulation.forest.leaves_paired / simulation.world.places.leaves,
            "imbalance": imbalance(_records(simulation)),
            "rebirths": sums.reborn,
            "false": sums.false / sums.reborn,
            "missed": sums.missed / sums.changed,
        }
    by_seed = {name: np.asarray(values, dtype=np.float64) for name, values in figures.items()}
    return _Measured(by_seed, int(sums.harvests.sum()), rounds)


def compare(found: dict[str, dict[str, Any]]) -> None:
    """Adds to the figures of each policy's report how its mean differs from the first's, on the same worlds."""
    first: Floats | None = None
    for told in found.values():
        means = np.array(told["means"])
        first = means if first is None else first
        told["figures"]["to_first"] = vars(Told.of(means - first))


class _Sums:
    """Of the figures of all rounds, each of shape (runs,)."""

    def __init__(self) -> None:
        self.harvests = self.regret = self.changed = self.reborn = self.false = self.missed = np.zeros(1)

    def add(self, done: Round) -> None:
        for name, so_far in vars(self).items():
            setattr(self, name, so_far + getattr(done, name))


def _records(simulation: Simulation) -> Floats:
    """Records in store of every leaf there is, shape (runs, leaves)."""
    forest = simulation.forest
    arms = forest.arm[:, simulation.world.places.of_leaf]
    return np.where(arms >= 0, forest.pairs[arms], 0).astype(np.float64)


def imbalance(records: Floats) -> Floats:
    """The Gini coefficient of each row: half the mean difference of two leaves, over the mean. nan for a row of 0."""
    ordered = np.sort(records, axis=1)
    n = ordered.shape[1]
    ranks = np.arange(1, n + 1)
    with np.errstate(invalid="ignore"):
        return np.asarray(2 * (ordered @ ranks) / (n * ordered.sum(axis=1)) - (n + 1) / n)


def cell(told: dict[str, Any]) -> str:
    """`0.123 ± 0.023` in a table: the mean and half the interval."""
    if told["mean"] is None:
        return "-"
    digits = 0 if abs(told["mean"]) >= 100 else 1 if abs(told["mean"]) >= 10 else 3
    shown = f"{told['mean']:.{digits}f}"
    return shown if told["low"] in (None, told["mean"]) else f"{shown} ± {told['high'] - told['mean']:.{digits}f}"


def rows(reports: Iterable[tuple[str, dict[str, Any]]]) -> list[list[str]]:
    """A line per policy, its figures in the order of FIGURES."""
    return [[name, *(cell(told["figures"][figure]) for figure in FIGURES)] for name, told in reports]
