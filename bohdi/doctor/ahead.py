"""What a run will spend, from its configuration: calls, tokens, money, harvests and hours. Pure.

It is a forecast of the run as configured, without failures and retries; the names, the prices and the number of
examples are those of `core.budget` and `core.decide`. `bohdi status` forecasts a run that has begun from its log.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from bohdi.doctor.asked import judges_of
from bohdi_common.core import budget
from bohdi_common.core.decide import examples_of
from bohdi_common.core.state import Rules
from bohdi_common.runtime.config import Config

# Sprout requests for each slot drawn. In the demo one slot in four waits for one; those that wait under one node share
# it, which leaves 1 in 25. A tree that never ends growing wants more. docs/forecast.md has what was seen.
SPROUTS_AT_MOST, SPROUTS_SHARED = 0.25, 0.04
_MILLION, _HOUR_S = 1e6, 3600.0


@dataclass(frozen=True)
class Lengths:
    """Tokens of what models write, and of the requests `around` it by kind of request; `sprouts`: requests for names,
    for each slot."""

    question: float
    answer: float
    proposal: float
    verdict: float
    around: Mapping[str, float]
    sprouts: float = SPROUTS_AT_MOST


@dataclass
class Tokens:
    prompt: float = 0.0
    completion: float = 0.0


@dataclass(frozen=True)
class Ahead:
    """`tokens`: by model. `training_tokens`: that the target reads while it learns. `spent`: by the names of the
    budget's caps; hours are 0 where a speed is not known."""

    calls: float
    tokens: Mapping[str, Tokens]
    training_tokens: float
    spent: Mapping[str, float]


@dataclass
class _Sum:
    """Calls and tokens as they add up."""

    lengths: Lengths
    calls: float = 0.0
    tokens: dict[str, Tokens] = field(default_factory=dict)

    def ask(self, model: str, kind: str, times: float, read: float, written: float) -> None:
        """`times` requests of a kind, which bring `read` tokens of others' texts and get `written` back."""
        self.calls += times
        of = self.tokens.setdefault(model, Tokens())
        of.prompt += times * (self.lengths.around.get(kind, 0.0) + read)
        of.completion += times * written


def at_most(config: Config, around: Mapping[str, float]) -> Lengths:
    """Every text as long as the settings allow."""
    harvest = config.harvest
    return Lengths(
        harvest.question_max_tokens, harvest.answer_max_tokens, config.sprout.max_tokens, config.judging.max_tokens,
        around,
    )  # fmt: skip


def ahead(
    config: Config,
    rules: Rules,
    lengths: Lengths,
    tokens_s: Mapping[str, float],
    training_tokens_s: float = 0.0,
) -> Ahead:
    """The whole run. `tokens_s`: completion tokens a second by model."""
    total = _Sum(lengths)
    harvests = config.bandit.rounds * config.bandit.steps * config.bandit.slots
    rehearsals = config.bandit.rehearsal_questions  # whatever share of a training they will be
    for source in config.sources:
        asked = (harvests + rehearsals) / len(config.sources)
        total.ask(source.name, "question", asked, 0, config.harvest.question_samples * lengths.question)
        total.ask(source.name, "answer", harvests, lengths.question, lengths.answer)
        if config.bandit.grow:
            written = config.sprout.samples * lengths.proposal
            total.ask(source.name, "proposal", lengths.sprouts * harvests, 0, written)
    total.ask(config.target.name, "answer", harvests + rehearsals, lengths.question, lengths.answer)
    shown = lengths.question + (len(config.sources) + 1) * lengths.answer
    orders = 2 if config.judging.both_orders else 1
    for judge, share in judges_of(config).items():
        times = share * harvests * config.judging.verdicts * orders
        total.ask(judge, "verdict", times, shown, lengths.verdict)
    trained = _training_tokens(config, rules, lengths, rehearsed=rehearsals > 0)
    hours = _hours(config, total.tokens, tokens_s, trained, training_tokens_s)
    return Ahead(total.calls, total.tokens, trained, _spent(config, total.tokens, harvests, hours))


def _training_tokens(config: Config, rules: Rules, lengths: Lengths, *, rehearsed: bool) -> float:
    """Every harvest counted as a pair, so at most."""
    per_round = config.bandit.steps * config.bandit.slots
    examples = sum(
        examples_of(rules, number, (number + 1) * per_round, rehearsed=rehearsed)
        for number in range(config.bandit.rounds)
    )
    row = min(config.training.max_tokens, lengths.around.get("answer", 0.0) + lengths.question + lengths.answer)
    return examples * config.training.epochs * row


def _spent(config: Config, tokens: Mapping[str, Tokens], harvests: int, hours: float) -> dict[str, float]:
    models = (*config.sources, config.target, *config.judging.judges)
    prices = {model.name: (model.price_prompt, model.price_completion) for model in models}
    micros = sum(budget.cost_micros(prices[name], of.prompt, of.completion) for name, of in tokens.items())
    whole = sum(of.prompt + of.completion for of in tokens.values())
    return dict(zip(budget.CAPS, (whole, micros / _MILLION, float(harvests), hours), strict=True))


def _hours(
    config: Config, tokens: Mapping[str, Tokens], tokens_s: Mapping[str, float], trained: float, training_s: float
) -> float:
    """Servers answer side by side, models of this process one after another; the training waits for both. 0 where the
    speed of one that is asked is not known."""
    if any(tokens_s.get(name, 0.0) <= 0 for name in tokens) or training_s <= 0:
        return 0.0
    here = {m.name for m in (*config.sources, config.target, *config.judging.judges) if m.adapter == "local"}
    seconds: dict[str, float] = {}
    for name, of in tokens.items():
        turn = "" if name in here else name
        seconds[turn] = seconds.get(turn, 0.0) + of.completion / tokens_s[name]
    return (max(seconds.values()) + trained / training_s) / _HOUR_S
