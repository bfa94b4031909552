"""Simulated runs side by side, against the same runs event for event through the bandit's own fold and decisions."""

from __future__ import annotations

from benchmarks.rows import Measured
from benchmarks.timing import best_seconds
from bohdi.simulator.model import DomainModel
from bohdi.simulator.recorded import Recording
from bohdi.simulator.setup import configuration, settings, simulations

_MODEL = DomainModel()
_SEEDS = range(200)
_HARVESTS = 1_800
_RECORDED = range(5)
_TURNS = 3


def per_second() -> Measured:
    """Harvests of all runs together; the first times the bandit's own a harvest."""
    simulated_s, recorded_s = best_seconds(_TURNS, _simulated, _recorded)
    harvests_s = len(_SEEDS) * _HARVESTS / simulated_s
    each_s = recorded_s / len(_RECORDED) / _HARVESTS
    return Measured(harvests_s, "harvests/s", "the bandit service's own fold of the same runs", harvests_s * each_s)


def _simulated() -> None:
    for runs in simulations(_MODEL, "default", _SEEDS, _HARVESTS):
        for _ in runs.rounds():
            pass


def _recorded() -> None:
    config = configuration(_MODEL, "default", _HARVESTS)
    for seed in _RECORDED:
        for _ in Recording(_MODEL, settings(config, seed)).events():
            pass
