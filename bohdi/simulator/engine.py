"""Runs of one model of domains and one policy side by side, by the core's draws, test and rules.

Each run has its own random numbers, those of the bandit service for the same seed, so that it is the same run however
many are beside it. All runs are in the same step at the same time; those in which no arm is open any more end there.
Within a step results come in waves: the harvests of all slots in their order, then the sprouts in the order in which
they were asked for; then the slots that waited go on together.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from bohdi.simulator.forest import Forest
from bohdi.simulator.policies import Policy
from bohdi.simulator.world import Floats, Ints, World
from bohdi_common.core import draws, swblrt
from bohdi_common.core.decide import FORMS, draw_examples, examples_of, target_holds
from bohdi_common.core.state import Introspection, Rules

CHANGED = 0.1  # by which a true chance has moved where a rebirth is called for


@dataclass(frozen=True)
class Round:
    """What a round was, each of shape (runs,). `regret`: the sum over its harvests of how much weaker the weakest leaf
    there is was than the one harvested. `mean`: the target's mean weakness over all leaves, after its training. Of the
    nodes that the sweep tested `changed` had changed; `reborn` were reborn, `false` of them without a change."""

    mean: Floats
    harvests: Ints
    regret: Floats
    tested: Ints
    changed: Ints
    reborn: Ints
    false: Ints
    missed: Ints


@dataclass
class _Slots:
    """Slots of all runs that harvest or wait, each of shape (slots,): whose, which number, and where their path ended.
    Ordered by run and number."""

    run: Ints
    number: Ints
    end: Ints


@dataclass
class _Sprout:
    parent: int
    want: int
    waiting: list[int]


@dataclass
class _Waiting:
    """The slots of one run's step that met an `unk` arm: how often each went on, its sprouts that failed, and from
    which arm it goes on; the sprouts that are asked for; how many were, by parent."""

    attempt: dict[int, int] = field(default_factory=dict)
    failures: dict[int, int] = field(default_factory=dict)
    start: dict[int, int] = field(default_factory=dict)
    child: dict[int, int] = field(default_factory=dict)
    sprouts: dict[int, _Sprout] = field(default_factory=dict)
    asked: dict[int, int] = field(default_factory=dict)


Heard = Callable[[str, int, int, int, Ints, Ints], None]


class Simulation:
    """The runs of `world`'s seeds. `heard`, where given, is told of every drawing and harvest (tests compare it)."""

    def __init__(self, world: World, rules: Rules, policy: Policy, heard: Heard | None = None) -> None:
        self.world, self.rules, self._policy, self._heard = world, rules, policy, heard
        runs = len(world.seeds)
        self.forest = Forest(world.places, runs, rules.window, given=world.model.given)
        self.alive = np.arange(runs)
        self.rehearsed: list[dict[int, int]] = [{} for _ in range(runs)]
        self.pairs = np.zeros(runs, dtype=np.int64)
        self._harvests = np.zeros(runs, dtype=np.int64)
        self._regret = np.zeros(runs)

    def rounds(self) -> Iterator[Round]:
        """Every round, as it is over."""
        for round_ in range(self.rules.rounds):
            self._harvests[:], self._regret[:] = 0, 0.0
            for step in range(self.rules.steps):
                self._step(round_, step)
            if round_ == 0 and self.rules.rehearsal_questions:
                self._rehearse()
            swept = self._introspect()
            self._train(round_)
            yield Round(self.world.weakness.mean(axis=1), self._harvests.copy(), self._regret.copy(), *swept)

    # ---- Meditation --------------------------------------------------------------------------------------------

    def _step(self, round_: int, step: int) -> None:
        tree, slots = self.forest.tree, self.rules.slots
        self.alive = self.alive[tree.column(tree.open)[self.forest.roots[self.alive]] != 0]
        if not len(self.alive):
            return
        rngs = [draws.generator(self.world.seeds[run], round_, step) for run in self.alive.tolist()]
        ends = self._policy.draw(self.forest, self.alive, rngs, self.world.weakness)
        luck = np.zeros((2, len(self.world.seeds), slots))
        for run in self.alive.tolist():
            luck[:, run] = self.world.luck(run, round_, step, slots)
        best = self.world.weakness.max(axis=1)
        drawn = _Slots(np.repeat(self.alive, slots), np.tile(np.arange(slots), len(self.alive)), ends)
        waiting: dict[int, _Waiting] = {}
        wave = 0
        while len(drawn.run):
            self._tell("drawn", round_, step, drawn)
            on_unk = tree.column(tree.is_unk)[drawn.end] != 0
            self._harvest(round_, step, _where(drawn, ~on_unk), luck, best)
            self._wait(_where(drawn, on_unk), waiting, at_first=wave == 0)
            for run, of_run in waiting.items():
                self._sprout(round_, step, run, of_run)
            drawn = self._go_on(round_, step, waiting)
            wave += 1

    def _tell(self, what: str, round_: int, step: int, slots: _Slots, values: Ints | None = None) -> None:
        if self._heard is not None:
            for run in np.unique(slots.run).tolist():
                mine = slots.run == run
                told = slots.end if values is None else values
                self._heard(what, run, round_, step, slots.number[mine], told[mine])

    def _harvest(self, round_: int, step: int, slots: _Slots, luck: Floats, best: Floats) -> None:
        if not len(slots.run):
            return
        leaf = self.forest.leaf_of(slots.end)
        weakness = self.world.weakness[slots.run, leaf]
        chance = self.world.seen(weakness)
        rewards = (luck[0, slots.run, slots.number] < chance).astype(np.int64)
        counted = luck[1, slots.run, slots.number] >= self.world.model.no_verdict
        self._tell("rewards", round_, step, slots, np.where(counted, rewards, -1))
        np.add.at(self._harvests, slots.run, 1)
        np.add.at(self._regret, slots.run, best[slots.run] - weakness)
        np.add.at(self.pairs, slots.run[counted], 1)
        self.forest.harvested(slots.end[counted], rewards[counted], chance[counted])
        self.forest.judged(slots.end, counted, self.rules.leaf_failures)

    # ---- sprouts -----------------------------------------------------------------------------------------------

    def _wait(self, slots: _Slots, waiting: dict[int, _Waiting], at_first: bool) -> None:
        """Slots under one parent share a request; one that comes later joins it. What has just been opened asks for a
        name per slot that waits, and per slot that is about to go on from the same new node (`evolve`)."""
        if not len(slots.run):
            return
        tree = self.forest.tree
        for run, number, end in zip(slots.run.tolist(), slots.number.tolist(), slots.end.tolist(), strict=True):
            of_run = waiting.setdefault(run, _Waiting())
            parent = tree.parent[end]
            if (sprout := of_run.sprouts.get(parent)) is not None:
                sprout.waiting.append(number)
                sprout.want += at_first  # drawn together
            else:
                coming = sum(at == parent for later, at in of_run.child.items() if later > number)
                of_run.sprouts[parent] = _Sprout(parent, 1 + coming, [number])
        for of_run in waiting.values():
            of_run.child.clear()

    def _sprout(self, round_: int, step: int, run: int, of_run: _Waiting) -> None:
        forest, tree = self.forest, self.forest.tree
        for sprout in of_run.sprouts.values():
            parent, unk = sprout.parent, tree.unk_of[sprout.parent]
            asked = of_run.asked.get(parent, 0)
            of_run.asked[parent] = asked + 1
            want, known = min(sprout.want, self.rules.sprout_names), tree.degree[parent] - 1
            found = self.world.found(run, round_, step, int(forest.place[parent]), known, want, asked)
            for number in sprout.waiting:
                of_run.attempt[number] = of_run.attempt.get(number, -1) + 1
            if found:
                added = [forest.add(run, parent, place) for place in found]
                tree.alpha[unk] += len(added)
                tree.misses[unk] = 0
                for turn, number in enumerate(sprout.waiting):
                    of_run.start[number] = of_run.child[number] = added[turn % len(added)]
            else:
                tree.beta[unk] += 1
                tree.missed(unk, self.rules.sprout_failures)
                for number in sprout.waiting:
                    of_run.start[number] = parent
                    of_run.failures[number] = of_run.failures.get(number, 0) + 1
        of_run.sprouts.clear()

    def _go_on(self, round_: int, step: int, waiting: dict[int, _Waiting]) -> _Slots:
        """Draws for the slots whose sprouts are settled; those that failed too often are given up."""
        runs: list[int] = []
        numbers: list[int] = []
        starts: list[int] = []
        for run in sorted(waiting):
            of_run = waiting[run]
            for number in sorted(of_run.start):
                start = self._nearest_open(of_run.start[number])
                if of_run.failures.get(number, 0) < self.rules.slot_failures and start >= 0:
                    runs.append(run)
                    numbers.append(number)
                    starts.append(start)
            of_run.start.clear()
        if not runs:
            return _Slots(*(np.zeros(0, dtype=np.int64) for _ in range(3)))
        rngs = [
            draws.generator(self.world.seeds[run], round_, step, number, waiting[run].attempt[number])
            for run, number in zip(runs, numbers, strict=True)
        ]
        owners = np.arange(len(runs))
        ends = draws.draw_side_by_side(
            self.forest.tree, np.array(starts), owners, rngs, self.rules.sharpness, explore=True
        )
        return _Slots(np.array(runs), np.array(numbers), ends)

    def _nearest_open(self, node: int) -> int:
        tree = self.forest.tree
        while node >= 0 and not tree.open[node]:
            node = tree.parent[node]
        return node

    # ---- rehearsal, Introspection-Rebirth, Enlightenment -------------------------------------------------------

    def _rehearse(self) -> None:
        tree, questions = self.forest.tree, self.rules.rehearsal_questions
        for run in self.alive.tolist():
            leaves = [end for end in self.forest.ends[run] if tree.is_leaf(end) and tree.open[end]]
            known = [leaf for leaf in leaves if target_holds(tree, leaf, self.rules.rehearsal_below)]
            for n in range(questions if known else 0):
                leaf = known[n % len(known)]
                self.rehearsed[run][leaf] = self.rehearsed[run].get(leaf, 0) + 1

    def _introspect(self) -> tuple[Ints, ...]:
        """Tested, changed, reborn, falsely reborn and missed nodes, each of shape (runs,)."""
        runs = len(self.world.seeds)
        if self.rules.introspection == Introspection.OFF:
            return (np.zeros(runs, dtype=np.int64),) * 5
        form, threshold = FORMS[Introspection(self.rules.introspection)], self.rules.threshold
        run = self.forest.run

        def rejects(nodes: Ints, p_value: Floats) -> Ints:
            return _rejected_by_run(p_value, run[nodes], self.alive, form, threshold)

        done = swblrt.swept(self.forest.tree, form, rejects)
        done = done.at(np.flatnonzero(np.isin(run[done.nodes], self.alive)))
        of = run[done.nodes]
        chosen = rejects(done.nodes, done.p_value)
        changed = self.forest.change(done.nodes) >= CHANGED
        reborn = np.zeros(len(done.nodes), dtype=bool)
        reborn[chosen] = True
        found = done.at(chosen)
        self.forest.reborn(found.nodes, found.window_sum)
        tallies = (np.ones_like(reborn), changed, reborn, reborn & ~changed, changed & ~reborn)
        return tuple(np.bincount(of[tally], minlength=runs) for tally in tallies)

    def _train(self, round_: int) -> None:
        samples = np.zeros_like(self.world.weakness, dtype=np.int64)
        for run in self.alive.tolist():
            paired, rehearsed = self.forest.paired(run), list(self.rehearsed[run])
            count = examples_of(self.rules, round_, int(self.pairs[run]), rehearsed=bool(rehearsed))
            if not count:
                continue
            rng = draws.generator(self.world.seeds[run], round_, "training")
            drawn = draw_examples(self.rules, count, paired, rehearsed, self._by_policy(run, rng), rng).leaves
            samples[run] = np.bincount(self.forest.leaf_of(drawn), minlength=samples.shape[1])
            if self._heard is not None:
                self._heard("samples", run, round_, 0, np.arange(count), drawn)
        self.world.train(samples)

    def _by_policy(self, run: int, rng: np.random.Generator) -> Callable[[int], Ints]:
        return lambda count: self._policy.samples(self.forest, run, count, rng)


def _where(slots: _Slots, chosen: NDArray[np.bool_]) -> _Slots:
    return _Slots(slots.run[chosen], slots.number[chosen], slots.end[chosen])


def _rejected_by_run(
    p_value: Floats, of: Sequence[int] | NDArray[np.int32], alive: Ints, form: str, threshold: float
) -> Ints:
    """Places of the tests that find a change, each run's by themselves."""
    of = np.asarray(of)
    order = np.argsort(of, kind="stable")
    bounds = np.searchsorted(of[order], alive), np.searchsorted(of[order], alive, side="right")
    chosen = [
        order[start:stop][swblrt.rejected(p_value[order[start:stop]], form, threshold)]
        for start, stop in zip(*(bound.tolist() for bound in bounds), strict=True)
    ]
    return np.concatenate(chosen) if chosen else np.zeros(0, dtype=np.int64)
