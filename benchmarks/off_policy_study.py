"""How far estimates of other policies can be trusted: their intervals beside the truth, which a simulation knows. The
table is in docs/simulator.md.

`python -m benchmarks.off_policy_study [SEEDS]`: runs of the simulator's default model, 100 seeds of each policy; about
six minutes of one core.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.marked import table, write_between
from bohdi.analysis import off_policy
from bohdi.analysis.off_policy import Estimate, Policy
from bohdi.analysis.propensity import Floats
from bohdi.simulator.model import DomainModel
from bohdi.simulator.recorded import Recording
from bohdi.simulator.setup import configuration, settings
from bohdi_common.core.tree import Tree
from bohdi_common.events.events_pb2 import Event

REPORT = Path("docs/simulator.md")
SEEDS = 100
HARVESTS = 2880
SETS = ("bandit.slots=120",)
PRESETS = {"default": "sharpness=2", "paper": "sharpness=inf"}
POLICIES = ("sharpness=1", "sharpness=2", "sharpness=4", "sharpness=inf", "uniform")


@dataclass(frozen=True)
class Checked:
    """An estimate and the truth."""

    estimate: Estimate
    truth: float

    @property
    def covers(self) -> bool:
        found = self.estimate
        return found.low is not None and found.high is not None and found.low <= self.truth <= found.high

    @property
    def width(self) -> float:
        return float("nan") if self.estimate.low is None else (self.estimate.high or 0.0) - self.estimate.low


def checked(
    preset: str,
    seed: int,
    harvests: int = HARVESTS,
    sets: Sequence[str] = SETS,
    policies: Sequence[str] = POLICIES,
) -> list[Checked]:
    """One run's estimates, in the order of `policies`."""
    model = DomainModel()
    run = Recording(model, settings(configuration(model, preset, harvests, sets), seed))
    world = run.answers.world
    events: list[Event] = []
    chances: list[Floats] = []  # of every leaf that there is, at each step
    for event in run.events():
        events.append(event)
        if event.HasField("paths_drawn") and not event.paths_drawn.rehearsal:
            chances.append(world.seen(world.weakness[0]).copy())
    told = [_Told(off_policy.policy(said), chances, run) for said in policies]
    found = off_policy.estimates(events, [other.asked for other in told])
    return [Checked(estimate, other.truth) for estimate, other in zip(found, told, strict=True)]


class _Told:
    """A policy that is watched: what it would have earned in the states that it is asked about, by the true chances."""

    def __init__(self, other: Policy, chances: list[Floats], run: Recording) -> None:
        self._other, self._chances, self._places = other, iter(chances), run.answers.world.places
        self._earned = self._came = 0.0

    def asked(self, tree: Tree) -> Floats:
        reached, chances = self._other(tree), next(self._chances)
        for leaf in (leaf for leaf in tree.leaves() if tree.open[leaf]):
            place = self._places.by_path[tuple(tree.path_names(leaf))]
            self._earned += reached[leaf] * chances[self._places.leaf[place]]
            self._came += reached[leaf]
        return reached

    @property
    def truth(self) -> float:
        return float(self._earned / self._came)


def row(own: str, said: str, runs: Sequence[Checked]) -> list[str]:
    """Coverage is of the estimates that were given."""
    given = [run for run in runs if run.estimate.value is not None]
    refused = f"{1 - len(given) / len(runs):.0%}"
    if not given:
        return [own, said, "-", "-", "-", refused, "-"]
    covered = sum(run.covers for run in given)
    bias = np.mean([(run.estimate.value or 0.0) - run.truth for run in given])
    beyond = np.median([run.estimate.beyond for run in given])
    width = np.median([run.width for run in given])
    return [own, said, f"{covered} of {len(given)}", f"{width:.3f}", f"{bias:+.4f}", refused, f"{beyond:.1%}"]


HEAD = ["the run's own", "estimated", "95% intervals that cover", "median width", "bias", "refused", "bounded"]


def main() -> None:
    seeds = int(sys.argv[1]) if len(sys.argv) > 1 else SEEDS
    rows = []
    for preset, own in PRESETS.items():
        runs = [checked(preset, seed) for seed in range(seeds)]
        rows += [row(own, said, of) for said, of in zip(POLICIES, zip(*runs, strict=True), strict=True)]
    written = table(HEAD, rows)
    write_between(REPORT, {"off-policy": written})
    print(written)


if __name__ == "__main__":
    main()
