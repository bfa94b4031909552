"""What-if: the recorded outcomes under other settings are just what the fold would have made of them, for a grid of
settings at once."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from bohdi.analysis.ballots import AS_JUDGED, RewardRule
from bohdi.analysis.points import point
from bohdi.analysis.tape import tape
from bohdi.analysis.variants import Variant, variants
from bohdi.analysis.what_if import fold, state_of
from bohdi.analysis.what_if_view import told
from bohdi_common.core import swblrt
from bohdi_common.core.evolve import evolve
from bohdi_common.core.state import Introspection, Next, RunState, canonical, state_sha256
from bohdi_common.events.events_pb2 import Event, HarvestJudged
from bohdi_common.runtime.config import BadConfig
from services.bandit.handler import folded
from services.judging import votes
from tests import closed_loop
from tests.closed_loop import Loop, World
from tests.recorded_run import RecordedRun, settings

FORMS = {"off": ("", ""), "paper": ("window", "none"), "two_sample": ("before", "bh")}
RULES = [
    AS_JUDGED,
    RewardRule(share=1.0),
    RewardRule(votes=2),
    RewardRule(ties="target"),
    RewardRule(ties="sources", share=0.67),
    RewardRule(identical="none"),
]


@functools.cache
def recorded(seed: int, introspection: str, lockstep: bool) -> tuple[Event, ...]:
    """A run in which everything happens, its introspection of one form and eager to give rebirth."""
    bandit = {
        "slots": 14, "steps": 3, "rounds": 3, "threshold": 0.9, "window": 3, "introspection": introspection,
        "lockstep": lockstep,
    }  # fmt: skip
    run = RecordedRun(seed=seed, away=0.02, withheld=0.03, twice=0.02, settings=settings(seed, bandit=bandit))
    run.run()
    return tuple(run.feedback)


def reward(judged: HarvestJudged, rule: RewardRule) -> int | None:
    """The plain reading of a rule, for one harvest; None: no reward."""
    texts = [None if answer.failed else " ".join(answer.text.split()) for answer in judged.answers]
    given = (1 if judged.reward else 0) if judged.counted else None
    if len(votes.candidates(texts)) > 1:
        judges = list(dict.fromkeys(verdict.judge for verdict in judged.verdicts))
        cast = []
        for judge in judges:
            said = [v for v in judged.verdicts if v.judge == judge and v.counted]
            cast.append(votes.majority([votes.NONE_RIGHT if v.none_right else v.choice for v in said]))
        cast = [vote for vote in cast if vote != votes.ABSTAINED]
        winners = [
            vote
            for vote in set(cast)
            if cast.count(vote) >= rule.votes
            and (cast.count(vote) > rule.share * len(cast) or cast.count(vote) == len(cast))
        ]
        if winners:
            given = None if winners == [votes.NONE_RIGHT] else int(winners != [0] or texts[0] is None)
        else:
            given = {"none": None, "target": 0, "sources": 1}[rule.ties] if cast else None
    if given == 0 and rule.identical == "none" and texts[0] in texts[1:]:
        return None
    return given


def as_given(event: Event, variant: Variant) -> Event:
    """The event with the settings and the reward that a variant gives it."""
    event = Event.FromString(event.SerializeToString())
    if event.HasField("run_started"):
        bandit = event.run_started.settings.bandit
        bandit.window, bandit.threshold = variant.window, variant.threshold
        bandit.introspection = int(variant.introspection)
    if event.HasField("harvest_judged") and variant.rewards != AS_JUDGED:
        given = reward(event.harvest_judged, variant.rewards)
        event.harvest_judged.counted = given is not None
        event.harvest_judged.reward = given or 0
    return event


def by_the_fold(events: Sequence[Event], variant: Variant) -> RunState:
    """The slow way: event by event, each sweep where the log has it, or else before the training."""
    form = {("window", "none"): "paper", ("before", "bh"): "two_sample"}.get((variant.null, variant.correction))
    state = RunState()
    for event in map(as_given, events, [variant] * len(events)):
        due = state.next() == Next.INTROSPECTION
        if due and event.HasField("nodes_reborn"):
            found = swblrt.sweep(state.tree, form or "", variant.threshold)
            del event.nodes_reborn.rebirths[:]
            for node, wins in zip(found.nodes.tolist(), found.window_sum.tolist(), strict=True):
                event.nodes_reborn.rebirths.add(node=node, window_sum=wins, window_length=variant.window)
        elif due and event.HasField("training_drawn"):
            found = swblrt.sweep(state.tree, form or "", variant.threshold)
            for node, wins in zip(found.nodes.tolist(), found.window_sum.tolist(), strict=True):
                state.tree.reborn(node, wins, variant.window)
                state.counts["rebirths"] = state.counts.get("rebirths", 0) + 1
            state.introspected = True
        evolve(state, event)
    return state


VARIANTS = st.builds(
    lambda window, threshold, form, rule: Variant(window, threshold, *FORMS[form], rewards=rule),
    st.integers(1, 8) | st.just(64),
    st.sampled_from([0.0, 0.05, 0.2, 0.5, 0.9, 1.0]),
    st.sampled_from(sorted(FORMS)),
    st.sampled_from(RULES),
)


@pytest.mark.parametrize("lockstep", [False, True])
@pytest.mark.parametrize("introspection", ["off", "paper", "two_sample"])
def test_settings_unchanged_give_the_recorded_state(introspection: str, lockstep: bool) -> None:
    for seed in (1, 2, 3):
        events = recorded(seed, introspection, lockstep)
        state = folded(events, "run")
        assert state.rules is not None
        folds = fold(tape(events, voted=False), [Variant.recorded(state.rules)])
        assert canonical(state_of(folds, 0)) == canonical(state)
        assert folds.agrees(0)
    assert introspection == "off" or state.counts["rebirths"] > 0, "nothing was tested"


@hypothesis_settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(1, 4),
    introspection=st.sampled_from(sorted(FORMS)),
    lockstep=st.booleans(),
    grid=st.lists(VARIANTS, min_size=1, max_size=5),
    share=st.floats(0.1, 1.0),
)
def test_each_of_a_grid_is_what_the_fold_makes_of_the_same_outcomes(
    seed: int, introspection: str, lockstep: bool, grid: list[Variant], share: float
) -> None:
    events = recorded(seed, introspection, lockstep)
    events = events[: max(2, round(share * len(events)))]
    folds = fold(tape(events, voted=True), grid)
    for number, variant in enumerate(grid):
        assert canonical(state_of(folds, number)) == canonical(by_the_fold(events, variant)), variant


def test_the_rule_by_which_the_judges_went_gives_the_rewards_that_were_recorded() -> None:
    rewarded = 0
    for seed in (1, 2, 3):
        ballots = tape(recorded(seed, "off", False), voted=True).ballots
        assert ballots.by_votes(AS_JUDGED).tolist() == list(ballots.recorded)
        rewarded += sum(reward >= 0 for reward in ballots.recorded)
    assert rewarded > 100


def test_rules_differ_in_the_rewards_that_they_give() -> None:
    ballots = tape(recorded(1, "off", False), voted=True).ballots
    assert len({tuple(ballots.rewards(rule)) for rule in RULES}) >= 4


def variant_of(events: Sequence[Event], *given: str) -> dict[str, Any]:
    said = told(events, given, [])
    variant: dict[str, Any] = said["variants"][0]
    return variant | {"recorded": said["recorded"]}


def test_a_threshold_of_zero_gives_no_rebirth() -> None:
    events = recorded(1, "paper", False)
    found = variant_of(events, "bandit.threshold=0")
    assert found["recorded"]["rebirths"] > 0 == found["rebirths"]
    assert found["moved"]
    assert variant_of(events)["state_sha256"] == found["recorded"]["state_sha256"]


def test_a_prior_adds_to_every_posterior_and_gives_no_other_rebirths() -> None:
    events = recorded(1, "two_sample", False)
    plain, other = variant_of(events), variant_of(events, "prior.alpha=2.5", "prior.beta=4")
    assert "state_sha256" not in other
    assert other["rebirths"] == plain["rebirths"]
    for node in other["moved"]:
        assert (node["alpha"], node["beta"]) == (node["recorded"][0] + 1.5, node["recorded"][1] + 3)


def test_null_and_correction_are_chosen_apart() -> None:
    run = Variant(3, 0.5, "before", "bh")
    events = recorded(2, "two_sample", False)
    grid = [run, replace(run, correction="none"), replace(run, null="window"), replace(run, null="window")]
    folds = fold(tape(events, voted=False), grid)
    rebirths = folds.rebirths.sum(axis=1)
    assert rebirths[1] >= rebirths[0]
    assert np.array_equal(folds.rebirths[2], folds.rebirths[3])


def test_a_grid_has_every_combination_and_at_shortens_the_run() -> None:
    events = recorded(1, "paper", False)
    said = told(events, ["prior.alpha=2"], ["bandit.threshold=0,0.1", "bandit.window=2,3,4"], point("round:1"))
    assert len(said["variants"]) == 6
    assert said["variants"][5]["given"] == {"prior.alpha": "2", "bandit.threshold": "0.1", "bandit.window": "4"}
    assert (said["sweeps"], said["recorded"]["round"]) == (1, 1)


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ("bandit.sharpness=2", "moves decisions"),
        ("bandit.window", "NAME=VALUE"),
        ("bandit.window=65", "from 1 to 64"),
        ("bandit.threshold=nan", "from 0 to 1"),
        ("prior.alpha=0", "from 0.001"),
        ("rewards.ties=draw", "one of none, target, sources"),
    ],
)
def test_what_cannot_be_folded_again_is_refused_with_the_reason(given: str, why: str) -> None:
    with pytest.raises(BadConfig, match=why):
        variants(Variant(3, 0.5, "before", "bh"), [given], [])


def test_a_threshold_where_nothing_is_tested_is_refused_unless_the_test_is_named_too() -> None:
    off = Variant(3, 0.5, "", "")
    with pytest.raises(BadConfig, match="introspection is off"):
        variants(off, ["bandit.threshold=0.1"], [])
    ((_, made),) = variants(off, ["bandit.threshold=0.1", "bandit.introspection=paper"], [])
    assert (made.threshold, made.introspection) == (0.1, Introspection.PAPER)


def test_another_rule_of_rewards_needs_the_verdicts_in_the_log() -> None:
    loop = Loop(World(loses=lambda path, version: 0.5), closed_loop.settings())
    state = loop.run()
    assert state_sha256(state) == variant_of(loop.log)["state_sha256"]
    with pytest.raises(BadConfig, match="no verdicts"):
        variant_of(loop.log, "rewards.share=1")
