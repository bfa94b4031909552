"""The tree: blocks of children, what is open, rewards, windows, pairs."""

import random
from dataclasses import dataclass, field

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from bohdi_common.core.tree import LEAF_LEVEL, ROOT, Tree


def planted(window: int = 4, grow: bool = True) -> Tree:
    tree = Tree(window)
    tree.plant(grow)
    return tree


def path_of(tree: Tree, *path: str, grow: bool = True) -> list[int]:
    """Adds what is missing of the path."""
    node = ROOT
    for name in path:
        child = tree.child_named(node, name)
        node = tree.add(node, name, grow) if child is None else child
    return tree.path(node)


def test_a_new_tree_has_only_the_unk_arm_of_root() -> None:
    tree = planted()
    assert tree.name == ["Root", "unk"]
    assert tree.children(ROOT) == []
    assert tree.open[ROOT]


def test_every_inner_node_has_an_unk_arm_and_a_leaf_has_none() -> None:
    tree = planted()
    main, secondary, leaf = path_of(tree, "m", "s", "l")
    assert [tree.is_unk[tree.unk_of[node]] for node in (ROOT, main, secondary)] == [1, 1, 1]
    assert tree.unk_of[leaf] == -1
    assert tree.is_leaf(leaf) and not tree.is_leaf(tree.unk_of[secondary])


def test_children_stand_in_the_order_of_their_birth_however_often_their_block_moved() -> None:
    tree = planted()
    born = [tree.add(ROOT, f"m{n}", True) for n in range(100)]
    assert tree.children(ROOT) == born


def test_blocks_that_moved_take_room_in_proportion_to_the_children() -> None:
    tree = planted()
    for n in range(1000):
        tree.add(ROOT, f"m{n}", True)
    assert len(tree.arena) < 4 * len(tree)


def test_a_child_is_found_by_any_spelling_of_its_name() -> None:
    tree = planted()
    node = tree.add(ROOT, "Linear Algebra", True)
    assert tree.child_named(ROOT, "linear  ALGEBRA") == node
    assert tree.child_named(node, "Linear Algebra") is None


def test_a_tree_that_may_not_grow_is_open_only_where_it_has_leaves() -> None:
    tree = planted(grow=False)
    assert not tree.open[ROOT]
    main = tree.add(ROOT, "m", False)
    assert not tree.open[main]
    secondary = tree.add(main, "s", False)
    leaf = tree.add(secondary, "l", False)
    assert [tree.open[node] for node in (ROOT, main, secondary, leaf)] == [1, 1, 1, 1]


def test_a_node_closes_with_its_last_open_arm_and_so_up_to_root() -> None:
    tree = planted()
    main, secondary, leaf = path_of(tree, "m", "s", "l")
    for node in (ROOT, main, secondary):
        tree.close(tree.unk_of[node])
    assert tree.open[ROOT]
    tree.close(leaf)
    assert [tree.open[node] for node in (ROOT, main, secondary, leaf)] == [0, 0, 0, 0]


def test_a_new_child_opens_a_node_that_had_closed() -> None:
    tree = planted()
    tree.close(tree.unk_of[ROOT])
    assert not tree.open[ROOT]
    tree.add(ROOT, "m", True)
    assert tree.open[ROOT]


def test_closing_twice_is_closing_once() -> None:
    tree = planted()
    tree.add(ROOT, "m", True)
    tree.close(tree.unk_of[ROOT])
    tree.close(tree.unk_of[ROOT])
    assert tree.open[ROOT]


def test_the_limitth_miss_in_a_row_closes_an_arm() -> None:
    tree = planted()
    arm = tree.unk_of[ROOT]
    tree.missed(arm, 3)
    tree.missed(arm, 3)
    assert tree.open[arm]
    tree.missed(arm, 3)
    assert not tree.open[arm]


def test_a_reward_enters_the_three_nodes_of_its_path_and_no_other() -> None:
    tree = planted()
    path = path_of(tree, "m", "s", "l")
    other = path_of(tree, "m", "s", "k")[-1]
    tree.reward(path[-1], 1)
    tree.reward(path[-1], 0)
    tree.reward(path[-1], 1)
    assert [(tree.alpha[node], tree.beta[node]) for node in path] == [(3, 2)] * 3
    assert (tree.alpha[other], tree.beta[other], tree.alpha[ROOT], tree.beta[ROOT]) == (1, 1, 1, 1)


def test_a_window_holds_the_last_w_rewards() -> None:
    tree = planted(window=4)
    leaf = path_of(tree, "m", "s", "l")[-1]
    for r in (1, 1, 1, 0, 1, 0, 0):
        tree.reward(leaf, r)
    assert tree.window[leaf] == 0b0100


def test_a_window_may_be_64_rewards_long() -> None:
    tree = planted(window=64)
    leaf = path_of(tree, "m", "s", "l")[-1]
    for _ in range(70):
        tree.reward(leaf, 1)
    assert tree.window[leaf] == 2**64 - 1
    assert np.bitwise_count(tree.column(tree.window)[leaf]) == 64


def test_a_node_reborn_remembers_its_window_alone() -> None:
    tree = planted()
    leaf = path_of(tree, "m", "s", "l")[-1]
    tree.reborn(leaf, 3, 4)
    assert (tree.alpha[leaf], tree.beta[leaf], tree.pulls(leaf), tree.rebirths[leaf]) == (4, 2, 4, 1)


def test_the_mean_of_a_node_is_that_of_its_beta() -> None:
    tree = planted()
    leaf = path_of(tree, "m", "s", "l")[-1]
    assert tree.mean(leaf) == 0.5
    tree.reborn(leaf, 3, 4)
    assert tree.mean(leaf) == 4 / 6


def test_a_pair_marks_its_whole_path() -> None:
    tree = planted()
    path = path_of(tree, "m", "s", "l")
    other = path_of(tree, "m", "t", "l")
    tree.pair_stored(path[-1])
    assert [tree.paired[node] for node in (ROOT, *path)] == [1, 1, 1, 1]
    assert [tree.paired[node] for node in other[1:]] == [0, 0]


def test_only_a_path_of_named_nodes_from_the_first_level_down_is_held() -> None:
    tree = planted()
    main, secondary, leaf = path_of(tree, "m", "s", "l")
    assert all(tree.holds_path(path) for path in ([], [main], [main, secondary], [main, secondary, leaf]))
    wrong = ([ROOT], [secondary], [main, leaf], [tree.unk_of[ROOT]], [99], [-1], [main, secondary, leaf, leaf])
    assert not any(tree.holds_path(path) for path in wrong)


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32), grow=st.booleans())
def test_a_tree_made_of_its_rows_is_the_tree_in_all_that_rows_leave_out_too(seed: int, grow: bool) -> None:
    rng = random.Random(seed)
    tree = planted(grow=grow)
    for n in range(rng.randrange(40)):
        inner = [node for node in range(len(tree)) if not tree.is_unk[node] and not tree.is_leaf(node)]
        tree.add(rng.choice(inner), f"n{n}", grow)
    for arm in range(len(tree)):
        if (tree.is_unk[arm] or tree.is_leaf(arm)) and rng.random() < 0.4:
            tree.close(arm)
    again = Tree.of_rows(tree.window_length, tree.rows())
    assert again.rows() == tree.rows()
    assert again.open_children == tree.open_children
    assert again.unk_of == tree.unk_of
    assert again.nodes_by_level == tree.nodes_by_level
    for node in range(len(tree)):
        assert again.children(node) == tree.children(node)
        assert all(again.child_named(node, tree.name[child]) == child for child in tree.children(node))


# ---- against a naive model --------------------------------------------------------------------------------------


@dataclass
class NaiveNode:
    """What a node is, said with lists and recursion."""

    level: int
    grow: bool
    children: list["NaiveNode"] = field(default_factory=list)
    unk_closed: bool = False
    closed: bool = False
    wins: int = 0
    losses: int = 0
    rewards: list[int] = field(default_factory=list)
    paired: bool = False

    def is_open(self) -> bool:
        if self.level == LEAF_LEVEL:
            return not self.closed
        return (self.grow and not self.unk_closed) or any(child.is_open() for child in self.children)


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32), grow=st.booleans(), window=st.integers(1, 64))
def test_any_operations_leave_the_tree_as_a_naive_one(seed: int, grow: bool, window: int) -> None:
    rng = random.Random(seed)
    tree, root = planted(window, grow), NaiveNode(0, grow)
    nodes: list[tuple[int, list[NaiveNode]]] = [(ROOT, [root])]  # id, path from Root
    for turn in range(rng.randrange(150)):
        node, path = rng.choice(nodes)
        naive = path[-1]
        match rng.choice(("add", "add", "close", "reward", "pair", "reborn")):
            case "add" if naive.level < LEAF_LEVEL:
                child = NaiveNode(naive.level + 1, grow)
                naive.children.append(child)
                nodes.append((tree.add(node, f"n{turn}", grow), [*path, child]))
            case "close" if naive.level < LEAF_LEVEL:
                naive.unk_closed = True
                tree.close(tree.unk_of[node])
            case "close":
                naive.closed = True
                tree.close(node)
            case "reward" if naive.level == LEAF_LEVEL:
                r = rng.randrange(2)
                tree.reward(node, r)
                for above in path[1:]:
                    above.wins, above.losses = above.wins + r, above.losses + 1 - r
                    above.rewards.append(r)
            case "pair" if naive.level == LEAF_LEVEL:
                tree.pair_stored(node)
                for above in path:
                    above.paired = True
            case "reborn" if len(naive.rewards) >= window:
                naive.wins = sum(naive.rewards[-window:])
                naive.losses = window - naive.wins
                tree.reborn(node, naive.wins, window)
    for node, path in nodes:
        naive = path[-1]
        assert bool(tree.open[node]) == naive.is_open()
        assert (tree.alpha[node] - 1, tree.beta[node] - 1) == (naive.wins, naive.losses)
        assert tree.window[node].bit_count() == sum(naive.rewards[-window:])
        assert bool(tree.paired[node]) == naive.paired
        assert [tree.level[child] for child in tree.children(node)] == [naive.level + 1] * len(naive.children)
    assert tree.leaves() == [node for node, path in nodes if path[-1].level == LEAF_LEVEL]
