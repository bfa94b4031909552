"""The simulator: runs side by side are, event for event, the runs that the bandit service would have had."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from bohdi.simulator import setup
from bohdi.simulator.engine import Simulation
from bohdi.simulator.forest import Forest
from bohdi.simulator.model import DomainModel, load, parse
from bohdi.simulator.policies import NAMES, policy
from bohdi.simulator.recorded import Recording
from bohdi.simulator.report import imbalance, report
from bohdi.simulator.setup import configuration, settings, simulations
from bohdi.simulator.world import Places, World
from bohdi_common.core.state import Next, Rules
from bohdi_common.core.tree import Tree
from bohdi_common.runtime.config import BadConfig

SEEDS = 100
SMALL = DomainModel(width=(3, 2, 2), spread=(2.0, 1.0, 1.0), learns=0.1, no_verdict=0.15, sprout_finds=0.7)
# Windows that are full soon, arms and leaves that close soon, a rehearsal: all that can happen does.
SETS = (
    "bandit.slots=10", "bandit.steps=2", "bandit.window=5", "bandit.threshold=0.3", "bandit.sprout_failures=2",
    "bandit.leaf_failures=2", "bandit.slot_failures=2", "bandit.rehearsal_questions=9", "training.examples=12",
)  # fmt: skip
HARVESTS = 80

Trace = dict[str, list[Any]]


def simulated(name: str, model: DomainModel, sets: tuple[str, ...]) -> tuple[Simulation, list[Trace]]:
    """All seeds at once: of each what was drawn, the rewards and the samples, in their order, by names of domains."""
    traces: list[Trace] = [defaultdict(list) for _ in range(SEEDS)]

    def heard(what: str, run: int, round_: int, step: int, slots: Any, values: Any) -> None:
        if what == "rewards":
            told = list(zip(slots.tolist(), values.tolist(), strict=True))
        else:
            told = [(slot, end_of(runs.forest, end)) for slot, end in zip(slots.tolist(), values.tolist(), strict=True)]
        traces[run][what].append((round_, step, told))

    (runs,) = simulations(model, name, range(SEEDS), HARVESTS, sets, heard)
    for _ in runs.rounds():
        for run, trace in enumerate(traces):
            trace["arms"].append(arms_of(runs.forest, run))
            trace["weakness"].append(runs.world.weakness[run].tolist())
    return runs, traces


def end_of(forest: Forest, end: int) -> tuple[str, ...]:
    return forest.places.path(int(forest.place[end]))


def arms_of(forest: Forest, run: int) -> list[Any]:
    tree = forest.tree
    mine = np.flatnonzero(forest.run[: len(tree)] == run).tolist()
    return [[end_of(forest, arm), *_row(tree, arm)] for arm in mine]


def _row(tree: Tree, arm: int) -> list[Any]:
    columns = (tree.is_unk, tree.alpha, tree.beta, tree.window, tree.open, tree.closed, tree.misses, tree.rebirths)
    return [column[arm] for column in columns]


def recorded(name: str, model: DomainModel, sets: tuple[str, ...], seed: int) -> Trace:
    """The same of one seed, from the events that the bandit itself makes and folds."""
    trace: Trace = defaultdict(list)
    config = configuration(model, "paper" if name == "paper" else "default", HARVESTS, sets)
    run = Recording(model, settings(config, seed))
    state, stored = run.bandit.state, {}
    for event in run.events():
        kind, tree = event.WhichOneof("body"), state.tree
        if kind == "paths_drawn" and not event.paths_drawn.rehearsal:
            drawn = [(slot.slot, tuple(tree.path_names([0, *slot.path][-1]))) for slot in event.paths_drawn.slots]
            trace["drawn"].append((event.round, event.step, drawn))
        elif kind == "slot_continued" and not event.slot_continued.given_up:
            end = tuple(tree.path_names([0, *event.slot_continued.drawn.path][-1]))
            trace["continued"].append((event.round, event.step, event.slot_continued.drawn.slot, end))
        elif kind == "harvest_judged":
            judged = event.harvest_judged
            stored[state.sequence - 1] = tuple(judged.path)
            trace["rewards"].append((event.round, event.step, event.slot, judged.reward if judged.counted else -1))
        elif kind == "rehearsal_answered":
            stored[state.sequence - 1] = tuple(event.rehearsal_answered.path)
        elif kind == "training_drawn" and event.training_drawn.samples:
            trace["samples"].append((event.round, 0, [stored[sample] for sample in event.training_drawn.samples]))
        if kind in ("target_promoted", "training_failed") or (kind == "training_drawn" and state.training is None):
            trace["arms"].append([[tuple(_names(tree, arm)), *_row(tree, arm)] for arm in range(len(tree))])
            trace["weakness"].append(run.answers.world.weakness[0].tolist())
    assert state.finished or state.paused or state.next() == Next.FINISH
    return trace


def _names(tree: Tree, arm: int) -> list[str]:
    return tree.path_names(tree.parent[arm] if tree.is_unk[arm] else arm)


def check_the_same(mine: Trace, real: Trace) -> None:
    # Of a step the first wave is PathsDrawn; those after it are SlotContinued, one event a slot.
    begins = [i == 0 or wave[:2] != mine["drawn"][i - 1][:2] for i, wave in enumerate(mine["drawn"])]
    assert [wave for wave, first in zip(mine["drawn"], begins, strict=True) if first] == real["drawn"]
    later = [wave for wave, first in zip(mine["drawn"], begins, strict=True) if not first]
    assert [(r, s, slot, end) for r, s, told in later for slot, end in told] == real["continued"]
    assert [(r, s, slot, reward) for r, s, told in mine["rewards"] for slot, reward in told] == real["rewards"]
    assert [(r, s, [end for _, end in told]) for r, s, told in mine["samples"]] == real["samples"]
    rounds = len(real["arms"])
    assert [sorted(arms) for arms in mine["arms"][:rounds]] == [sorted(arms) for arms in real["arms"]]
    assert mine["weakness"][:rounds] == real["weakness"]


@pytest.mark.parametrize(
    ("name", "model", "sets"),
    [
        ("default", SMALL, SETS),
        ("paper", SMALL, (*SETS, "bandit.sprout_names=2")),
        ("default", SMALL.model_copy(update={"given": True, "no_verdict": 0.3}), (*SETS, "bandit.lockstep=true")),
    ],
    ids=["default", "paper", "a given tree, in lockstep"],
)
def test_a_hundred_seeds_are_the_runs_of_the_real_core_event_for_event(
    name: str, model: DomainModel, sets: tuple[str, ...]
) -> None:
    """Draws, rewards, windows, posteriors, what is closed, rebirths, samples, and so the target's weakness too."""
    runs, traces = simulated(name, model, sets)
    for seed, trace in enumerate(traces):
        check_the_same(trace, recorded(name, model, sets, seed))
    rebirths = np.frombuffer(runs.forest.tree.rebirths, dtype=np.int32)
    assert rebirths.sum() > SEEDS / 2, "or the test would say nothing of rebirths"


def test_a_run_does_not_depend_on_those_beside_it() -> None:
    (together,) = simulations(SMALL, "default", range(7, 12), HARVESTS, SETS)
    (alone,) = simulations(SMALL, "default", [9], HARVESTS, SETS)
    means = [[done.mean.tolist() for done in runs.rounds()] for runs in (together, alone)]
    assert [of_round[2] for of_round in means[0]] == [of_round[0] for of_round in means[1]]


def test_runs_in_batches_are_told_as_runs_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    at_once = report(simulations(SMALL, "default", range(5), HARVESTS, SETS), 0.3)
    monkeypatch.setattr(setup, "_LEAVES_AT_ONCE", 2 * len(SMALL.paths))
    assert [len(runs.world.seeds) for runs in simulations(SMALL, "default", range(5), HARVESTS, SETS)] == [2, 2, 1]
    batched = report(simulations(SMALL, "default", range(5), HARVESTS, SETS), 0.3)
    assert batched["means"] == at_once["means"]
    assert batched["rounds"] == pytest.approx(at_once["rounds"])


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("grown", [True, False])
def test_every_policy_makes_the_target_better_and_says_how(name: str, grown: bool) -> None:
    model = SMALL.model_copy(update={"given": not grown})
    told = report(simulations(model, name, range(4), 200, SETS), mean=0.3)
    assert told["rounds"][-1] < 0.35 < SMALL.weakness
    figures = told["figures"]
    assert 0 < figures["coverage"]["mean"] <= 1
    assert 0 <= figures["regret"]["mean"] < 1
    assert figures["to_mean"]["seeds"] == 4 * figures["reached"]["mean"]


def test_the_oracle_has_the_least_regret() -> None:
    wide = DomainModel(width=(5, 4, 5), given=True)  # it goes to ten leaves a step: of few that would be all
    reports = {name: report(simulations(wide, name, range(4), 200, SETS), 0.3) for name in NAMES}
    regrets = {name: told["figures"]["regret"]["mean"] for name, told in reports.items()}
    assert min(regrets, key=lambda name: regrets[name]) == "oracle"


@hypothesis_settings(max_examples=60, deadline=None)
@given(
    st.integers(1, 64),
    st.lists(st.lists(st.tuples(st.integers(0, 3), st.booleans()), max_size=70), max_size=4),
)
def test_the_rewards_of_a_wave_are_the_rewards_one_by_one(window: int, waves: list[list[tuple[int, bool]]]) -> None:
    places = Places([("a", "b", "c"), ("a", "b", "d"), ("a", "e", "f"), ("g", "h", "i")])
    forest, tree = Forest(places, 1, window, given=True), Tree(window)
    tree.plant(grow=False)
    tree_arm = {0: 0}
    for place in range(1, len(places)):
        tree_arm[place] = tree.add(tree_arm[places.parent[place]], places.name[place], grow=False)
    for wave in waves:
        arms = np.array([forest.arm[0, places.of_leaf[leaf]] for leaf, _ in wave], dtype=np.int64)
        won = np.array([reward for _, reward in wave], dtype=np.int64)
        forest.harvested(arms, won, won * 0.5)
        for leaf, reward in wave:
            tree.reward(tree_arm[places.of_leaf[leaf]], int(reward))
    for column in ("alpha", "beta", "window"):
        assert list(getattr(forest.tree, column)) == list(getattr(tree, column))


def test_a_change_is_the_distance_of_the_true_chances_in_the_window_from_those_before_it() -> None:
    forest = Forest(Places([("a", "b", "c")]), 1, 4, given=True)
    leaf = np.array([forest.arm[0, 3]], dtype=np.int64)
    for chance in (0.2, 0.4, 0.9, 0.9, 0.9, 0.9):
        forest.harvested(leaf, np.array([1]), np.array([chance]))
    assert forest.change(leaf) == pytest.approx([0.6])
    forest.reborn(leaf, np.array([4]))
    assert forest.change(leaf) == [0.0], "after a rebirth nothing is before the window"


def test_a_training_mends_what_it_sees_and_the_rest_is_forgotten() -> None:
    model = DomainModel(width=(1, 1, 2), weakness=0.5, spread=(0, 0, 0), learns=0.1, forgets=1.0)
    world = World.of(model, [0])
    world.train(np.array([[30, 0]]))
    seen, unseen = world.weakness[0]
    assert seen < 0.1
    assert 0.5 < unseen < model.ceiling
    world.train(np.array([[0, 0]]))
    assert world.weakness[0].tolist() == [seen, unseen], "no sample is no training"


def test_equal_shares_have_no_imbalance_and_one_for_all_has_the_most() -> None:
    assert imbalance(np.array([[5.0] * 4, [0, 0, 0, 8.0]])) == pytest.approx([0.0, 0.75])


@pytest.mark.parametrize(
    ("raw", "complaint"),
    [
        ({"judge_error": 0.6}, "judge_error"),
        ({"widht": [1, 1, 1]}, "widht: unknown key"),
        ({"width": [1000, 1000, 1000]}, "at most"),
        ({"leaves": [{"path": ["a", "b", "unk"], "weakness": 0.5}]}, "cannot name a domain"),
        ({"leaves": [{"path": ["a", "b", "c"], "weakness": 0.5}] * 2}, "two leaves have one path"),
    ],
)
def test_a_mistake_in_a_model_is_one_line_that_says_where(raw: dict[str, Any], complaint: str) -> None:
    with pytest.raises(BadConfig, match=complaint):
        parse(raw, "model.yaml")


def test_a_model_that_is_not_there_or_no_mapping_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadConfig, match="no such file"):
        load(tmp_path / "none.yaml")
    (tmp_path / "list.yaml").write_text("[1, 2]")
    with pytest.raises(BadConfig, match="not a mapping"):
        load(tmp_path / "list.yaml")


@pytest.mark.parametrize(
    "said", ["slots=3", "bandit.slots", "bandit.rounds=3", "judging.mode=leader", "bandit.slots=no"]
)
def test_a_setting_that_is_none_is_refused(said: str) -> None:
    with pytest.raises(BadConfig):
        configuration(SMALL, "default", 100, [said])


def test_a_policy_that_is_none_is_refused() -> None:
    with pytest.raises(BadConfig, match="there is no such policy"):
        policy("best", Rules.of(settings(configuration(SMALL, "default", 100), 0)))
