"""A question's domain, told by its text: learnt from the questions of a run."""

from __future__ import annotations

import random

import pytest

from bohdi import domain_text
from bohdi.domain_text import Pair, bounded, learnt, validated
from bohdi.microworld import world

PAIRS: list[Pair] = [
    (question, path) for path in world.LEAVES for n in range(12) for question, _ in [world.ask(path, random.Random(n))]
]


@pytest.fixture(scope="module")
def told() -> domain_text.Told:
    return learnt(PAIRS)


def test_new_questions_of_the_micro_world_are_told_to_their_leaves(told: domain_text.Told) -> None:
    asked = [(world.ask(path, random.Random(1), held_out=True)[0], path) for path in world.LEAVES]
    right = [told(question)[0] == path for question, path in asked]
    assert sum(right) >= 0.9 * len(right)


def test_a_question_of_no_domain_stays_above_the_leaves(told: domain_text.Told) -> None:
    path, probability = told("zzz 你好 ???")
    assert len(path) < 3
    assert probability >= domain_text.CONFIDENT


def test_a_node_with_one_child_needs_no_telling_apart() -> None:
    assert learnt([("any", ("m", "s", "l"))])("whatever") == (("m", "s", "l"), 1.0)


def test_without_questions_all_is_root() -> None:
    assert learnt([])("whatever") == ((), 1.0)


def test_the_order_of_the_questions_makes_no_difference(told: domain_text.Told) -> None:
    other = list(PAIRS)
    random.Random(1).shuffle(other)
    assert learnt(other)("Reverse a b c") == told("Reverse a b c")


def test_no_question_is_on_both_sides_and_shuffled_domains_are_told_no_better_than_by_guessing() -> None:
    chance = random.Random(1)
    shuffled = [(question, chance.choice(list(world.LEAVES))) for question in {question for question, _ in PAIRS}]
    real, noise = validated(PAIRS), validated(shuffled)
    assert real is not None and noise is not None
    assert real.right[2] > 0.8
    assert noise.right[2] < 0.2
    assert real.learnt + real.held_out == len(set(PAIRS))


def test_too_few_questions_cannot_be_validated() -> None:
    assert validated([("only one", ("m", "s", "l"))]) is None


def test_what_is_learnt_from_is_bounded_and_even_over_the_domains() -> None:
    many = [(f"question {n}", ("m", "s", f"l{n % 2}")) for n in range(1000)] + [("rare", ("m", "s", "l2"))]
    kept = bounded(many, most=90)
    per_leaf = [sum(path[2] == leaf for _, path in kept) for leaf in ("l0", "l1", "l2")]
    assert per_leaf == [30, 30, 1]
