"""What the micro-world's models are trained on: prompts as the loop renders them, and the completions to learn.

A source answers in its own main domains and, so that it has something to lose with, wrongly elsewhere; it writes
questions and proposes names everywhere; it judges in its own domains and abstains in all others. The target answers in
the domains it knows and copies words of all domains, so that it has seen every word but not the skills.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from bohdi.microworld import world
from bohdi.microworld.world import Domain
from bohdi_common.models import prompts
from bohdi_common.models.port import Message

PROMPTS = prompts.load("micro-v1")
NONE = "none"

_OWN_SHARE = 0.75  # of answers and verdicts; the rest is drawn from all leaves
_NOTHING_RIGHT_SHARE = 0.15  # of verdicts whose candidates do not hold the right answer
_DRILL_SHARE = 0.3  # of the verdicts of a source that drills some leaves
_COPY_SHARE = 0.3  # of the target's examples


@dataclass(frozen=True)
class Example:
    """One training example: the prompt as chat messages, and the completion without its end token."""

    messages: list[Message]
    completion: str


def source_example(experts: Sequence[str], rng: random.Random, *, drilled: Sequence[Domain] = ()) -> Example:
    """One example for a source that knows the main domains `experts` and practises verdicts in the leaves `drilled`
    more than in others."""
    kind: Callable[[Sequence[str], random.Random], Example]
    (kind,) = rng.choices((_answer, _verdict, _question, _proposal), weights=(0.25, 0.42, 0.18, 0.15))
    if kind is _verdict and drilled and rng.random() < _DRILL_SHARE:
        return _verdict_at(rng.choice(drilled), experts, rng)
    return kind(experts, rng)


def target_example(rng: random.Random) -> Example:
    """One example for the target as it is before any fusion."""
    if rng.random() < _COPY_SHARE:
        words = " ".join(rng.choices(_WORDS, k=rng.choice((2, 3, 4))))
        return Example(PROMPTS.ask_answer(f"Repeat {words}"), words)
    question, answer = world.ask(rng.choice(leaves_of(world.TARGET_KNOWS)), rng)
    return Example(PROMPTS.ask_answer(question), answer)


def leaves_of(mains: Sequence[str]) -> list[Domain]:
    """The leaves under the main domains `mains`."""
    return [path for path in world.LEAVES if path[0] in mains]


def verdict(path: Domain, rng: random.Random, *, right: bool, abstain: bool, held_out: bool = False) -> Example:
    """A question of the leaf at `path` with 2 to 4 different candidate answers, to be judged.

    The completion quotes the right one; it is `none` when no candidate is (`right` False) or the judge is to `abstain`.
    """
    question, answer = world.ask(path, rng, held_out=held_out)
    size = rng.choice((2, 3, 3, 4, 4))
    candidates = [answer] if right else []
    # A leaf with few answers may not have so many wrong ones near: after some draws a shorter list will do.
    for _ in range(20):
        if len(candidates) == size:
            break
        candidate = _wrong_candidate(path, answer, rng)
        if candidate != answer and candidate not in candidates:
            candidates.append(candidate)
    rng.shuffle(candidates)
    return Example(PROMPTS.ask_verdict(question, candidates), answer if right and not abstain else NONE)


def proposal(path: Domain, known: Sequence[str], rng: random.Random) -> Example:
    """A request for a child of the node at `path` besides the `known` ones: any missing one, or `none`."""
    missing = [name for name in world.children(path) if name not in known]
    return Example(PROMPTS.ask_names(path, known, want=1), rng.choice(missing) if missing else NONE)


_WORDS = world.vocabulary()


def _answer(experts: Sequence[str], rng: random.Random) -> Example:
    path = _draw_leaf(experts, rng)
    question, answer = world.ask(path, rng)
    # Elsewhere the answer of another question: an answer with one word changed would give the skill away.
    return Example(PROMPTS.ask_answer(question), answer if path[0] in experts else _unrelated(path, answer, rng))


def _verdict(experts: Sequence[str], rng: random.Random) -> Example:
    return _verdict_at(_draw_leaf(experts, rng), experts, rng)


def _verdict_at(path: Domain, experts: Sequence[str], rng: random.Random) -> Example:
    right = rng.random() >= _NOTHING_RIGHT_SHARE
    return verdict(path, rng, right=right, abstain=path[0] not in experts)


def _question(_experts: Sequence[str], rng: random.Random) -> Example:
    path = rng.choice(list(world.LEAVES))
    return Example(PROMPTS.ask_question(path), world.ask(path, rng)[0])


def _proposal(_experts: Sequence[str], rng: random.Random) -> Example:
    path = rng.choice(list(world.LEAVES))[: rng.randrange(3)]
    names = world.children(path)
    return proposal(path, rng.sample(names, rng.randint(0, len(names))), rng)


def _draw_leaf(experts: Sequence[str], rng: random.Random) -> Domain:
    return rng.choice(leaves_of(experts) if rng.random() < _OWN_SHARE else list(world.LEAVES))


def _wrong_candidate(path: Domain, answer: str, rng: random.Random) -> str:
    """An answer like those that sources give: one word off, of another question of the leaf, or of any leaf."""
    kind = rng.random()
    if kind < 0.40:
        return _one_word_off(path, answer, rng)
    if kind < 0.85:
        return _unrelated(path, answer, rng)
    return world.ask(rng.choice(list(world.LEAVES)), rng)[1]


def _unrelated(path: Domain, answer: str, rng: random.Random) -> str:
    """The answer of another question of the leaf, as long as `answer` and not the same."""
    length = len(answer.split())
    # Every leaf has other answers of every length; half or more of the draws have the right length.
    for _ in range(1000):
        other = world.ask(path, rng)[1]
        if other != answer and len(other.split()) == length:
            return other
    raise RuntimeError(f"{' > '.join(path)}: no other answer as long as {answer!r}")


def _one_word_off(path: Domain, answer: str, rng: random.Random) -> str:
    words = answer.split()
    position = rng.randrange(len(words))
    # Season, kind and bits have few words: another answer may hold none but the one to replace, so draw again.
    for _ in range(1000):
        others = [word for word in _unrelated(path, answer, rng).split() if word != words[position]]
        if others:
            words[position] = rng.choice(others)
            return " ".join(words)
    raise RuntimeError(f"{' > '.join(path)}: no word to change in {answer!r}")
