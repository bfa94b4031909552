"""Who is good at what, from a run's log alone: in every domain, how often each model had the best answer.

A harvest in a domain counts for that domain and for all above it. Few harvests say little, so every estimate leans on
that of the domain above, and that of Root on chance. With prior mean m (the parent's estimate; 1/models above Root) and
prior strength s, in harvests, the win rate of a model with w wins in n harvests has the posterior

    Beta(s m + w, s (1 - m) + n - w),  of mean  (s m + w) / (s + n)

the Beta-binomial model of empirical Bayes, with the tree in the place of one common prior (Gelman et al., Bayesian Data
Analysis, chapter 5; back-off as in MacKay and Peto's hierarchical Dirichlet model, 1995). A domain without harvests has
its parent's estimate, one with many their observed share.
"""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from statistics import fmean

import scipy

from bohdi_common.core import names
from bohdi_common.events.events_pb2 import Event, HarvestJudged

STRENGTH = 5.0
HELD_OUT = 5  # one question in so many
INTERVAL = 0.9  # probability within the interval, half of the rest on either side
_EMPTY = "empty"  # how generation marks an answer without text

Path = tuple[str, ...]


@dataclass(frozen=True)
class Contest:
    """One counted harvest: its domain and question, who answered, and who had the best answer. Of `winners` more than
    one: they said the same, and share the win."""

    path: Path
    question: str
    entrants: tuple[str, ...]
    winners: tuple[str, ...]

    def share(self, model: str) -> float:
        """The part of the win that is the model's."""
        return (model in self.winners) / len(self.winners)


def contest_of(judged: HarvestJudged) -> Contest | None:
    """The contest that a harvest was; None without a verdict. An empty answer has lost; a model that was away, or could
    not be asked, took no part."""
    answers = list(judged.answers)
    if not judged.counted or not 0 <= judged.best < len(answers):
        return None
    best = _plain(answers[judged.best].text)
    winners = [a.model for a in answers if not a.failed and _plain(a.text) == best]
    entrants = [a.model for a in answers if a.failed in ("", _EMPTY)]
    return Contest(tuple(judged.path), judged.question, tuple(entrants), tuple(winners)) if winners else None


def order(question: str) -> bytes:
    """By this hash questions are held out and chosen: the same ones whatever order they come in."""
    return hashlib.sha256(question.encode("utf-8", "surrogatepass")).digest()


def is_held_out(question: str) -> bool:
    """Whether the question is kept aside to check what the others taught: one in HELD_OUT."""
    return order(question)[0] % HELD_OUT == 0


def _plain(text: str) -> str:
    """What answers are compared by, as the judges' candidates are."""
    return " ".join(text.split())


@dataclass(frozen=True)
class Rate:
    """A model's win rate in one domain: `wins` of `harvests` as counted, and the posterior's mean and interval."""

    wins: float
    harvests: int
    rate: float
    low: float
    high: float


@dataclass
class Tally:
    """Counted contests by domain and model. The order in which they are added makes no difference."""

    # domain -> model -> number of winners -> contests so won; integers, so that sums hang on no order
    _won: dict[Path, dict[str, Counter[int]]] = field(default_factory=lambda: defaultdict(lambda: defaultdict(Counter)))
    _entered: dict[Path, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))

    def add(self, contest: Contest) -> None:
        """Counts it in its domain and in all above."""
        for depth in range(len(contest.path) + 1):
            node = contest.path[:depth]
            self._entered[node].update(contest.entrants)
            for model in contest.winners:
                self._won[node][model][len(contest.winners)] += 1

    def domains(self) -> set[Path]:
        return set(self._entered)

    def only(self, domains: Iterable[Path]) -> Tally:
        """The same counts, of these domains and those above them, Root too, alone."""
        part = Tally()
        wanted = {(), *(domain[:depth] for domain in domains for depth in range(len(domain) + 1))}
        for path in wanted & self.domains():
            part._entered[path] = self._entered[path]
            if path in self._won:
                part._won[path] = self._won[path]
        return part

    def wins(self, domain: Path, model: str) -> float:
        """Wins of the model there, a shared one as its share."""
        won = self._won.get(domain, {}).get(model, Counter())
        return sum(count / sharers for sharers, count in sorted(won.items()))

    def harvests(self, domain: Path, model: str) -> int:
        """Contests there that the model took part in."""
        return self._entered.get(domain, Counter())[model]


def shrunk(wins: float, harvests: int, prior: float, strength: float) -> Rate:
    """The posterior of a win rate whose prior has the mean `prior` (above 0 and below 1) and counts as much as
    `strength` harvests (above 0). Shared wins make fractions."""
    alpha, beta = strength * prior + wins, strength * (1 - prior) + harvests - wins
    tail = (1 - INTERVAL) / 2
    low, high = (float(scipy.special.betaincinv(alpha, beta, q)) for q in (tail, 1 - tail))
    return Rate(wins, harvests, alpha / (alpha + beta), low, high)


def rates(
    tally: Tally, models: Sequence[str], domains: Iterable[Path] = (), strength: float = STRENGTH
) -> dict[Path, dict[str, Rate]]:
    """The win rate of every model of `models` (two at least) in every domain that has harvests, in each of `domains`
    and in all above them, Root being (), parents before children."""
    given: dict[Path, dict[str, Rate]] = {}
    chance = dict.fromkeys(models, 1 / len(models))
    wanted = {path[:depth] for path in {*tally.domains(), *domains, ()} for depth in range(len(path) + 1)}
    for domain in sorted(wanted):
        above = {m: r.rate for m, r in given[domain[:-1]].items()} if domain else chance
        given[domain] = {
            model: shrunk(tally.wins(domain, model), tally.harvests(domain, model), above[model], strength)
            for model in models
        }
    return given


@dataclass(frozen=True)
class Profile:
    """What `bohdi profile` gives and `bohdi route` goes by."""

    run_id: str
    target: str
    target_version: str
    sources: tuple[str, ...]
    strength: float
    rates: Mapping[Path, Mapping[str, Rate]]
    pairs: Sequence[tuple[str, Path]] = ()  # questions and their domains, by which a classifier learns: domain_text.py

    @property
    def models(self) -> tuple[str, ...]:
        return (self.target, *self.sources)

    def nearest(self, path: Sequence[str]) -> Path:
        """The deepest domain of the profile on the way to `path`, names compared as the tree compares them."""
        keys = tuple(map(names.key, path))
        ways = (keys[:depth] for depth in range(len(keys), -1, -1))
        return next(self._by_key[way] for way in ways if way in self._by_key)

    @cached_property
    def _by_key(self) -> dict[Path, Path]:
        return {tuple(map(names.key, domain)): domain for domain in self.rates}


def best_at(rates_there: Mapping[str, Rate]) -> str:
    """The model with the highest rate; of equals the first: the target, the small one, stands before the sources."""
    return max(rates_there, key=lambda model: rates_there[model].rate)


@dataclass(frozen=True)
class Gain:
    """On contests that were held out: the mean share of the win of the model that is best in their domain, and of the
    model that is best overall, both by the rates of the contests that were not."""

    held_out: int
    routed: float
    single: float


def gain(contests: Sequence[Contest], models: Sequence[str], strength: float = STRENGTH) -> Gain | None:
    """What it is worth to ask the best model of a question's domain. None where too few contests stand on a side."""
    held = [contest for contest in contests if is_held_out(contest.question)]
    tally = Tally()
    for contest in contests:
        if not is_held_out(contest.question):
            tally.add(contest)
    if not held or not tally.domains():
        return None
    known = Profile("", models[0], "", tuple(models[1:]), strength, rates(tally, models, (), strength))
    single = best_at(known.rates[()])
    routed = [contest.share(best_at(known.rates[known.nearest(contest.path)])) for contest in held]
    return Gain(len(held), fmean(routed), fmean(contest.share(single) for contest in held))


@dataclass
class Reading:
    """Contests as they stand in a run's events, each event once. `from_round` leaves out those of the rounds before:
    the target of then was another model."""

    from_round: int = 0
    tally: Tally = field(default_factory=Tally)
    contests: list[Contest] = field(default_factory=list)
    _seen: set[str] = field(default_factory=set)

    def add(self, event: Event) -> None:
        """Takes in an event of the run."""
        if not event.HasField("harvest_judged") or event.round < self.from_round or event.event_id in self._seen:
            return
        contest = contest_of(event.harvest_judged)
        if contest is not None:
            self._seen.add(event.event_id)
            self.tally.add(contest)
            self.contests.append(contest)
