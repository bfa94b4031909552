"""What-if (b): what another policy of draws would have earned, estimated from the draws that were made.

The estimand: the mean reward (1: the target lost) of the next harvest in a known leaf, had each step's paths been drawn
by the other policy, over the states that the run went through. What training and later states would then have become is
not in the log. The estimate is doubly robust (Dudik, Langford and Li 2011): the other policy's mean of what the
rewards before let expect (`_expected`), which is computed and not sampled, plus the mean surprise of the harvests that
were made, each weighted by how much likelier the other policy was to draw it, normalised by the sum of weights (a
harvest without a verdict says nothing).

Where the other policy draws a leaf very much oftener than the run did, a harvest there would outweigh all others, and
where there was none nothing would tell that it is missing. Beyond a limit such draws are not estimated but bounded:
they earn 0 at least and 1 at most (Manski 1990), which widens the interval. The limit is the one that makes the
interval narrowest by what was expected of each harvest before it was judged (as Crump, Hotz, Imbens and Mitnik 2009).
The variance is the larger of that of the weighted surprises and the one that was expected of them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from scipy.stats import t as student

from bohdi.analysis.points import END, PastTheEnd, Point
from bohdi.analysis.propensity import Floats, open_arms
from bohdi_common.core.evolve import evolve
from bohdi_common.core.state import Next, RunState, Slot, Waits
from bohdi_common.core.tree import LEAF_LEVEL, ROOT, Tree
from bohdi_common.events.events_pb2 import Event
from bohdi_common.runtime.config import BadConfig

ESS_MIN = 50.0
_HEAVIEST = 0.1  # share of all weight that one harvest may have
_NODES_MAX = 2_000_000  # draws of children that are integrated at most
_CONFIDENCE = 0.95
_NORMAL = 1.96
_LIMITS = 5.0 * 2.0 ** np.arange(9)  # of how much likelier a harvest was by the other policy
_LEANS, _LEANS_ABOVE = 3, 4  # rewards that what stands above is worth
_SPREAD_MIN = 0.02  # the variance that a reward has at least, however sure its posterior

MEANS = (
    "The reward of the next harvest in a known leaf, in the states that the run went through. What training and later "
    "states would have become is not in the log."
)

Policy = Callable[[Tree], Floats]  # how likely a draw from Root comes to or through each arm


def policy(said: str) -> Policy:
    """`sharpness=S` (`inf`: Thompson's argmax, 0: uniform at every level), or `uniform` over the open leaves. Raises
    BadConfig."""
    if said == "uniform":
        return _uniform
    name, equals, text = said.partition("=")
    try:
        sharpness = float(text) if name == "sharpness" and equals else math.nan
    except ValueError:
        sharpness = math.nan
    if not sharpness >= 0:
        raise BadConfig(f"--policy {said}: give sharpness=S (a number from 0 to inf) or uniform")
    return lambda tree: reach(tree, sharpness)


def reach(tree: Tree, sharpness: float) -> Floats:
    """The bandit's own policy at a sharpness, every open arm taking part, shape (arms,)."""
    reached = np.zeros(len(tree))
    reached[ROOT] = 1.0
    for node in range(len(tree)):  # in the order of birth: a parent before its children
        if reached[node] and not tree.is_unk[node] and tree.level[node] < LEAF_LEVEL:
            arms, chances = open_arms(tree, node, sharpness)
            reached[arms] = reached[node] * chances
    return reached


def _uniform(tree: Tree) -> Floats:
    reached = np.zeros(len(tree))
    leaves = [leaf for leaf in tree.leaves() if tree.open[leaf]]
    reached[leaves] = 1 / max(1, len(leaves))
    return reached


@dataclass
class _Sums:
    """Over the steps: what the other policy expects by the rewards before, its chance to come to a known leaf, and the
    run's own; of each harvest that came of a draw from Root: its weight and surprise. By `_LIMITS`: the variance
    expected of harvests within, the chance to come to a leaf beyond, and what is expected there."""

    expected: float = 0.0
    chance: float = 0.0
    drawn: float = 0.0
    variance: Floats = field(default_factory=lambda: np.zeros(len(_LIMITS)))
    beyond: Floats = field(default_factory=lambda: np.zeros(len(_LIMITS)))
    expected_beyond: Floats = field(default_factory=lambda: np.zeros(len(_LIMITS)))
    weights: list[float] = field(default_factory=list)
    surprises: list[float] = field(default_factory=list)

    def add(self, slots: int, wanted: Floats, drawn: Floats, mean: Floats) -> Floats:
        """A step of `slots` draws from Root: over the known leaves the chances of the other policy and of the run, and
        the rewards expected. Returns the weight of a harvest in each."""
        weight = np.divide(wanted, drawn, out=np.where(wanted > 0, np.inf, 0.0), where=drawn > 0)
        self.expected += slots * float(wanted @ mean)
        self.chance += slots * float(wanted.sum())
        self.drawn += slots * float(drawn.sum())
        within = weight <= _LIMITS[:, None]
        spread = np.maximum(mean * (1 - mean), _SPREAD_MIN)
        self.variance += slots * (within * (wanted * np.where(within, weight, 0.0) * spread)).sum(axis=1)
        self.beyond += slots * (~within * wanted).sum(axis=1)
        self.expected_beyond += slots * (~within * (wanted * mean)).sum(axis=1)
        return weight


@dataclass(frozen=True)
class Estimate:
    """`value` within `low` to `high` at 95%; refused, and why, where the draws say too little about the other policy.
    `effective`: so many equally weighted harvests would say as much. `recorded`: the mean reward as it was drawn.
    `beyond`: the share of the other policy's draws that is not estimated but bounded."""

    harvests: int
    effective: float
    recorded: float
    value: float | None
    low: float | None
    high: float | None
    beyond: float = 0.0
    refused: str = ""

    def told(self) -> dict[str, Any]:
        """For JSON."""
        return dict(vars(self))


def estimate(events: Iterable[Event], other: Policy, at: Point = END) -> Estimate:
    """The other policy on a run's events up to a moment. Raises BadConfig."""
    return estimates(events, [other], at)[0]


def estimates(events: Iterable[Event], others: Sequence[Policy], at: Point = END) -> list[Estimate]:
    """As `estimate`, of several policies in one pass."""
    state, sums, integrated = RunState(), [_Sums() for _ in others], 0
    waiting: dict[str, tuple[list[float], float]] = {}  # weight by each policy, and expected reward, by request
    rewards: list[int] = []
    for event in events:
        if at.before(state, event):
            break
        due, slot = state.next(), _slot_of(state, event)
        evolve(state, event)
        if event.HasField("paths_drawn") and due == Next.STEP and state.slots:
            integrated += sum(state.tree.nodes_by_level[:LEAF_LEVEL])
            if integrated > _NODES_MAX:
                raise BadConfig("--policy: the tree is too large for that many steps: give an earlier moment by --at")
            waiting = _weigh(state, sums, others)
        elif event.HasField("harvest_judged") and slot is not None:
            judged = event.harvest_judged
            drawn = waiting.pop(judged.request_hash, None) if judged.request_hash == slot.request_hash else None
            if drawn is not None and judged.counted:
                rewards.append(1 if judged.reward else 0)
                for of_policy, weight in zip(sums, drawn[0], strict=True):
                    of_policy.weights.append(weight)
                    of_policy.surprises.append(rewards[-1] - drawn[1])
    if why := at.missed(state):
        raise PastTheEnd(why)
    return [_estimated(of_policy, rewards) for of_policy in sums]


def _slot_of(state: RunState, event: Event) -> Slot | None:
    """The open slot that an event names, if it waits for a harvest."""
    in_place = (event.round, event.step) == (state.round, state.step) and event.slot < len(state.slots)
    slot = state.slots[event.slot] if in_place else None
    return slot if slot is not None and slot.waits == Waits.RESULT and not state.rehearsing else None


def _weigh(state: RunState, sums: Sequence[_Sums], others: Sequence[Policy]) -> dict[str, tuple[list[float], float]]:
    """Weight by each policy, and expected reward, of each slot that was drawn down to a known leaf, by its request. A
    draw moves no posterior: the tree is still that of the state it was made in."""
    assert state.rules is not None
    tree = state.tree
    drawn = reach(tree, state.rules.sharpness)
    leaves = [leaf for leaf in tree.leaves() if tree.open[leaf]]
    mean = np.array([_expected(tree, leaf) for leaf in leaves])
    weights = [
        of_policy.add(len(state.slots), other(tree)[leaves], drawn[leaves], mean)
        for of_policy, other in zip(sums, others, strict=True)
    ]
    place = {leaf: number for number, leaf in enumerate(leaves)}
    return {
        slot.request_hash: ([float(of[place[slot.path[-1]]]) for of in weights], _expected(tree, slot.path[-1]))
        for slot in state.slots
        if len(slot.path) == LEAF_LEVEL and drawn[slot.path[-1]] > 0
    }


def _expected(tree: Tree, leaf: int) -> float:
    """The chance of a reward in a leaf, by the rewards before: it leans on that of its secondary domain."""
    secondary = tree.parent[leaf]
    above = (tree.alpha[secondary] - 1 + _LEANS_ABOVE / 2) / (tree.pulls(secondary) + _LEANS_ABOVE)
    return (tree.alpha[leaf] - 1 + _LEANS * above) / (tree.pulls(leaf) + _LEANS)


def _estimated(sums: _Sums, rewards: list[int]) -> Estimate:
    weights, surprises = np.array(sums.weights), np.array(sums.surprises)
    recorded = float(np.mean(rewards)) if rewards else 0.0
    if not rewards or not sums.chance:
        return _refused(Estimate(len(rewards), 0.0, recorded, None, None, None), 0.0)
    each = len(rewards) / sums.drawn  # harvests with a verdict of a draw that was expected to come to a known leaf
    variance = sums.variance / (each * sums.chance**2)
    beyond = sums.beyond / sums.chance
    limit = int(np.argmin(2 * _NORMAL * np.sqrt(variance) + beyond))
    within = weights <= _LIMITS[limit]
    weights, surprises = weights[within], surprises[within]
    total = float(weights.sum())
    effective = total**2 / float((weights**2).sum()) if total else 0.0
    plain = Estimate(len(rewards), effective, recorded, None, None, None, float(beyond[limit]))
    heaviest = float(weights.max()) / total if total else 1.0
    if effective < ESS_MIN or heaviest > _HEAVIEST:
        return _refused(plain, heaviest)
    share = 1 - plain.beyond
    surprise = float(weights @ surprises) / total
    seen = float((weights**2 * (surprises - surprise) ** 2).sum()) * (share / total) ** 2
    reach_95 = float(student.ppf((1 + _CONFIDENCE) / 2, effective - 1)) * math.sqrt(max(seen, variance[limit]))
    value = sums.expected / sums.chance + share * surprise
    below = float(sums.expected_beyond[limit]) / sums.chance
    return replace(plain, value=value, low=value - reach_95 - below, high=value + reach_95 + plain.beyond - below)


def _refused(plain: Estimate, heaviest: float) -> Estimate:
    if plain.effective < ESS_MIN:
        told = f"the draws that were made tell of it as much as {plain.effective:.1f} harvests would"
        return replace(plain, refused=f"{told}; {ESS_MIN:.0f} are needed")
    return replace(plain, refused=f"a single harvest has {heaviest:.0%} of all weight")
