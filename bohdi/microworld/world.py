"""The micro-world: 24 skills in a tree of domains, each with its questions, its exact answers and its checker.

Any words of a leaf's vocabulary make a valid question, so a question is well formed exactly when its template and its
words fit. One question in ten is held out by a hash: no model of the micro-world is ever trained on it. The loop never
imports this module; building, evaluating and the tests do.
"""

from __future__ import annotations

import hashlib
import random
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

Domain = tuple[str, ...]

_LETTERS = tuple("abcdefghijkl")
_DIGITS = tuple("0123456789")
_BITS = ("0", "1")
_DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
_SEASON_OF = {
    "January": "winter",
    "February": "winter",
    "March": "spring",
    "April": "spring",
    "May": "spring",
    "June": "summer",
    "July": "summer",
    "August": "summer",
    "September": "autumn",
    "October": "autumn",
    "November": "autumn",
    "December": "winter",
}
_MONTHS = tuple(_SEASON_OF)
_COLORS = {
    "red": ("rojo", "rot"),
    "blue": ("azul", "blau"),
    "green": ("verde", "gruen"),
    "black": ("negro", "schwarz"),
    "white": ("blanco", "weiss"),
    "yellow": ("amarillo", "gelb"),
    "brown": ("pardo", "braun"),
    "gray": ("gris", "grau"),
}
_ANIMALS = {
    "dog": ("perro", "hund"),
    "cat": ("gato", "katze"),
    "horse": ("caballo", "pferd"),
    "bird": ("ave", "vogel"),
    "fish": ("pez", "fisch"),
    "cow": ("vaca", "kuh"),
    "pig": ("cerdo", "schwein"),
    "bear": ("oso", "baer"),
}
_FOOD = {
    "bread": ("pan", "brot"),
    "milk": ("leche", "milch"),
    "water": ("agua", "wasser"),
    "salt": ("sal", "salz"),
    "meat": ("carne", "fleisch"),
    "cheese": ("queso", "kaese"),
    "egg": ("huevo", "ei"),
    "apple": ("manzana", "apfel"),
}
_BODY = {
    "ear": ("oreja", "ohr"),
    "head": ("cabeza", "kopf"),
    "eye": ("ojo", "auge"),
    "nose": ("nariz", "nase"),
    "mouth": ("boca", "mund"),
    "foot": ("pie", "fuss"),
    "heart": ("corazon", "herz"),
    "leg": ("pierna", "bein"),
}
_KINDS = {"color": _COLORS, "animal": _ANIMALS, "food": _FOOD, "body": _BODY}
_OPPOSITES = ("big small", "hot cold", "fast slow", "old new", "hard soft", "dark light", "rich poor", "wet dry")


@dataclass(frozen=True)
class Leaf:
    """One skill. Each `{}` of `template` is filled with words of `words`, as many as one of `lengths`."""

    path: Domain
    template: str
    words: tuple[str, ...]
    lengths: tuple[int, ...]
    solution: Callable[..., Sequence[str]]
    pattern: re.Pattern[str] = field(init=False)

    def __post_init__(self) -> None:
        pattern = "(.+)".join(re.escape(part) for part in self.template.split("{}"))
        object.__setattr__(self, "pattern", re.compile(pattern))

    def ask(self, rng: random.Random) -> tuple[str, str]:
        """A question drawn uniformly for a random length, and its answer."""
        length = rng.choice(self.lengths)
        arguments = [rng.choices(self.words, k=length) for _ in range(self.template.count("{}"))]
        question = self.template.format(*(" ".join(words) for words in arguments))
        return question, " ".join(self.solution(*arguments))

    def answer(self, question: str) -> str | None:
        """The answer, or None when `question` is not a well-formed one of this leaf."""
        match = self.pattern.fullmatch(question)
        if match is None:
            return None
        arguments = [group.split(" ") for group in match.groups()]
        lengths = {len(words) for words in arguments}
        if len(lengths) != 1 or not lengths <= set(self.lengths):
            return None
        if any(word not in self.words for words in arguments for word in words):
            return None
        return " ".join(self.solution(*arguments))


def _each(table: Mapping[str, str]) -> Callable[[Sequence[str]], list[str]]:
    return lambda words: [table[word] for word in words]


def _shift(cycle: Sequence[str], by: int) -> Callable[[Sequence[str]], list[str]]:
    return _each({word: cycle[(i + by) % len(cycle)] for i, word in enumerate(cycle)})


def _bitwise(operation: Callable[[int, int], int]) -> Callable[[Sequence[str], Sequence[str]], list[str]]:
    return lambda left, right: [str(operation(int(a), int(b))) for a, b in zip(left, right, strict=True)]


def _strings() -> list[Leaf]:
    reordering, editing = ("Strings", "Reordering"), ("Strings", "Editing")
    return [
        Leaf((*reordering, "Reversal"), "Reverse {}", _LETTERS, (3, 4), lambda words: words[::-1]),
        Leaf((*reordering, "Rotation"), "Rotate {}", _LETTERS, (3, 4), lambda words: [*words[1:], words[0]]),
        Leaf((*editing, "Doubling"), "Double {}", _LETTERS, (2, 3), lambda words: [w for w in words for _ in "12"]),
        Leaf((*editing, "Sorting"), "Sort {}", _LETTERS, (3,), sorted),
    ]


def _numbers() -> list[Leaf]:
    steps, ranking = ("Numbers", "Digit Steps"), ("Numbers", "Digit Ranking")
    return [
        Leaf((*steps, "Adding Three"), "Add three to each of {}", _DIGITS, (2, 3), _shift(_DIGITS, 3)),
        Leaf((*steps, "Taking Two"), "Take two from each of {}", _DIGITS, (2, 3), _shift(_DIGITS, -2)),
        Leaf((*ranking, "Largest Digit"), "Largest of {}", _DIGITS, (3,), lambda words: [max(words)]),
        Leaf((*ranking, "Smallest Digit"), "Smallest of {}", _DIGITS, (3,), lambda words: [min(words)]),
    ]


def _translations(language: str, column: int) -> list[Leaf]:
    kinds = {"Nature": {"Colors": _COLORS, "Animals": _ANIMALS}, "Life": {"Food": _FOOD, "Body": _BODY}}
    return [
        Leaf(
            (language, f"{language} {group}", f"{language} {kind}"),
            f"{kind} in {language}: {{}}",
            tuple(table),
            (2, 3),
            _each({word: translations[column] for word, translations in table.items()}),
        )
        for group, tables in kinds.items()
        for kind, table in tables.items()
    ]


def _calendar() -> list[Leaf]:
    weekdays, months = ("Calendar", "Weekdays"), ("Calendar", "Months")
    return [
        Leaf((*weekdays, "Next Day"), "Day after each: {}", _DAYS, (2, 3), _shift(_DAYS, 1)),
        Leaf((*weekdays, "Previous Day"), "Day before each: {}", _DAYS, (2, 3), _shift(_DAYS, -1)),
        Leaf((*months, "Next Month"), "Month after each: {}", _MONTHS, (2, 3), _shift(_MONTHS, 1)),
        Leaf((*months, "Season"), "Season of each: {}", _MONTHS, (2, 3), _each(_SEASON_OF)),
    ]


def _logic() -> list[Leaf]:
    relations, tables = ("Logic", "Word Relations"), ("Logic", "Truth Tables")
    opposites = dict(pair.split() for pair in _OPPOSITES)
    opposites |= {b: a for a, b in opposites.items()}
    kinds = {word: kind for kind, words in _KINDS.items() for word in words}
    conjunction, disjunction = _bitwise(lambda a, b: a & b), _bitwise(lambda a, b: a | b)
    return [
        Leaf((*relations, "Opposites"), "Opposite of each: {}", tuple(opposites), (2, 3), _each(opposites)),
        Leaf((*relations, "Word Kinds"), "Kind of each: {}", tuple(kinds), (2, 3), _each(kinds)),
        Leaf((*tables, "Conjunction"), "{} and {}", _BITS, (5,), conjunction),
        Leaf((*tables, "Disjunction"), "{} or {}", _BITS, (5,), disjunction),
    ]


_ALL = [*_strings(), *_numbers(), *_translations("Spanish", 0), *_translations("German", 1), *_calendar(), *_logic()]

LEAVES: Mapping[Domain, Leaf] = {leaf.path: leaf for leaf in _ALL}
"""The leaves by path (main, secondary, leaf)."""

EXPERTS: Mapping[str, tuple[str, ...]] = {
    "qwen": ("Strings", "Numbers"),
    "mistral": ("Spanish", "German"),
    "phi": ("Calendar", "Logic"),
}
"""The main domains that each source knows."""

TARGET_KNOWS: tuple[str, ...] = ("Strings", "German", "Logic")
"""The main domains that the target knows at the start; it has never seen a question of the others."""

HELD_OUT_SHARE = 10
"""One question in so many is held out."""


def is_held_out(question: str) -> bool:
    """Whether the hash rule keeps `question` out of all training."""
    return int(hashlib.md5(question.encode(), usedforsecurity=False).hexdigest(), 16) % HELD_OUT_SHARE == 0


def ask(path: Domain, rng: random.Random, *, held_out: bool = False) -> tuple[str, str]:
    """A question of the leaf at `path` and its answer, held out or not as told. Raises KeyError for no leaf."""
    leaf = LEAVES[path]
    # One draw in ten is held out: 10,000 draws without one would be a broken rule, not bad luck.
    for _ in range(10_000):
        question, answer = leaf.ask(rng)
        if is_held_out(question) == held_out:
            return question, answer
    raise RuntimeError(f"{' > '.join(path)}: no question with held_out={held_out} in 10,000 draws")


def solve(question: str) -> tuple[Domain, str] | None:
    """The leaf that `question` belongs to and its answer, or None when it is no well-formed question of the world."""
    for path, leaf in LEAVES.items():
        answer = leaf.answer(question)
        if answer is not None:
            return path, answer
    return None


def children(path: Domain) -> list[str]:
    """Names of the children of the node at `path` (empty is Root); empty for a leaf or an unknown node."""
    depth = len(path)
    return list(dict.fromkeys(leaf[depth] for leaf in LEAVES if len(leaf) > depth and leaf[:depth] == path))


def inner_nodes() -> list[Domain]:
    """Paths of all nodes that have children, Root first."""
    return list(dict.fromkeys(leaf[:depth] for depth in range(3) for leaf in LEAVES))


def vocabulary() -> list[str]:
    """Every word that stands in an argument or an answer, in a fixed order."""
    answers = [word for languages in (_COLORS, _ANIMALS, _FOOD, _BODY) for pair in languages.values() for word in pair]
    arguments = [word for leaf in _ALL for word in leaf.words]
    return list(dict.fromkeys([*arguments, *answers, *_SEASON_OF.values(), *_KINDS]))
