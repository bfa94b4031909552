"""What the page of a report says, as plain values made of what was collected: bounded, whatever the run's length."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, TypeVar

import numpy as np
import scipy

from bohdi.figures import PULLS_TO_BE_NAMED, Figures, summary, weakest_leaves
from bohdi.profiles import INTERVAL, best_at, rates
from bohdi.report.collected import Collected, Round
from bohdi.report.moments import Moment, evenly
from bohdi.report.samples import Sample
from bohdi_common.core.state import BASE_VERSION, RunState, state_sha256
from bohdi_common.core.tree import Tree

NODES_MAX = 1_000
ROUNDS_MAX = 64
DOMAINS_MAX = 60  # rows of a table of domains
FAILURES_MAX = 25
SAMPLED = 5  # domains with samples to read, of each kind
_SAMPLES = 3  # of each of them
_MILLION = 1_000_000

T = TypeVar("T")
Row = dict[str, Any]


@dataclass(frozen=True)
class Contents:
    """What `page` shows, section by section, for JSON. `left_out`: in words, what the bounds kept off the page."""

    run: Row
    closing: Row
    accuracy: Row | None
    rounds: list[Row]
    tree: Row
    wins: Row | None
    judges: Row
    trainings: list[Row]
    spending: Row
    failures: Row
    weakest: list[Row]
    improved: list[Row]
    left_out: list[str]


@dataclass(frozen=True)
class DomainsToRead:
    """Leaves with their samples: those where the target loses most, and those where it lost less at the end."""

    weakest: Sequence[int]
    improved: Sequence[int]

    @classmethod
    def of(cls, collected: Collected) -> DomainsToRead:
        """Chosen by posterior mean, and by how many fewer of its last rewards the target lost than of its first."""
        gains = {leaf: gain for leaf in collected.early if (gain := _gain(collected, leaf)) is not None}
        best = sorted(gains, key=lambda leaf: (-_fewer(gains[leaf]), leaf))
        improved = [leaf for leaf in best[:SAMPLED] if _fewer(gains[leaf]) > 0]
        return cls(weakest_leaves(collected.state, SAMPLED), improved)

    def sequences(self, state: RunState) -> dict[int, list[int]]:
        """By leaf the run sequences of the harvests to read: the first one and the last ones."""
        return {leaf: _first_and_last(state, leaf) for leaf in (*self.weakest, *self.improved)}


def _first_and_last(state: RunState, leaf: int) -> list[int]:
    stored = state.pairs.get(leaf, ())
    return sorted({*stored[:1], *stored[-(_SAMPLES - 1) :]})


def _gain(collected: Collected, leaf: int) -> Row | None:
    """Share of harvests that the target lost, of the first and of the last `of` of a leaf: at most as many as the
    window has, and no harvest in both; None where they are too few to be named."""
    early, tree = collected.early[leaf], collected.state.tree
    of = min(len(early), len(collected.state.pairs.get(leaf, ())) // 2)
    if of < PULLS_TO_BE_NAMED:
        return None
    last = (tree.window[leaf] & ((1 << of) - 1)).bit_count()
    return {"of": of, "first": sum(early[:of]) / of, "last": last / of}


def _fewer(gain: Row) -> float:
    return gain["first"] - gain["last"]


def contents(
    collected: Collected, chosen: DomainsToRead, samples: dict[int, list[Sample]], dead: list[Row], dead_count: int
) -> Contents:
    """The whole page. `samples` by leaf; `dead`: letters to show, of `dead_count`."""
    state, figures = collected.state, collected.figures
    moments = collected.all_moments()
    closing = summary(figures, state, state_sha256(state))
    left_out: list[str] = []
    accuracy = _accuracy(closing, figures, left_out)
    return Contents(
        run=_run(collected),
        closing=closing,
        accuracy=accuracy,
        rounds=_rounds(collected, left_out),
        tree=_tree(state, moments, left_out),
        wins=_wins(collected, left_out),
        judges=closing["judges"],
        trainings=_chosen(figures.trainings, "trainings", left_out),
        spending=_spending(collected, closing),
        failures=_failures(collected, closing, dead, dead_count),
        weakest=[_to_read(collected, leaf, samples) for leaf in chosen.weakest],
        improved=[_to_read(collected, leaf, samples) for leaf in chosen.improved],
        left_out=left_out,
    )


def _run(collected: Collected) -> Row:
    state = collected.state
    rules = state.rules
    return {
        "run_id": state.run_id or collected.run_id,
        "target": collected.figures.target,
        "sources": collected.figures.sources,
        "target_version": state.target_version,
        "began": _utc(collected.began_us),
        "last": _utc(state.last_us),
        "rounds_done": state.round,
        "rounds": rules.rounds if rules else 0,
        "bohdi_version": collected.bohdi_version,
    }


def _utc(time_us: int) -> str:
    """To the second, as RFC 3339 has it; empty for no time, or none of this calendar."""
    try:
        return datetime.fromtimestamp(time_us / 1e6, UTC).strftime("%Y-%m-%dT%H:%M:%SZ") if time_us else ""
    except (OverflowError, ValueError, OSError):
        return ""


def _accuracy(closing: Row, figures: Figures, left_out: list[str]) -> Row | None:
    """Held-out accuracy by version and domain; None where nothing was evaluated."""
    scored = [r for r in closing["rounds"] if "overall" in r]
    if closing["start"] is None:
        return None
    scored = _chosen([{"version": BASE_VERSION} | closing["start"], *scored], "evaluated versions", left_out)
    sources = {name: scores for name, scores in closing["sources"].items() if scores}
    domains = list(scored[-1]["domains"])
    domains.sort(key=lambda domain: (scored[-1]["domains"][domain], domain))
    if len(domains) > DOMAINS_MAX:
        left_out.append(
            f"accuracy by domain: {len(domains) - DOMAINS_MAX} of {len(domains)} domains, those with the highest"
        )
    return {
        "target": figures.target,
        "versions": [scores["version"] for scores in scored],
        "means": {name: [scores[name] for scores in scored] for name in ("overall", "new", "old")},
        "sources": {
            name: {part: scores[part] for part in ("overall", "new", "old")} for name, scores in sources.items()
        },
        "domains": [
            {
                "domain": domain,
                "versions": [scores["domains"].get(domain) for scores in scored],
                "sources": [scores["domains"].get(domain) for scores in sources.values()],
            }
            for domain in domains[:DOMAINS_MAX]
        ],
    }


def _rounds(collected: Collected, left_out: list[str]) -> list[Row]:
    """What was harvested in each round, and the tokens of each model."""
    rounds = [collected.rounds[number] for number in sorted(collected.rounds)]
    return [_of_round(round) for round in _chosen(rounds, "rounds", left_out)]


def _chosen(items: Sequence[T], what: str, left_out: list[str]) -> list[T]:
    """At most ROUNDS_MAX of what there is one a round of."""
    if len(items) > ROUNDS_MAX:
        left_out.append(f"{what}: {len(items) - ROUNDS_MAX} of {len(items)}, evenly")
    return evenly(items, ROUNDS_MAX)


def _of_round(round: Round) -> Row:
    share = round.lost / round.harvests if round.harvests else None
    return {
        "round": round.number,
        "harvests": round.harvests,
        "lost": round.lost,
        "lost_share": share,
        "no_verdict": round.no_verdict,
        "tokens": dict(sorted(round.tokens.items())),
    }


# ---- the tree ----------------------------------------------------------------------------------------------------


def _tree(state: RunState, moments: Sequence[Moment], left_out: list[str]) -> Row:
    """The nodes in the order of their birth, so that those born by a moment come first, and of each moment as many
    numbers a column as nodes were born. `low` and `high` in thousandths, of the posterior's INTERVAL."""
    nodes = _most_harvested(state.tree, moments[-1])
    total = sum(state.tree.nodes_by_level[1:])
    if total > len(nodes):
        left_out.append(f"the tree: {total - len(nodes)} of {total} domains, those with the fewest harvests")
    row_of = {node: row for row, node in enumerate(nodes)}
    return {
        "interval": INTERVAL,
        "nodes": [
            {
                "node": node,
                "parent": row_of.get(state.tree.parent[node], -1),
                "name": state.tree.name[node],
                "path": " > ".join(state.tree.path_names(node)),
                "level": state.tree.level[node],
            }
            for node in nodes
        ],
        "moments": [_of_moment(found, nodes, _label(found, state, found is moments[-1])) for found in moments],
        "slider": _slider(moments),
    }


def _most_harvested(tree: Tree, last: Moment) -> list[int]:
    """The domains with the most harvests: with each also all above it, which have no fewer and were born before."""
    named = np.flatnonzero(tree.column(tree.is_unk) == 0)[1:]
    most = named[np.argsort(-last.harvests[named], kind="stable")][:NODES_MAX]
    return [int(node) for node in np.sort(most)]


def _of_moment(found: Moment, nodes: Sequence[int], label: str) -> Row:
    born = np.array([node for node in nodes if node < len(found.alpha)], np.intp)
    alpha, beta = found.alpha[born], found.beta[born]
    tail = (1 - INTERVAL) / 2
    low, high = (np.rint(1000 * scipy.special.betaincinv(alpha, beta, q)).astype(int) for q in (tail, 1 - tail))
    columns = {"alpha": alpha, "beta": beta, "low": low, "high": high}
    columns |= {"harvests": found.harvests[born], "rebirths": found.rebirths[born]}
    return {
        "label": label,
        "sequence": found.sequence,
        "time": _utc(found.time_us),
        "version": found.version,
        **{name: column.tolist() for name, column in columns.items()},
    }


def _label(found: Moment, state: RunState, last: bool) -> str:
    if found.ends_round:
        return f"end of round {found.round}" if found.round else "start"
    if last:
        return "the end" if state.finished else "as it stands now"
    return f"round {found.round + 1}, after {found.step} steps"


def _slider(moments: Sequence[Moment]) -> list[int]:
    """Places of the moments that the slider goes through: the ends of rounds, and the last where it is another tree."""
    ends = [place for place, found in enumerate(moments) if found.ends_round]
    last = moments[-1]
    if not ends or not np.array_equal(last.alpha, moments[ends[-1]].alpha):
        return [*ends, len(moments) - 1] if not last.ends_round else ends
    return ends


# ---- models, judges, money ----------------------------------------------------------------------------------------


def _wins(collected: Collected, left_out: list[str]) -> Row | None:
    """Win rates of every model by domain; None where nothing was judged."""
    figures, tally = collected.figures, collected.tally
    if not tally.domains() or not figures.sources:
        return None
    models = [figures.target, *figures.sources]
    most = sorted(tally.domains(), key=lambda path: (-tally.harvests(path, figures.target), path))
    if len(most) > DOMAINS_MAX:
        left_out.append(
            f"who wins where: {len(most) - DOMAINS_MAX} of {len(most)} domains, those with the fewest harvests"
        )
    found = rates(tally.only(most[:DOMAINS_MAX]), models)
    return {
        "models": models,
        "interval": INTERVAL,
        "rows": [
            {
                "path": " > ".join(path) if path else "all domains",
                "level": len(path),
                "best": best_at(of),
                "cells": [
                    {"rate": r.rate, "low": r.low, "high": r.high, "wins": r.wins, "harvests": r.harvests}
                    for r in of.values()
                ],
            }
            for path, of in found.items()
        ],
    }


def _spending(collected: Collected, closing: Row) -> Row:
    models = [
        {
            "model": model,
            "prompt_tokens": used.prompt_tokens,
            "completion_tokens": used.completion_tokens,
            "calls": used.calls,
            "cost": used.cost_micros / _MILLION,
        }
        for model, used in sorted(collected.usage.items())
    ]
    rules = collected.state.rules
    return {
        "models": models,
        "tokens": collected.state.spent_tokens,
        "cost": collected.state.spent_micros / _MILLION,
        "priced": bool(rules and rules.prices),
        "budget": closing["budget"],
    }


def _failures(collected: Collected, closing: Row, dead: list[Row], dead_count: int) -> Row:
    most = collected.failures.most_common(FAILURES_MAX)
    return {
        "total": collected.failures.total(),
        "kinds": [
            {"what": kind.what, "stage": kind.stage, "failure": kind.failure, "reason": kind.reason, "count": count}
            for kind, count in most
        ],
        "other_kinds": len(collected.failures) - len(most),
        "refusals": closing["refusals"],
        "pauses": [{"time": _utc(time_us), "reason": reason} for time_us, reason in collected.pauses],
        "counts": dict(sorted(collected.state.counts.items())),
        "dead": dead,
        "dead_count": dead_count,
    }


def _to_read(collected: Collected, leaf: int, samples: dict[int, list[Sample]]) -> Row:
    tree = collected.state.tree
    return {
        "node": leaf,
        "path": " > ".join(tree.path_names(leaf)),
        "lambda": tree.mean(leaf),
        "harvests": len(collected.state.pairs.get(leaf, ())),
        "gain": _gain(collected, leaf) if leaf in collected.early else None,
        "samples": samples.get(leaf, []),
    }
