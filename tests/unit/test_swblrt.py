"""SWBLRT: its statistic and p-values against scipy, whom it tests, and what it costs to test many nodes."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import stats

from bohdi_common.core import swblrt
from bohdi_common.core.tree import ROOT, Tree

W = 20


def ints(*values: int) -> NDArray[np.int64]:
    return np.array(values, dtype=np.int64)


def log_likelihood(wins: int, n: int, p: float) -> float:
    return float(stats.binom.logpmf(wins, n, p) - math.log(math.comb(n, wins)))


tables = st.tuples(st.integers(1, 40), st.integers(0, 200), st.integers(0, 200)).flatmap(
    lambda t: st.tuples(st.just(t[0]), st.integers(0, t[0]), st.just(t[1]), st.just(t[2]))
)  # window length, wins in it, wins and losses before it


@given(tables)
def test_the_paper_statistic_is_twice_the_log_likelihood_ratio(table: tuple[int, int, int, int]) -> None:
    w, in_window, before_wins, before_losses = table
    wins, losses = before_wins + in_window, before_losses + w - in_window
    p0, p1 = wins / (wins + losses), in_window / w
    expected = 2 * (log_likelihood(in_window, w, p1) - log_likelihood(in_window, w, p0))
    found = swblrt.paper_statistic(ints(wins), ints(losses), ints(in_window), w)[0]
    assert found == pytest.approx(expected, abs=1e-9)


def test_the_paper_statistic_is_infinite_where_the_null_rules_the_window_out() -> None:
    assert swblrt.paper_statistic(ints(0), ints(30), ints(3), W)[0] == math.inf


@given(st.floats(0, 1000))
def test_the_tail_is_that_of_chi_square_with_one_degree_of_freedom(statistic: float) -> None:
    found = swblrt.chi_square_tail(np.array([statistic]))[0]
    assert found == pytest.approx(stats.chi2.sf(statistic, df=1), rel=1e-9, abs=1e-300)


@given(tables)
def test_the_two_sample_statistic_is_the_g_of_the_table(table: tuple[int, int, int, int]) -> None:
    w, in_window, wins, losses = table
    if wins + losses == 0:
        return
    n = wins + losses
    pooled = (in_window + wins) / (w + n)
    expected = 2 * (
        log_likelihood(in_window, w, in_window / w)
        + log_likelihood(wins, n, wins / n)
        - log_likelihood(in_window, w, pooled)
        - log_likelihood(wins, n, pooled)
    )
    found = swblrt.two_sample_statistic(ints(in_window), w, ints(wins), ints(losses))[0]
    assert found == pytest.approx(expected, abs=1e-8)


@given(tables)
@settings(max_examples=300, deadline=None)
def test_the_exact_p_value_is_fishers(table: tuple[int, int, int, int]) -> None:
    w, in_window, wins, losses = table
    expected = stats.fisher_exact([[in_window, w - in_window], [wins, losses]]).pvalue
    assert swblrt.fisher_exact(ints(in_window), w, ints(wins), ints(losses))[0] == pytest.approx(expected, rel=1e-6)


def test_exact_p_values_of_many_nodes_are_those_of_each() -> None:
    rng = np.random.default_rng(1)
    in_window, wins, losses = rng.integers(0, W + 1, 200), rng.integers(0, 60, 200), rng.integers(0, 60, 200)
    together = swblrt.fisher_exact(in_window, W, wins, losses)
    alone = [swblrt.fisher_exact(in_window[[i]], W, wins[[i]], losses[[i]])[0] for i in range(200)]
    assert together.tolist() == pytest.approx(alone)


# Every table of windows of 20 with up to 80 rewards before them, in steps; and some with many more.
GRID = np.array([
    (s, a, b)
    for s in range(W + 1)
    for a in (*range(0, 81, 3), 1000)
    for b in (*range(0, 81, 3), 1000)
    if a + b >= W
])  # fmt: skip


def test_the_chi_square_tail_is_nowhere_twice_too_large() -> None:
    """By which half of it is a bound: see `two_sample_p_values`."""
    for w in (1, 2, 3, 5, 8, 12, W, 40, 64):
        in_window, wins, losses = GRID[GRID[:, 0] <= w].T
        exact = swblrt.fisher_exact(in_window, w, wins, losses)
        tail = swblrt.chi_square_tail(swblrt.two_sample_statistic(in_window, w, wins, losses))
        assert np.all(exact > 0.6 * tail), w


@pytest.mark.parametrize("threshold", [0.01, 0.05, 0.2])
def test_an_approximate_p_value_is_only_left_where_it_decides_nothing(threshold: float) -> None:
    """Those below a threshold are exact, and the others are above it either way."""
    in_window, wins, losses = GRID.T
    statistic = swblrt.two_sample_statistic(in_window, W, wins, losses)
    exact = swblrt.fisher_exact(in_window, W, wins, losses)
    found = swblrt.two_sample_p_values(
        in_window, W, wins, losses, statistic, lambda p_value: np.flatnonzero(p_value < threshold)
    )
    assert np.array_equal(found[exact < threshold], exact[exact < threshold])
    assert np.all(found[exact >= threshold] >= threshold)


@given(st.integers(0, 2**32 - 1), st.sampled_from([0.01, 0.05, 0.1, 0.3]), st.floats(0, 0.3))
@settings(max_examples=100, deadline=None)
def test_a_sweep_rejects_as_if_every_p_value_were_exact(seed: int, rate: float, changed: float) -> None:
    """Whether nothing changed or much; and those that it rejects have their exact p-values."""
    rng = np.random.default_rng(seed)
    before, chance = rng.integers(W, 100, 500), rng.random(500)
    wins = rng.binomial(before, chance)
    in_window = rng.binomial(W, np.where(rng.random(500) < changed, rng.random(500), chance))
    counts = (in_window, W, wins, before - wins)
    exact = swblrt.fisher_exact(*counts)
    found = swblrt.two_sample_p_values(
        *counts,
        swblrt.two_sample_statistic(*counts),
        lambda p_value: swblrt.rejected(p_value, "two_sample", rate),
    )
    rejected = swblrt.rejected(exact, "two_sample", rate)
    assert swblrt.rejected(found, "two_sample", rate).tolist() == rejected.tolist()
    assert found[rejected].tolist() == exact[rejected].tolist()


def naive_benjamini_hochberg(p_values: list[float], rate: float) -> list[bool]:
    ranked = sorted(p_values)
    passing = [p for rank, p in enumerate(ranked, 1) if p <= rate * rank / len(ranked)]
    return [bool(passing) and p <= max(passing) for p in p_values]


rates = st.sampled_from([0.01, 0.05, 0.2, 0.5])
# Of any size, and many near a rate or a rank's part of it, where the order of the p-values decides.
p_lists = st.lists(st.floats(0, 1) | rates | st.integers(0, 50).map(lambda n: n / 200), max_size=40)


@given(p_lists, rates)
def test_benjamini_hochberg_rejects_as_its_definition_says(p_values: list[float], rate: float) -> None:
    found = swblrt.benjamini_hochberg(np.array(p_values), rate).tolist()
    assert found == naive_benjamini_hochberg(p_values, rate)


def test_the_papers_form_rejects_each_p_value_below_the_threshold_and_not_the_threshold_itself() -> None:
    p_value = np.array([0.05, 0.049, 0.3, 0.001])
    assert swblrt.rejected(p_value, "paper", 0.05).tolist() == [1, 3]


# ---- the sweep -------------------------------------------------------------------------------------------------


def leaf_with(tree: Tree, name: str, rewards: list[int]) -> int:
    node = tree.child_named(ROOT, name)
    main = tree.add(ROOT, name, True) if node is None else node
    leaf = tree.add(tree.add(main, "s", True), "l", True)
    for r in rewards:
        tree.reward(leaf, r)
    return leaf


def planted() -> Tree:
    tree = Tree(W)
    tree.plant(True)
    return tree


@pytest.mark.parametrize(("form", "needed"), [("paper", W), ("two_sample", 2 * W)])
def test_a_node_is_tested_from_a_full_window_on_and_two_sample_from_as_many_before_it(form: str, needed: int) -> None:
    tree = planted()
    leaf_with(tree, "short", [1] * (needed - 1))
    assert swblrt.sweep(tree, form, 0.05).tested == 0
    leaf_with(tree, "long", [1] * needed)
    assert swblrt.sweep(tree, form, 0.05).tested == 3  # leaf, secondary and main domain


def test_a_changed_node_is_found_with_all_its_numbers() -> None:
    tree = planted()
    leaf = leaf_with(tree, "changed", [1] * 40 + [0] * W)
    leaf_with(tree, "steady", [0, 1] * 30)
    found = swblrt.sweep(tree, "two_sample", 0.05)
    assert found.nodes.tolist() == tree.path(leaf)
    assert found.window_sum.tolist() == [0, 0, 0]
    assert found.window_length == W
    assert found.p_value == pytest.approx([stats.fisher_exact([[0, W], [40, 0]]).pvalue] * 3, rel=1e-6)
    assert found.tested == 6


@pytest.mark.parametrize("form", ["paper", "two_sample"])
def test_unk_arms_and_root_are_never_tested(form: str) -> None:
    tree = planted()
    leaf_with(tree, "m", [])
    for arm in (ROOT, *(tree.unk_of[node] for node in (ROOT, *tree.children(ROOT)))):
        tree.alpha[arm], tree.beta[arm], tree.window[arm] = 200, 2, 0
    assert swblrt.sweep(tree, form, 0.5).tested == 0


@pytest.mark.parametrize("form", ["paper", "two_sample"])
def test_an_empty_tree_has_nothing_to_test(form: str) -> None:
    found = swblrt.sweep(planted(), form, 0.5)
    assert (found.tested, found.nodes.tolist()) == (0, [])


def test_a_node_just_reborn_is_compared_with_the_window_that_it_kept() -> None:
    tree = planted()
    leaf = leaf_with(tree, "m", [1] * 40 + [0] * W)
    for node in tree.path(leaf):
        tree.reborn(node, 0, W)
    assert swblrt.sweep(tree, "two_sample", 0.05).tested == 0
    for _ in range(W):
        tree.reward(leaf, 0)
    found = swblrt.sweep(tree, "two_sample", 0.05)
    assert (found.tested, found.nodes.tolist()) == (3, [])
