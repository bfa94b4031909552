"""What-if (b): what another policy of draws would have earned, estimated from the draws that were made.

The estimand: the mean reward (1: the target lost) of the next harvest in a known leaf, had each step's paths been drawn
by the other policy, over the states that the run went through. What training and later states would then have become is
not in the log. The estimate is doubly robust (Dudik, Langford and Li 2011): the other policy's mean of what the
posteriors expected, which is computed and not sampled, plus the mean surprise of the harvests that were made, each
weighted by how much likelier the other policy was to draw it, normalised by the sum of weights (a harvest without a
verdict says nothing).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
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
    """Over the steps: what the other policy expects by the posteriors, and its chance to come to a known leaf; of each
    harvest that came of a draw from Root: its weight and surprise."""

    expected: float = 0.0
    chance: float = 0.0
    integrated: int = 0
    weights: list[float] = field(default_factory=list)
    surprises: list[float] = field(default_factory=list)


@dataclass(frozen=True)
class Estimate:
    """`value` within `low` to `high` at 95%; refused, and why, where the draws say too little about the other policy.
    `effective`: so many equally weighted harvests would say as much. `recorded`: the mean reward as it was drawn."""

    harvests: int
    effective: float
    recorded: float
    value: float | None
    low: float | None
    high: float | None
    refused: str = ""

    def told(self) -> dict[str, Any]:
        """For JSON."""
        return dict(vars(self))


def estimate(events: Iterable[Event], other: Policy, at: Point = END) -> Estimate:
    """The other policy on a run's events up to a moment. Raises BadConfig."""
    state, sums = RunState(), _Sums()
    waiting: dict[str, tuple[float, float]] = {}  # weight and expected reward, by request
    rewards: list[int] = []
    for event in events:
        if at.before(state, event):
            break
        due, slot = state.next(), _slot_of(state, event)
        evolve(state, event)
        if event.HasField("paths_drawn") and due == Next.STEP and state.slots:
            waiting = _weigh(state, sums, other)
        elif event.HasField("harvest_judged") and slot is not None:
            judged = event.harvest_judged
            drawn = waiting.pop(judged.request_hash, None) if judged.request_hash == slot.request_hash else None
            if drawn is not None and judged.counted:
                rewards.append(1 if judged.reward else 0)
                sums.weights.append(drawn[0])
                sums.surprises.append(rewards[-1] - drawn[1])
    if why := at.missed(state):
        raise PastTheEnd(why)
    return _estimated(sums, rewards)


def _slot_of(state: RunState, event: Event) -> Slot | None:
    """The open slot that an event names, if it waits for a harvest."""
    in_place = (event.round, event.step) == (state.round, state.step) and event.slot < len(state.slots)
    slot = state.slots[event.slot] if in_place else None
    return slot if slot is not None and slot.waits == Waits.RESULT and not state.rehearsing else None


def _weigh(state: RunState, sums: _Sums, other: Policy) -> dict[str, tuple[float, float]]:
    """Weight and expected reward of each slot that was drawn down to a known leaf, by its request. A draw moves no
    posterior: the tree is still that of the state it was made in."""
    assert state.rules is not None
    tree = state.tree
    sums.integrated += sum(tree.nodes_by_level[:LEAF_LEVEL])
    if sums.integrated > _NODES_MAX:
        raise BadConfig("--policy: the tree is too large for that many steps: give an earlier moment by --at")
    drawn, wanted = reach(tree, state.rules.sharpness), other(tree)
    leaves = [leaf for leaf in tree.leaves() if tree.open[leaf]]
    sums.expected += len(state.slots) * float(sum(wanted[leaf] * tree.mean(leaf) for leaf in leaves))
    sums.chance += len(state.slots) * float(wanted[leaves].sum())
    return {
        slot.request_hash: (float(wanted[slot.path[-1]] / drawn[slot.path[-1]]), tree.mean(slot.path[-1]))
        for slot in state.slots
        if len(slot.path) == LEAF_LEVEL and drawn[slot.path[-1]] > 0
    }


def _estimated(sums: _Sums, rewards: list[int]) -> Estimate:
    weights, surprises = np.array(sums.weights), np.array(sums.surprises)
    total = float(weights.sum())
    effective = total**2 / float((weights**2).sum()) if total else 0.0
    recorded = float(np.mean(rewards)) if rewards else math.nan
    plain = Estimate(len(rewards), effective, recorded if rewards else 0.0, None, None, None)
    if effective < ESS_MIN or not sums.chance:
        why = f"the draws that were made tell of it as much as {effective:.1f} harvests would; {ESS_MIN:.0f} are needed"
        return _refused(plain, why)
    if weights.max() / total > _HEAVIEST:
        return _refused(plain, f"a single harvest has {weights.max() / total:.0%} of all weight")
    surprise = float(weights @ surprises) / total
    error = math.sqrt(float((weights**2 * (surprises - surprise) ** 2).sum())) / total
    value = sums.expected / sums.chance + surprise
    reach_95 = float(student.ppf((1 + _CONFIDENCE) / 2, effective - 1)) * error
    return Estimate(len(rewards), effective, recorded, value, value - reach_95, value + reach_95)


def _refused(plain: Estimate, why: str) -> Estimate:
    return Estimate(plain.harvests, plain.effective, plain.recorded, None, None, None, why)
