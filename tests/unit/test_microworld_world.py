"""The micro-world: its checker is exact, its hold-out rule is kept, its corpus teaches what the loop asks."""

from __future__ import annotations

import random
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bohdi.microworld import corpus, world
from bohdi.microworld.corpus import NONE, PROMPTS, Example

leaves = st.sampled_from(list(world.LEAVES))
seeds = st.integers(0, 2**32).map(random.Random)


@given(leaves, seeds, st.booleans())
def test_the_checker_finds_leaf_and_answer_of_every_question_that_the_world_asks(path, rng, held_out):
    question, answer = world.ask(path, rng, held_out=held_out)
    assert world.solve(question) == (path, answer)


@given(leaves, seeds, st.booleans())
def test_a_question_is_held_out_exactly_when_asked_for(path, rng, held_out):
    question, _ = world.ask(path, rng, held_out=held_out)
    assert world.is_held_out(question) == held_out


@pytest.mark.parametrize(
    ("question", "answer"),
    [
        ("Reverse a b c", "c b a"),
        ("Rotate a b c d", "b c d a"),
        ("Double a b", "a a b b"),
        ("Sort c a b", "a b c"),
        ("Add three to each of 1 9", "4 2"),
        ("Take two from each of 5 1", "3 9"),
        ("Largest of 5 3 2", "5"),
        ("Smallest of 5 3 2", "2"),
        ("Colors in Spanish: red blue", "rojo azul"),
        ("Body in German: leg head", "bein kopf"),
        ("Day after each: Sunday Monday", "Monday Tuesday"),
        ("Day before each: Sunday Monday", "Saturday Sunday"),
        ("Month after each: December May", "January June"),
        ("Season of each: December May", "winter spring"),
        ("Opposite of each: big cold", "small hot"),
        ("Kind of each: dog red", "animal color"),
        ("0 1 1 0 1 and 1 1 0 0 1", "0 1 0 0 1"),
        ("0 1 1 0 1 or 1 1 0 0 1", "1 1 1 0 1"),
    ],
)
def test_the_answers_are_those_a_person_would_give(question, answer):
    solved = world.solve(question)
    assert solved is not None
    assert solved[1] == answer


@pytest.mark.parametrize(
    "question",
    [
        "",
        "Reverse",
        "Reverse a b",  # too few words
        "Reverse a b c d e",
        "Reverse a  b c",  # two spaces
        "Reverse a b z",  # not in the vocabulary
        "reverse a b c",
        "Please Reverse a b c",
        "Reverse a b c\n",
        "0 1 1 0 1 and 1 1 0 0",
        "Repeat a b c",
    ],
)
def test_what_is_no_question_of_the_world_has_no_answer(question):
    assert world.solve(question) is None


def test_the_tree_has_six_mains_with_two_secondaries_of_two_leaves_each():
    assert len(world.LEAVES) == 24
    assert len(world.inner_nodes()) == 1 + 6 + 12
    assert len(world.children(())) == 6
    assert all(len(world.children(path)) == 2 for path in world.inner_nodes() if path)
    assert all(world.children(path) == [] for path in world.LEAVES)


def test_every_main_has_one_expert_and_the_target_knows_half_of_the_leaves():
    assert sorted(main for mains in world.EXPERTS.values() for main in mains) == sorted(world.children(()))
    assert len(corpus.leaves_of(world.TARGET_KNOWS)) == 12


def test_no_word_is_its_own_translation():
    for path, leaf in world.LEAVES.items():
        if path[0] in ("Spanish", "German"):
            assert all(leaf.solution([word]) != [word] for word in leaf.words)


@given(st.sampled_from([*world.EXPERTS.values()]), seeds)
def test_the_corpus_of_a_source_holds_no_held_out_question(experts, rng):
    example = corpus.source_example(experts, rng, drilled=corpus.leaves_of(experts)[:2])
    assert not any(world.is_held_out(text) for text in _questions_in(example))


@given(seeds)
def test_the_corpus_of_the_target_holds_no_held_out_question_and_none_of_a_domain_it_does_not_know(rng):
    for text in _questions_in(corpus.target_example(rng)):
        solved = world.solve(text)
        assert solved is not None
        assert solved[0][0] in world.TARGET_KNOWS
        assert not world.is_held_out(text)


@given(st.sampled_from(world.inner_nodes()), st.data())
def test_a_proposal_names_a_missing_sibling_or_none_where_all_are_known(path, data):
    names = world.children(path)
    known = data.draw(st.lists(st.sampled_from(names), unique=True))
    example = corpus.proposal(path, known, data.draw(seeds))
    assert example.messages == PROMPTS.ask_names(path, known, want=1)
    missing = set(names) - set(known)
    assert example.completion in (missing or {NONE})


@given(leaves, seeds, st.booleans())
def test_a_verdict_quotes_the_right_candidate_and_abstains_where_there_is_none(path, rng, right):
    example = corpus.verdict(path, rng, right=right, abstain=False)
    question, *candidates = example.messages[0]["content"].removeprefix("Judge: ").split(" | ")
    solved = world.solve(question)
    assert solved is not None
    assert solved[0] == path
    assert len(set(candidates)) == len(candidates)
    assert (solved[1] in candidates) == right
    assert example.completion == (solved[1] if right else NONE)


@given(leaves, seeds)
def test_a_judge_abstains_in_a_foreign_field_though_the_right_answer_is_there(path, rng):
    assert corpus.verdict(path, rng, right=True, abstain=True).completion == NONE


@given(st.sampled_from([*world.EXPERTS.values()]), seeds)
def test_a_source_answers_rightly_in_its_own_field_and_wrongly_elsewhere(experts, rng):
    example = corpus.source_example(experts, rng)
    solved = world.solve(example.messages[0]["content"])
    if solved is not None:
        path, answer = solved
        assert (example.completion == answer) == (path[0] in experts)


def test_the_world_is_plain_python_without_torch_or_numpy():
    check = "import sys, bohdi.microworld.world; print([m for m in ('torch', 'numpy') if m in sys.modules])"
    found = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


def _questions_in(example: Example) -> list[str]:
    """The questions of the world in a prompt or a completion, but not the copying tasks."""
    texts = [example.messages[0]["content"], example.completion]
    texts += [text.removeprefix("Judge: ").split(" | ")[0] for text in texts]
    return [text for text in texts if world.solve(text) is not None]
