"""Other settings under which recorded outcomes can be folded again, as a person gives them: `NAME=VALUE`.

What stays as it is: which paths were drawn, what was asked, answered and judged, in which order it took effect, what
was trained. What is made anew: rewards (where a rule of theirs is given), windows, the sweeps of Introspection-Rebirth
at the moments at which the log has them, posteriors. All other settings move decisions, which are not in the log.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

from bohdi.analysis.ballots import AS_JUDGED, RewardRule
from bohdi_common.core.state import Introspection, Rules
from bohdi_common.runtime.config import BadConfig

VARIANTS_MAX = 10_000

_FORMS = {
    "off": ("", ""),
    "paper": ("window", "none"),
    "two_sample": ("before", "bh"),
}
_RECORDED = {Introspection.OFF: "off", Introspection.PAPER: "paper", Introspection.TWO_SAMPLE: "two_sample"}


@dataclass(frozen=True)
class Variant:
    """`null`: what a window is tested against, all since the last rebirth (`window`: it is among that, as published) or
    what came `before` it; empty: no sweeps. `correction`: `none` or `bh`, Benjamini and Hochberg's over the sweep.
    `prior`: alpha and beta at birth, to which a posterior adds its rewards."""

    window: int
    threshold: float
    null: str
    correction: str
    prior: tuple[float, float] = (1.0, 1.0)
    rewards: RewardRule = AS_JUDGED

    @classmethod
    def recorded(cls, rules: Rules) -> Variant:
        """The settings that the run had."""
        return cls(rules.window, rules.threshold, *_FORMS[_RECORDED[Introspection(rules.introspection)]])

    @property
    def introspection(self) -> Introspection:
        """As the rules of a run have it."""
        if not self.null:
            return Introspection.OFF
        return Introspection.PAPER if self.null == "window" else Introspection.TWO_SAMPLE

    @property
    def whole_prior(self) -> bool:
        """Whether the bandit could be in such a state: it counts in integers."""
        return all(count == int(count) for count in self.prior)


def _one_of(*words: str) -> Callable[[str], str]:
    def read(text: str) -> str:
        if text not in words:
            raise ValueError(f"one of {', '.join(words)}")
        return text

    return read


def _whole(low: int, high: int) -> Callable[[str], int]:
    def read(text: str) -> int:
        if not text.isascii() or not text.isdigit() or not low <= int(text) <= high:
            raise ValueError(f"a whole number from {low} to {high}")
        return int(text)

    return read


def _number(low: float, high: float) -> Callable[[str], float]:
    def read(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not low <= value <= high:
            raise ValueError(f"a number from {low:g} to {high:g}")
        return value

    return read


_READERS: dict[str, Callable[[str], Any]] = {
    "bandit.introspection": _one_of(*_FORMS),
    "bandit.window": _whole(1, 64),
    "bandit.threshold": _number(0, 1),
    "null": _one_of("window", "before"),
    "correction": _one_of("none", "bh"),
    "prior.alpha": _number(1e-3, 1e6),
    "prior.beta": _number(1e-3, 1e6),
    "rewards.share": _number(0.5, 1),
    "rewards.votes": _whole(1, 1_000),
    "rewards.ties": _one_of("none", "target", "sources"),
    "rewards.identical": _one_of("target", "none"),
}
_APPLIED = {name: place for place, name in enumerate(_READERS)}  # the form of the test before its parts


def variants(recorded: Variant, sets: Sequence[str], grids: Sequence[str]) -> list[tuple[dict[str, str], Variant]]:
    """Each combination of the grids' values, with all that was given for it; `sets` hold for all. Raises BadConfig."""
    fixed = dict(_given(text, "--set") for text in sets)
    ranges = {name: values.split(",") for name, values in (_given(text, "--grid") for text in grids)}
    if both := fixed.keys() & ranges.keys():
        raise BadConfig(f"what-if: {sorted(both)[0]} is given by --set and by --grid: leave one out")
    count = math.prod(map(len, ranges.values()))
    if count > VARIANTS_MAX:
        raise BadConfig(f"what-if: {count} combinations: {VARIANTS_MAX} at most")
    combinations = (dict(zip(ranges, values, strict=True)) for values in product(*ranges.values()))
    return [(fixed | given, _applied(recorded, fixed | given)) for given in combinations]


def _given(text: str, option: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    name = name.strip()
    if not equals or name not in _READERS:
        why = "" if equals else "NAME=VALUE; "
        known = ", ".join(_READERS)
        raise BadConfig(
            f"what-if: {option} {text}: {why}recorded outcomes can be folded under other {known}; any other setting "
            "moves decisions, and what would have come of those is not in the log"
        )
    return name, value.strip()


def _applied(recorded: Variant, given: dict[str, str]) -> Variant:
    variant = recorded
    for name, text in sorted(given.items(), key=lambda item: _APPLIED[item[0]]):
        try:
            variant = _with(variant, name, _READERS[name](text.strip()))
        except ValueError as error:
            raise BadConfig(f"what-if: {name}={text}: give {error}") from None
    if not variant.null and given.keys() & {"bandit.threshold", "null", "correction"}:
        raise BadConfig(
            "what-if: introspection is off, so nothing is tested: set bandit.introspection to paper or two_sample too"
        )
    return variant


def _with(variant: Variant, name: str, value: Any) -> Variant:
    match name:
        case "bandit.introspection":
            null, correction = _FORMS[value]
            return replace(variant, null=null, correction=correction)
        case "prior.alpha":
            return replace(variant, prior=(value, variant.prior[1]))
        case "prior.beta":
            return replace(variant, prior=(variant.prior[0], value))
    part, _, field = name.rpartition(".")
    if part == "rewards":
        return replace(variant, rewards=replace(variant.rewards, **{field: value}))
    if field in ("null", "correction") and not variant.null:
        return variant
    return replace(variant, **{field: value})


def reward_rules(variants: Iterable[Variant]) -> list[RewardRule]:
    """The different ones, in the order of their first use."""
    return list(dict.fromkeys(variant.rewards for variant in variants))
