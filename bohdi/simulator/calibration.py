"""The model of domains that a run's log speaks for.

Its leaves are those that the run knew. Weakness at the start, learning and forgetting are fitted to the counted rewards
by maximum likelihood: each leaf's start has a prior over a grid, the same for all leaves and estimated with the rest
(nonparametric empirical Bayes, Laird 1978), and is its posterior mean; what trainings do to it is DomainModel's, by the
samples that the log says they had. How often the panel errs follows from how often its judges differ, supposing that
they err alike and independently; a leaf where nobody knew better than the judges is beyond that.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import combinations

import numpy as np
from scipy.optimize import minimize
from scipy.stats import binom

from bohdi.simulator.model import DomainModel, Leaf
from bohdi.simulator.world import Floats, Ints, Places, World
from bohdi_common.core.evolve import evolve
from bohdi_common.core.state import RunState
from bohdi_common.events.events_pb2 import Event, HarvestJudged
from bohdi_common.runtime.config import BadConfig

_GRID = np.linspace(0.01, 0.99, 25)
_EM_TURNS = 30
_FIT_TURNS = 120
_ERROR_MAX = 0.4

Path = tuple[str, ...]


@dataclass
class _Seen:
    """What a log says of its domains. Rewards: (round, path) of the counted harvests, lost and all."""

    lost: Counter[tuple[int, Path]] = field(default_factory=Counter)
    judged: Counter[tuple[int, Path]] = field(default_factory=Counter)
    samples: Counter[tuple[int, Path]] = field(default_factory=Counter)
    rounds: int = 1
    no_verdict: int = 0
    pairs_of_votes: int = 0
    differing: int = 0
    voters: Counter[int] = field(default_factory=Counter)
    sprouts: list[tuple[int, bool]] = field(default_factory=list)  # under which parent, and whether one was found

    def judge(self, round_: int, judged: HarvestJudged) -> None:
        if not judged.counted:
            self.no_verdict += 1
            return
        at = (round_, tuple(judged.path))
        self.judged[at] += 1
        self.lost[at] += judged.reward > 0
        self.rounds = max(self.rounds, round_ + 1)
        votes = {verdict.judge: verdict.choice for verdict in judged.verdicts if verdict.counted}
        self.voters[len(votes)] += 1
        for one, other in combinations(votes.values(), 2):
            self.pairs_of_votes += 1
            self.differing += one != other


def calibrated(log: Iterable[Event]) -> DomainModel:
    """The model of a run, by its events. Raises BadConfig for a log without a counted harvest."""
    seen = _read(log)
    if not seen.judged:
        raise BadConfig("--from: the log holds no harvest with a verdict: there is nothing to take a model from")
    paths = sorted({path for _, path in seen.judged})
    fitted, weakness = _fit(seen, paths)
    leaves = tuple(Leaf(path=_three(path), weakness=round(w, 4)) for path, w in zip(paths, weakness, strict=True))
    verdicts = seen.no_verdict + sum(seen.judged.values())
    return DomainModel(
        leaves=leaves,
        learns=round(fitted.learns, 5),
        forgets=round(fitted.forgets, 5),
        judge_error=fitted.judge_error,
        no_verdict=round(min(0.99, seen.no_verdict / verdicts), 4),
        sprout_finds=_sprout_finds(seen.sprouts),
    )


def _three(path: Path) -> tuple[str, str, str]:
    main, secondary, sub = path
    return main, secondary, sub


def _read(log: Iterable[Event]) -> _Seen:
    seen, state = _Seen(), RunState()
    stored: dict[int, Path] = {}
    for event in log:
        kind, at, before = event.WhichOneof("body"), state.sequence, dict(state.counts) if _settles(event) else {}
        round_, training = state.round, state.training
        evolve(state, event)
        if kind in ("harvest_judged", "rehearsal_answered"):
            stored[at] = tuple(getattr(event, kind).path)
            if kind == "harvest_judged" and state.counts.get("late", 0) == before.get("late", 0):
                seen.judge(round_, event.harvest_judged)
        elif kind in ("domains_sprouted", "sprout_failed"):
            found = state.counts.get("sprouts", 0) > before.get("sprouts", 0)
            if found or state.counts.get("sprouts_rejected", 0) > before.get("sprouts_rejected", 0):
                seen.sprouts.append((getattr(event, kind).parent, found))
        elif kind == "target_promoted" and training is not None and state.training is None:
            seen.samples.update((round_, stored[sample]) for sample in training.samples if sample in stored)
    return seen


def _settles(event: Event) -> bool:
    return event.WhichOneof("body") in ("harvest_judged", "domains_sprouted", "sprout_failed")


def _sprout_finds(sprouts: list[tuple[int, bool]]) -> float:
    """How often one found a name while there was one to be found: failures after the last success under a parent tell
    that nothing was missing, and do not count."""
    last = {parent: turn for turn, (parent, found) in enumerate(sprouts) if found}
    tried = [found for turn, (parent, found) in enumerate(sprouts) if turn <= last.get(parent, -1)]
    return round(sum(tried) / len(tried), 4) if tried else 1.0


def _judge_error(seen: _Seen) -> float:
    """Of the majority. Two judges that each err with chance e differ with chance 2 e (1 - e)."""
    differ = min(seen.differing / seen.pairs_of_votes, 0.48) if seen.pairs_of_votes else 0.0
    alone = (1 - math.sqrt(1 - 2 * differ)) / 2
    judges = seen.voters.most_common(1)[0][0]
    return round(min(_ERROR_MAX, float(binom.sf(judges // 2, judges, alone))), 4) if judges > 1 else round(alone, 4)


def _fit(seen: _Seen, paths: list[Path]) -> tuple[DomainModel, Floats]:
    """The model's learning and forgetting, and every leaf's weakness at the start, shape (leaves,)."""
    lost, judged, samples = (
        np.array([[counts[round_, path] for path in paths] for round_ in range(seen.rounds)])
        for counts in (seen.lost, seen.judged, seen.samples)
    )
    error, places = _judge_error(seen), Places(paths)

    def model(logs: Floats) -> DomainModel:
        learns, forgets = np.exp(np.clip(logs, -12, 2)).tolist()
        return DomainModel(learns=learns, forgets=forgets, judge_error=error)

    def cost(logs: Floats) -> float:
        return -_marginal(_likelihoods(model(logs), places, lost, judged, samples))[0]

    start = np.log([0.03, 0.02])
    found = minimize(cost, start, method="Nelder-Mead", options={"maxfev": _FIT_TURNS, "xatol": 0.01, "fatol": 0.01})
    fitted = model(found.x)
    posterior = _marginal(_likelihoods(fitted, places, lost, judged, samples))[1]
    return fitted, np.asarray(_GRID @ posterior)


def _likelihoods(model: DomainModel, places: Places, lost: Ints, judged: Ints, samples: Ints) -> Floats:
    """Log likelihood of each leaf's rewards for each start, shape (starts, leaves); the others are (rounds, leaves)."""
    weakness = np.tile(_GRID[:, None], (1, places.leaves))
    world = World(model, places, list(range(len(_GRID))), weakness)
    total = np.zeros_like(weakness)
    for of_round in range(len(lost)):
        chance = world.seen(world.weakness).clip(1e-6, 1 - 1e-6)
        total += lost[of_round] * np.log(chance) + (judged - lost)[of_round] * np.log1p(-chance)
        world.train(np.tile(samples[of_round], (len(_GRID), 1)))
    return total


def _marginal(log_likelihoods: Floats) -> tuple[float, Floats]:
    """Log likelihood of all leaves under the prior over starts that fits them best, by EM, and the posterior of each
    leaf's start, shape (starts, leaves)."""
    top = log_likelihoods.max(axis=0)
    likelihoods = np.exp(log_likelihoods - top)
    prior = np.full(len(_GRID), 1 / len(_GRID))
    for _ in range(_EM_TURNS):
        posterior = prior[:, None] * likelihoods
        posterior /= posterior.sum(axis=0)
        prior = posterior.mean(axis=1)
    return float((np.log(prior @ likelihoods) + top).sum()), posterior
