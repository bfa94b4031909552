"""Draws of paths: their law, their independence of each other, their cost."""

import math
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from bohdi_common.core import draws
from bohdi_common.core.tree import ROOT, Tree


def tree_of(widths: tuple[int, int, int], grow: bool = False) -> Tree:
    tree = Tree(20)
    tree.plant(grow)
    for m in range(widths[0]):
        main = tree.add(ROOT, f"m{m}", grow)
        for s in range(widths[1]):
            secondary = tree.add(main, f"s{s}", grow)
            for leaf in range(widths[2]):
                tree.add(secondary, f"l{leaf}", grow)
    return tree


def first_level(posteriors: list[tuple[int, int]]) -> Tree:
    """Main domains of these posteriors, a leaf under each."""
    tree = tree_of((len(posteriors), 1, 1))
    for main, (alpha, beta) in zip(tree.children(ROOT), posteriors, strict=True):
        tree.alpha[main], tree.beta[main] = alpha, beta
    return tree


def main_domains(tree: Tree, ends: NDArray[np.int64]) -> NDArray[np.float64]:
    """Shares of the draws, by main domain."""
    mains = tree.children(ROOT)
    drawn = np.array([mains.index(tree.path(end)[0]) for end in ends.tolist()])
    return np.bincount(drawn, minlength=len(mains)) / len(ends)


POSTERIORS = [(1, 1), (5, 2), (3, 9), (40, 30)]
DRAWS = 60_000


@pytest.mark.parametrize("sharpness", [0, 0.5, 1, 2, 5, 400, math.inf])
def test_a_child_is_drawn_in_proportion_to_theta_to_the_sharpness(sharpness: float) -> None:
    tree = first_level(POSTERIORS)
    ends = draws.draw_from_root(tree, DRAWS, draws.generator(1, "law"), sharpness, explore=True)
    theta = np.random.default_rng(2).beta(*np.array(POSTERIORS).T, size=(400_000, len(POSTERIORS)))
    if math.isinf(sharpness):
        weight = (theta == theta.max(axis=1, keepdims=True)).astype(float)
    else:
        weight = np.exp(sharpness * (np.log(theta) - np.log(theta.max(axis=1, keepdims=True))))
    expected = (weight / weight.sum(axis=1, keepdims=True)).mean(axis=0)
    tolerance = 5 * np.sqrt(expected * (1 - expected) * (1 / DRAWS + 1 / len(theta))) + 1e-9
    assert np.all(np.abs(main_domains(tree, ends) - expected) < tolerance)


def test_infinite_sharpness_is_the_argmax_of_thompson_sampling() -> None:
    tree = first_level([(1, 10**6), (10**6, 1), (1, 1)])
    ends = draws.draw_from_root(tree, 500, draws.generator(1), math.inf, explore=True)
    assert set(ends.tolist()) == {tree.children(tree.children(tree.children(ROOT)[1])[0])[0]}


def test_a_very_large_sharpness_still_tells_weak_arms_apart() -> None:
    """theta^sharpness is 0 in floating point for every arm here."""
    tree = first_level([(100, 10**5), (1, 10**5), (100, 10**5)])
    shares = main_domains(tree, draws.draw_from_root(tree, 4000, draws.generator(1), 500.0, explore=True))
    assert shares[1] < 0.001
    assert abs(shares[0] - shares[2]) < 0.1


def test_unk_is_drawn_as_any_other_arm() -> None:
    tree = Tree(20)
    tree.plant(True)
    tree.add(ROOT, "m", True)
    ends = draws.draw_from_root(tree, 40_000, draws.generator(3), 2, explore=True)
    assert abs(np.mean(ends == tree.unk_of[ROOT]) - 0.5) < 5 * 0.5 / math.sqrt(40_000)


def test_a_path_ends_at_a_leaf_or_an_unk_arm_under_its_start() -> None:
    tree = tree_of((3, 3, 3), grow=True)
    start = tree.children(ROOT)[1]
    for end in draws.draw_arms(tree, np.full(300, start), draws.generator(4), 2, explore=True).tolist():
        assert tree.is_leaf(end) or tree.is_unk[end]
        assert tree.path(end)[0] == start


def test_a_leaf_is_its_own_draw() -> None:
    tree = tree_of((1, 1, 1))
    leaf = tree.leaves()[0]
    assert draws.draw_arms(tree, np.array([leaf]), draws.generator(5), 2, explore=True).tolist() == [leaf]


def test_what_is_closed_is_never_drawn() -> None:
    tree = tree_of((3, 2, 2), grow=True)
    for arm in (tree.unk_of[ROOT], *tree.leaves()[:5]):
        tree.close(arm)
    for node in tree.children(ROOT)[:1]:  # with this the first main domain has no open arm left
        for inner in (node, *tree.children(node)):
            tree.close(tree.unk_of[inner])
    for sharpness in (0, 2, math.inf):
        ends = draws.draw_from_root(tree, 3000, draws.generator(6), sharpness, explore=True).tolist()
        assert all(tree.open[node] for end in set(ends) for node in (*tree.path(tree.parent[end]), end))


def test_without_explore_only_leaves_with_pairs_are_drawn() -> None:
    tree = tree_of((4, 4, 4), grow=True)
    paired = tree.leaves()[3:60:7]
    for leaf in paired:
        tree.pair_stored(leaf)
    ends = draws.draw_from_root(tree, 5000, draws.generator(7), 2, explore=False)
    assert set(ends.tolist()) == set(paired)


def test_a_pair_of_a_closed_leaf_may_still_be_trained_on() -> None:
    tree = tree_of((1, 1, 2))
    tree.pair_stored(tree.leaves()[0])
    tree.close(tree.leaves()[0])
    assert set(draws.draw_from_root(tree, 50, draws.generator(8), 2, explore=False).tolist()) == {tree.leaves()[0]}


def test_no_open_arm_is_said_so() -> None:
    tree = tree_of((1, 1, 1))
    tree.close(tree.leaves()[0])
    with pytest.raises(draws.NoOpenArm):
        draws.draw_from_root(tree, 1, draws.generator(9), 2, explore=True)


def test_a_start_without_an_open_arm_is_said_so_beside_one_that_has_some() -> None:
    tree = tree_of((2, 1, 1))
    tree.close(tree.leaves()[0])
    with pytest.raises(draws.NoOpenArm):
        draws.draw_arms(tree, np.array(tree.children(ROOT)), draws.generator(9), 2, explore=True)


class Even:
    """A generator by which all arms score alike."""

    def standard_exponential(self, size: int) -> NDArray[np.float64]:
        return np.ones(size)


def test_of_arms_that_score_alike_the_first_of_each_node_is_drawn() -> None:
    tree = tree_of((3, 2, 2))
    even: Any = Even()
    ends = draws.draw_arms(tree, np.array(tree.children(ROOT)), even, 0, explore=True)
    firsts = [tree.children(tree.children(main)[0])[0] for main in tree.children(ROOT)]
    assert ends.tolist() == firsts


def test_the_same_place_gives_the_same_draws_whatever_was_drawn_elsewhere() -> None:
    tree = tree_of((5, 5, 5))
    alone = draws.draw_from_root(tree, 30, draws.generator(7, 1, 2), 2, explore=True)
    other = draws.generator(7, 1, 3)
    here = draws.generator(7, 1, 2)
    draws.draw_from_root(tree, 1000, other, 2, explore=True)
    assert draws.draw_from_root(tree, 30, here, 2, explore=True).tolist() == alone.tolist()


@pytest.mark.parametrize("place", [(8, 1, 2), (7, 2, 2), (7, 1, 3), (7, 1, 2, 0, 0), (7, 12), (71, 2)])
def test_another_seed_or_place_gives_other_draws(place: tuple[int, ...]) -> None:
    numbers = draws.generator(7, 1, 2).random(4).tolist()
    assert draws.generator(*place).random(4).tolist() != numbers


def test_draws_are_of_the_state_and_change_nothing() -> None:
    tree = tree_of((3, 3, 3), grow=True)
    before = [list(tree.alpha), list(tree.beta), list(tree.open), list(tree.arena)]
    draws.draw_from_root(tree, 100, draws.generator(1), 2, explore=True)
    assert [list(tree.alpha), list(tree.beta), list(tree.open), list(tree.arena)] == before
    tree.add(ROOT, "later", True)  # no view is left that would forbid it


class Counting:
    """A generator that notes how many numbers it was asked for."""

    def __init__(self) -> None:
        self.numbers: list[int] = []
        self._rng = draws.generator(1)

    def standard_gamma(self, shape: NDArray[np.float64]) -> NDArray[np.float64]:
        self.numbers.append(shape.size)
        return self._rng.standard_gamma(shape)

    def standard_exponential(self, size: int) -> NDArray[np.float64]:
        self.numbers.append(size)
        return self._rng.standard_exponential(size)


def numbers_drawn(tree: Tree, start: int) -> list[int]:
    rng: Any = Counting()
    draws.draw_arms(tree, np.full(30, start), rng, 2, explore=True)
    return rng.numbers


def test_a_draw_costs_the_arms_beside_its_path_and_not_the_tree() -> None:
    small, large = tree_of((4, 6, 6)), tree_of((40, 6, 6))
    assert len(large) > 9 * len(small)
    cost = numbers_drawn(small, small.children(ROOT)[2])
    assert cost == numbers_drawn(large, large.children(ROOT)[2])
    assert cost == [2 * 30 * 7, 30 * 7] * 2  # two levels of six children and `unk`: gammas for alpha and beta, a race
