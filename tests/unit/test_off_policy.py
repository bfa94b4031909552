"""Other policies on recorded draws: their chances by quadrature, and estimates that hold where the truth is known."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from scipy.special import betaln

from benchmarks.off_policy_study import checked
from bohdi.analysis.off_policy import Policy, estimate, policy, reach
from bohdi.analysis.points import point
from bohdi.analysis.propensity import child_probabilities
from bohdi_common.core import draws
from bohdi_common.core.evolve import evolve
from bohdi_common.core.state import Next, RunState
from bohdi_common.events.events_pb2 import Event
from bohdi_common.runtime.config import BadConfig
from tests import closed_loop
from tests.closed_loop import Loop, World

DRAWS = 100_000
COUNTS = st.lists(st.tuples(st.integers(1, 300), st.integers(1, 300)), min_size=2, max_size=6)


def chances(arms: Sequence[tuple[int, int]], sharpness: float) -> np.ndarray:
    alpha, beta = np.array(arms).T
    return child_probabilities(alpha, beta, sharpness)


@hypothesis_settings(max_examples=25, deadline=None)
@given(COUNTS, st.sampled_from([0.5, 1.0, 2.0, 3.0, math.inf]))
def test_the_chance_of_a_child_is_how_often_it_is_drawn(arms: list[tuple[int, int]], sharpness: float) -> None:
    rng = np.random.default_rng(0)
    alpha, beta = np.array(arms).T
    theta = rng.beta(alpha, beta, size=(DRAWS, len(arms)))
    if math.isinf(sharpness):
        seen = np.bincount(theta.argmax(axis=1), minlength=len(arms)) / DRAWS
    else:
        power = theta**sharpness
        seen = (power / power.sum(axis=1, keepdims=True)).mean(axis=0)
    assert np.abs(chances(arms, sharpness) - seen).max() < 5 * 0.5 / math.sqrt(DRAWS)


def test_the_argmax_of_two_arms_is_the_closed_form() -> None:
    """P(theta_1 > theta_2) for Beta(a, b) and Beta(c, d), a whole, is a finite sum of Beta functions."""
    a, b, c, d = 7, 4, 12, 9
    terms = [betaln(c + i, b + d) - math.log(b + i) - betaln(1 + i, b) - betaln(c, d) for i in range(a)]
    greater = sum(map(math.exp, terms))
    assert chances([(a, b), (c, d)], math.inf)[0] == pytest.approx(greater, abs=1e-10)


@pytest.mark.parametrize("sharpness", [0.5, 1, 2, 5, math.inf])
def test_equal_arms_share_evenly_however_sure_their_posteriors_are(sharpness: float) -> None:
    for counts in ((1, 1), (1, 500), (900, 3), (20_000, 30_000)):
        assert chances([counts] * 3, sharpness) == pytest.approx([1 / 3] * 3, abs=1e-9)


def weakness(path: Sequence[str]) -> float:
    """Of the target in a leaf, once and for all."""
    return int(hashlib.sha256("/".join(path).encode()).hexdigest()[:8], 16) / 16**8


def run(seed: int, **bandit: object) -> Loop:
    told = closed_loop.settings(seed, bandit={"rounds": 3, "steps": 3, "slots": 40} | bandit)
    loop = Loop(World(loses=lambda path, version: weakness(path), seed=seed), told)
    loop.run()
    return loop


def truth(events: Sequence[Event], other: Policy) -> float:
    """The estimand, from the weaknesses themselves."""
    state, won, chance = RunState(), 0.0, 0.0
    for event in events:
        due = state.next()
        evolve(state, event)
        if event.HasField("paths_drawn") and due == Next.STEP:
            reached = other(state.tree)
            for leaf in (leaf for leaf in state.tree.leaves() if state.tree.open[leaf]):
                won += reached[leaf] * weakness(state.tree.path_names(leaf))
                chance += reached[leaf]
    return won / chance


def test_a_path_is_drawn_as_often_as_reach_says() -> None:
    tree = run(1).state.tree
    drawn = draws.draw_from_root(tree, DRAWS, np.random.default_rng(0), 2.0, explore=True)
    seen = np.bincount(drawn, minlength=len(tree)) / DRAWS
    ends = np.array([tree.is_leaf(arm) or bool(tree.is_unk[arm]) for arm in range(len(tree))])
    reached = reach(tree, 2.0)
    assert reached[ends].sum() == pytest.approx(1)
    assert np.abs(reached - seen)[ends].max() < 5 * 0.5 / math.sqrt(DRAWS)


def test_the_intervals_cover_the_truth() -> None:
    asked = [policy(said) for said in ("sharpness=1", "sharpness=2", "sharpness=4")]
    covered = 0
    for seed in range(8):
        loop = run(seed)
        for other in asked:
            found, known = estimate(loop.log, other), truth(loop.log, other)
            assert found.low is not None and found.high is not None, found.refused
            covered += found.low <= known <= found.high
    assert covered >= 20, "of 24, 22.8 are expected"


def test_the_intervals_cover_what_the_simulator_knows() -> None:
    """A small part of the table in docs/simulator.md: there the target learns, and judges err."""
    asked = ("sharpness=1", "sharpness=inf", "uniform")
    runs = [checked("default", seed, 720, ("bandit.slots=60",), asked) for seed in range(5)]
    given = [of_policy for run in runs for of_policy in run if of_policy.estimate.value is not None]
    assert len(given) >= 11, "of 15, at most a few are refused"
    assert sum(of_policy.covers for of_policy in given) >= len(given) - 2


def test_what_the_run_nearly_never_drew_is_bounded_and_not_estimated() -> None:
    """Argmax leaves most leaves alone. What a uniform policy would have earned there the log does not say."""
    (far, near), *_ = (checked("paper", 1, 1080, ("bandit.slots=90",), ("sharpness=1", "sharpness=inf")),)
    assert near.estimate.beyond == 0.0
    assert far.estimate.beyond > 0.1
    assert far.estimate.value is None or (far.covers and far.width > far.estimate.beyond)


def test_the_policy_of_the_run_itself_has_all_harvests_at_equal_weight() -> None:
    found = estimate(run(3).log, policy("sharpness=2"))
    assert found.effective == pytest.approx(found.harvests)
    assert found.value == pytest.approx(found.recorded, abs=0.1)


def test_the_further_a_policy_is_from_the_runs_own_the_fewer_harvests_its_estimate_is_worth() -> None:
    log = run(3).log
    near, far = (estimate(log, policy(said)) for said in ("sharpness=1", "sharpness=inf"))
    assert far.harvests == near.harvests > near.effective > far.effective


def test_what_the_draws_do_not_reach_is_refused() -> None:
    loop = run(2, sharpness=200.0, rounds=4)
    found = estimate(loop.log, policy("uniform"))
    assert (found.value, found.low, found.high) == (None, None, None)
    assert "are needed" in found.refused or "of all weight" in found.refused
    assert "are needed" in estimate(loop.log, policy("sharpness=200"), point("1")).refused


@pytest.mark.parametrize("said", ["best", "sharpness", "sharpness=", "sharpness=-1", "sharpness=nan", "threshold=1"])
def test_what_is_no_policy_is_refused(said: str) -> None:
    with pytest.raises(BadConfig, match="sharpness=S"):
        policy(said)
