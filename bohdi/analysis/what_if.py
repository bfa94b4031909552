"""What-if (a): the recorded outcomes of a run folded under other settings. Exact: see `variants` for what stays.

Between two sweeps the rewards of a node are the same under all settings but those of the reward rule. So the run is
read once (`tape`); then each stretch between sweeps is added up once a rule, and the sweeps are done for all variants
in a few vectorised passes over arrays of shape (variants, arms).
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from bohdi.analysis.ballots import NO_REWARD
from bohdi.analysis.tape import FAILED, Tape
from bohdi.analysis.variants import Variant, reward_rules
from bohdi_common.core import swblrt
from bohdi_common.core.state import Introspection, Outcome, RunState, Slot
from bohdi_common.core.tree import LEAF_LEVEL, ROOT, Tree
from bohdi_common.runtime.config import BadConfig

_BITS = 64
_CELLS_MAX = 100_000_000  # variants times arms: 3 GB

Ints = NDArray[np.int64]


@dataclass
class Folds:
    """The variants' folds: `wins`, `losses` (since the last rebirth, its window included) and `rebirths`, of shape
    (variants, arms). `bits`: the last 64 rewards of each arm, the newest lowest, and `rewards`: of each outcome of the
    tape, by reward rule. `rule`: of each variant. `reborn`: per variant, the nodes of each sweep."""

    tape: Tape
    variants: Sequence[Variant]
    rule: list[int]
    rewards: NDArray[np.int8]
    wins: Ints
    losses: Ints
    rebirths: Ints
    bits: NDArray[np.uint64]
    reborn: list[list[Ints]]

    def posterior(self, variant: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """alpha and beta of every arm, shape (arms,)."""
        alpha, beta = self.variants[variant].prior
        return alpha + self.wins[variant], beta + self.losses[variant]

    def harvests(self, variant: int) -> int:
        """Outcomes that gave a reward."""
        return int((self.rewards[self.rule[variant]] != NO_REWARD).sum())

    def agrees(self, variant: int) -> bool:
        """Whether every sweep gave rebirth to just the nodes that the log has."""
        made = [tuple(nodes.tolist()) for nodes in self.reborn[variant]]
        if not self.variants[variant].null:
            made = [() for _ in self.tape.sweeps]
        return made == [tuple(sorted(sweep.nodes)) for sweep in self.tape.sweeps]


def fold(tape: Tape, variants: Sequence[Variant]) -> Folds:
    """Raises BadConfig when there is no memory for so many."""
    arms = len(tape.state.tree)
    if len(variants) * arms > _CELLS_MAX:
        raise BadConfig(f"what-if: {len(variants)} combinations of {arms} arms: ask for fewer at a time")
    rules = reward_rules(variants)
    shape = (len(variants), arms)
    folds = Folds(
        tape,
        variants,
        [rules.index(variant.rewards) for variant in variants],
        _rewards(tape, variants),
        wins=np.zeros(shape, dtype=np.int64),
        losses=np.zeros(shape, dtype=np.int64),
        rebirths=np.zeros(shape, dtype=np.int64),
        bits=np.zeros((len(rules), arms), dtype=np.uint64),
        reborn=[[] for _ in variants],
    )
    _start_unk(folds)
    starts = [0, *(sweep.outcomes for sweep in tape.sweeps)]
    stops = [*(sweep.outcomes for sweep in tape.sweeps), len(tape.leaf)]
    for number, (start, stop) in enumerate(zip(starts, stops, strict=True)):
        _add(folds, start, stop)
        if number < len(tape.sweeps):
            _sweep(folds)
    return folds


def _rewards(tape: Tape, variants: Sequence[Variant]) -> NDArray[np.int8]:
    """Shape (reward rules, outcomes)."""
    rows = np.array(tape.row, dtype=np.int64)
    made = np.full((len(reward_rules(variants)), len(rows)), NO_REWARD, dtype=np.int8)
    judged = rows != FAILED
    for number, rule in enumerate(reward_rules(variants)):
        made[number, judged] = tape.ballots.rewards(rule)[rows[judged]]
    return made


def _start_unk(folds: Folds) -> None:
    """What an `unk` arm counts is sprouts, which no variant changes."""
    tree = folds.tape.state.tree
    unk = np.flatnonzero(tree.column(tree.is_unk))
    folds.wins[:, unk] = tree.column(tree.alpha)[unk] - 1
    folds.losses[:, unk] = tree.column(tree.beta)[unk] - 1


def _add(folds: Folds, start: int, stop: int) -> None:
    """The outcomes `start` to `stop` of the tape, each on the nodes of its path."""
    tree, arms = folds.tape.state.tree, folds.wins.shape[1]
    if start == stop:
        return
    parent = tree.column(tree.parent)
    leaves = np.array(folds.tape.leaf[start:stop], dtype=np.int64)
    for rule, rewards in enumerate(folds.rewards[:, start:stop]):
        counted = rewards != NO_REWARD
        path = [leaves[counted]]
        while len(path) < LEAF_LEVEL:
            path.append(parent[path[-1]].astype(np.int64))
        nodes = np.stack(path, axis=1).reshape(-1)
        won = np.repeat(rewards[counted], LEAF_LEVEL).astype(np.int64)
        wins = np.bincount(nodes, weights=won, minlength=arms).astype(np.int64)
        losses = np.bincount(nodes, minlength=arms) - wins
        of_rule = np.flatnonzero(np.array(folds.rule) == rule)
        folds.wins[of_rule] += wins
        folds.losses[of_rule] += losses
        _shift_in(folds.bits[rule], nodes, won)


def _shift_in(bits: NDArray[np.uint64], nodes: Ints, won: Ints) -> None:
    """Appends each node's rewards, in their order, to its last 64."""
    if not len(nodes):
        return
    order = np.argsort(nodes, kind="stable")
    ordered = nodes[order]
    firsts = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]])
    counts = np.diff(np.r_[firsts, len(ordered)])
    age = np.repeat(firsts + counts, counts) - 1 - np.arange(len(ordered))  # 0: the newest
    kept = age < _BITS
    shifted = np.where(kept, won[order], 0).astype(np.uint64) << np.where(kept, age, 0).astype(np.uint64)
    node, fresh = ordered[firsts], np.bitwise_or.reduceat(shifted, firsts)
    old = bits[node] << np.minimum(counts, _BITS - 1).astype(np.uint64)
    bits[node] = np.where(counts < _BITS, old, 0) | fresh


# ---- sweeps ----------------------------------------------------------------------------------------------------


def _sweep(folds: Folds) -> None:
    """Introspection-Rebirth in every variant that has it: those with one kind of test at a time."""
    kinds: dict[tuple[int, str], list[int]] = {}
    for number, variant in enumerate(folds.variants):
        if variant.null:
            kinds.setdefault((variant.window, variant.null), []).append(number)
    for (window, null), members in kinds.items():
        _sweep_kind(folds, window, null, np.array(members))


def _sweep_kind(folds: Folds, w: int, null: str, members: Ints) -> None:
    tree = folds.tape.state.tree
    domains = np.flatnonzero((tree.column(tree.is_unk) == 0) & (tree.column(tree.level) > 0))
    wins, losses = folds.wins[np.ix_(members, domains)], folds.losses[np.ix_(members, domains)]
    member, column = np.nonzero(wins + losses >= (w if null == "window" else 2 * w))
    nodes, wins, losses = domains[column], wins[member, column], losses[member, column]
    rules = np.array(folds.rule)[members][member]
    in_window = np.bitwise_count(folds.bits[rules, nodes] & _mask(w)).astype(np.int64)
    bounds = np.searchsorted(member, np.arange(len(members) + 1)).tolist()
    variants = [(number, slice(*tested)) for number, tested in zip(members.tolist(), pairwise(bounds), strict=True)]

    def rejects(p_value: NDArray[np.float64]) -> Ints:
        """In every variant by itself."""
        chosen = [_chosen(p_value[tested], folds.variants[number]) + tested.start for number, tested in variants]
        return np.concatenate(chosen)

    if null == "window":
        p_value = swblrt.chi_square_tail(swblrt.paper_statistic(wins, losses, in_window, w))
    else:
        before = (wins - in_window, losses - (w - in_window))
        statistic = swblrt.two_sample_statistic(in_window, w, *before)
        p_value = swblrt.two_sample_p_values(in_window, w, *before, statistic, rejects)
    for number, tested in variants:
        chosen = _chosen(p_value[tested], folds.variants[number])
        born = nodes[tested][chosen]
        folds.wins[number, born] = in_window[tested][chosen]
        folds.losses[number, born] = w - in_window[tested][chosen]
        folds.rebirths[number, born] += 1
        folds.reborn[number].append(born)


def _chosen(p_value: NDArray[np.float64], variant: Variant) -> Ints:
    if variant.correction == "none":
        return np.flatnonzero(p_value < variant.threshold)
    return np.flatnonzero(swblrt.benjamini_hochberg(p_value, variant.threshold))


def _mask(window: int) -> np.uint64:
    return np.uint64((1 << window) - 1)


# ---- the state of a variant ------------------------------------------------------------------------------------


def state_of(folds: Folds, number: int) -> RunState:
    """The state as the bandit would have it after the same outcomes. Raises BadConfig for a prior that is not whole."""
    variant, recorded = folds.variants[number], folds.tape.state
    if not variant.whole_prior:
        raise BadConfig("what-if: the bandit counts in whole numbers: with such a prior there is no state of it")
    assert recorded.rules is not None
    rules = replace(
        recorded.rules,
        window=variant.window,
        threshold=variant.threshold,
        introspection=int(variant.introspection),
    )
    rewards = folds.rewards[folds.rule[number]]
    was_on = recorded.rules.introspection != Introspection.OFF
    introspected = recorded.introspected if was_on else recorded.training is not None
    return replace(
        recorded,
        rules=rules,
        tree=_tree(folds, number, rewards),
        pairs=_pairs(folds.tape, rewards),
        counts=_counts(folds, number),
        slots=[_slot(folds, number, slot) for slot in recorded.slots],
        introspected=introspected and bool(variant.null),
    )


def _tree(folds: Folds, number: int, rewards: NDArray[np.int8]) -> Tree:
    recorded, variant = folds.tape.state.tree, folds.variants[number]
    alpha, beta = (column.astype(np.int64).tolist() for column in folds.posterior(number))
    window = (folds.bits[folds.rule[number]] & _mask(variant.window)).tolist()
    misses, closed = _misses(folds.tape, rewards)
    is_open = _open(recorded, closed)
    rows = recorded.rows()
    for arm, row in enumerate(rows):
        row[7] = is_open[arm]
        if arm != ROOT:
            row[4:7] = alpha[arm], beta[arm], window[arm]
            row[8:11] = closed[arm], misses[arm], int(folds.rebirths[number, arm])
    tree = Tree.of_rows(variant.window, rows)
    for leaf in _pairs(folds.tape, rewards):
        tree.pair_stored(leaf)
    return tree


def _misses(tape: Tape, rewards: NDArray[np.int8]) -> tuple[list[int], list[int]]:
    """Per arm: failures in a row up to the end, and whether it was closed, which a leaf is after too many."""
    tree, rules = tape.state.tree, tape.state.rules
    assert rules is not None
    misses, closed = list(tree.misses), list(tree.closed)
    order = np.argsort(np.array(tape.leaf, dtype=np.int64), kind="stable")
    leaves = np.array(tape.leaf, dtype=np.int64)[order].tolist()
    for leaf in set(leaves):
        misses[leaf] = closed[leaf] = 0
    for leaf, counted in zip(leaves, (rewards[order] != NO_REWARD).tolist(), strict=True):
        misses[leaf] = 0 if counted else misses[leaf] + 1
        closed[leaf] |= misses[leaf] >= rules.leaf_failures
    return misses, [int(value) for value in closed]


def _open(tree: Tree, closed: list[int]) -> list[int]:
    """A leaf or `unk` arm is open unless closed, any other node while an arm under it is."""
    level, parent, is_unk = (tree.column(column) for column in (tree.level, tree.parent, tree.is_unk))
    ends = (level == LEAF_LEVEL) | (is_unk != 0)
    is_open = (ends & (np.array(closed) == 0)).astype(np.int64)
    for depth in range(LEAF_LEVEL, 0, -1):
        arms = np.flatnonzero(level == depth)
        np.maximum.at(is_open, parent[arms], is_open[arms])
    return [int(value) for value in is_open]


def _pairs(tape: Tape, rewards: NDArray[np.int8]) -> dict[int, array[int]]:
    pairs: dict[int, array[int]] = {}
    for outcome in np.flatnonzero(rewards != NO_REWARD).tolist():
        pairs.setdefault(tape.leaf[outcome], array("Q")).append(tape.sequence[outcome])
    return pairs


def _counts(folds: Folds, number: int) -> dict[str, int]:
    recorded = folds.tape.state
    judged = np.array(folds.tape.row, dtype=np.int64) != FAILED
    harvests = folds.harvests(number)
    changed = {
        "harvests": harvests,
        "no_verdict": int(judged.sum()) - harvests,
        "rebirths": int(folds.rebirths[number].sum()),
        "late": recorded.counts.get("late", 0) + _unwanted_sweeps(folds, number),
    }
    return {what: count for what, count in (recorded.counts | changed).items() if count}


def _unwanted_sweeps(folds: Folds, number: int) -> int:
    """Where the run had sweeps and the variant has none, the log's are late in it."""
    rules = folds.tape.state.rules
    assert rules is not None
    on = rules.introspection != Introspection.OFF
    return len(folds.tape.sweeps) if on and not folds.variants[number].null else 0


def _slot(folds: Folds, number: int, slot: Slot) -> Slot:
    """In lockstep a slot keeps its result until the step is over."""
    outcome, tape = slot.outcome, folds.tape
    if outcome is None or outcome.sequence not in tape.of_step:
        return slot
    reward = int(tape.ballots.rewards(folds.variants[number].rewards)[tape.of_step[outcome.sequence]])
    counted = reward != NO_REWARD
    made = Outcome("harvests" if counted else "no_verdict", outcome.sequence, reward if counted else 0)
    return replace(slot, outcome=made)
