"""What people want to know of a run beyond the bandit's state, from the same events: time, trainings, accuracy."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from bohdi.judges import Judges
from bohdi_common.core import budget
from bohdi_common.core.state import BASE_VERSION, NO_OPEN_ARM, NOBODY_ANSWERED, RunState
from bohdi_common.core.tree import ROOT
from bohdi_common.events.events_pb2 import Event, Refusal, TargetEvaluated, TargetPromoted

_WEAKEST = 5
_SHARE_TO_FORECAST = 0.02
PULLS_TO_BE_NAMED = 5  # a domain with fewer rewards is not called weak


@dataclass
class Figures:
    """Sums over a run's events, in their order. `seconds` leaves out the time between a stop and its resume."""

    training_tokens: int = 0
    seconds: float = 0.0
    events: int = 0
    target: str = ""
    sources: list[str] = field(default_factory=list)
    # (model, version) -> accuracy by domain
    accuracy: dict[tuple[str, str], dict[str, float]] = field(default_factory=dict)
    # (model, version, tasks asked for) -> what lm-evaluation-harness made of each, the last one that was recorded
    tasks: dict[tuple[str, str, str], list[dict[str, Any]]] = field(default_factory=dict)
    # of each promoted version, in order
    trainings: list[dict[str, Any]] = field(default_factory=list)
    judges: Judges = field(default_factory=Judges)
    none_right: int = 0  # harvests of which the judges say that no answer is right
    refusals: Counter[tuple[str, str, str]] = field(default_factory=Counter)  # by what, gate and reason
    last_failure: str = ""  # what a request came to that failed, since the last resume
    _last_us: int = 0

    def add(self, event: Event) -> None:
        """Takes in the next event of the run."""
        self.events += 1
        kind = event.WhichOneof("body")
        if self._last_us and kind != "run_resumed":
            self.seconds += max(0, event.time_us - self._last_us) / 1e6
        self._last_us = event.time_us
        match kind:
            case "run_started":
                self.target = event.run_started.settings.target.name
                self.sources = [source.name for source in event.run_started.settings.sources]
                self.judges.both_orders = event.run_started.settings.judging.both_orders
            case "harvest_judged":
                self.judges.add(event.harvest_judged)
                self.none_right += event.harvest_judged.none_right
                self._refused(event.harvest_judged.refused)
            case "harvest_failed":
                self._refused(event.harvest_failed.refused)
                self.last_failure = event.harvest_failed.reason
            case "sprout_failed":
                self.last_failure = event.sprout_failed.reason
            case "run_resumed":
                self.last_failure = ""
            case "target_promoted":
                promoted = event.target_promoted
                self.training_tokens += promoted.tokens
                self.trainings.append(
                    {
                        "version": promoted.version,
                        "examples": promoted.examples,
                        "steps": promoted.steps,
                        "loss_first": promoted.loss_first,
                        "loss_last": promoted.loss_last,
                        "seconds": promoted.seconds,
                    }
                    | _of_what_was_learnt(promoted)
                )
            case "target_evaluated":
                scored = event.target_evaluated
                if scored.harness:
                    self.tasks[scored.model, scored.version, scored.benchmark] = _task_scores(scored)
                else:
                    self.accuracy[scored.model, scored.version] = {s.domain: s.accuracy for s in scored.scores}

    def _refused(self, refused: Iterable[Refusal]) -> None:
        for refusal in refused:
            self.refusals[refusal.what, refusal.gate, refusal.reason] += 1


def _of_what_was_learnt(promoted: TargetPromoted) -> dict[str, Any]:
    """Figures of masking, preferences and held-back samples, each where the training had it."""
    found: dict[str, Any] = {}
    if promoted.masked:
        found["masked_share"] = promoted.masked_share
        found["masked_share_by_model"] = {m.model: m.masked / max(1, m.tokens) for m in promoted.masked}
        found["fully_masked"] = promoted.fully_masked
    if promoted.preferences:
        found["preferences"] = promoted.preferences
        found["preference_loss_first"] = promoted.preference_loss_first
        found["preference_loss_last"] = promoted.preference_loss_last
    if promoted.held_back:
        found["held_back"] = promoted.held_back
        found["held_back_loss_base"] = promoted.held_back_loss_base
        found["held_back_loss"] = promoted.held_back_loss
    return found


def _task_scores(scored: TargetEvaluated) -> list[dict[str, Any]]:
    return [
        {"task": s.domain, "metric": s.metric, "value": s.value, "stderr": s.stderr, "questions": s.questions}
        for s in scored.scores
    ]


def refusals(figures: Figures) -> dict[str, dict[str, dict[str, int]]]:
    """What the gates kept out: counts by `question` or `answer`, by gate, by reason."""
    told: dict[str, dict[str, dict[str, int]]] = {}
    for (what, gate, reason), count in sorted(figures.refusals.items()):
        told.setdefault(what, {}).setdefault(gate, {})[reason] = count
    return told


def refusal_lines(told: dict[str, dict[str, dict[str, int]]]) -> list[str]:
    """A line for each count of `refusals`."""
    return [
        f"{count} {what}{'s' if count > 1 else ''} refused by {gate}: {reason}"
        for what, gates in told.items()
        for gate, reasons in gates.items()
        for reason, count in reasons.items()
    ]


def judge_lines(told: dict[str, dict[str, Any]]) -> list[str]:
    """A line for each judge: its votes, how far it agrees, and its biases where they are beyond chance."""
    return [f"{name}: {', '.join(_of_judge(judge))}" for name, judge in told.items()]


def _of_judge(judge: dict[str, Any]) -> Iterator[str]:
    yield f"{judge['votes']} votes on {judge['harvests']} harvests"
    agreements = {"others": judge["agrees_with_others"], "itself in both orders": judge["agrees_between_orders"]}
    for whom, share in agreements.items():
        if share:
            yield f"agrees with {whom} {share['share']:.2f}"
    places = {f"position {n}": share for n, share in enumerate(judge["positions"], 1)}
    for what, share in {**places, "the longest": judge["longest"], "its own": judge["own"]}.items():
        if share and not share["low"] <= share["expected"] <= share["high"]:
            yield f"chooses {what} {share['share']:.2f} for {share['expected']:.2f}"


def summary(figures: Figures, state: RunState, state_sha256: str) -> dict[str, Any]:
    """The closing figures of a run, as they stand in summary.json."""
    at_start, rounds = None, []
    if figures.accuracy:
        at_start = _scores(figures, figures.target, BASE_VERSION)
        rounds = [{"version": v} | (_scores(figures, figures.target, v) or {}) for v in state.versions[1:]]
    return {
        "run_id": state.run_id,
        "finished": state.finished,
        "start": at_start,
        "rounds": rounds,
        "sources": {name: _scores(figures, name, "") for name in figures.sources},
        "tasks": [{"model": m, "version": v, "scores": scores} for (m, v, _), scores in figures.tasks.items()],
        "tree": {"main": state.tree.nodes_by_level[1], "secondary": state.tree.nodes_by_level[2],
                 "leaves": state.tree.nodes_by_level[3]},
        "trainings": figures.trainings,
        "state_sha256": state_sha256,
        "events": figures.events,
        "harvests": state.counts.get("harvests", 0),
        "no_verdict": state.counts.get("no_verdict", 0),
        "none_right": figures.none_right,
        "refusals": refusals(figures),
        "judges": figures.judges.told(),
        "tokens": state.spent_tokens,
        "training_tokens": figures.training_tokens,
        "budget": spending(state),
        "seconds": round(figures.seconds, 1),
    }  # fmt: skip


def _scores(figures: Figures, model: str, version: str) -> dict[str, Any] | None:
    """Overall, and over the domains that the target did not know at the start (`new`: accuracy below a half) and those
    that it did (`old`)."""
    domains = figures.accuracy.get((model, version))
    base = figures.accuracy.get((figures.target, BASE_VERSION))
    if domains is None or base is None:
        return None
    new = [share for name, share in domains.items() if base.get(name, 0.0) < 0.5]
    old = [share for name, share in domains.items() if base.get(name, 0.0) >= 0.5]
    return {"overall": _mean([*new, *old]), "new": _mean(new), "old": _mean(old), "domains": domains}


def _mean(shares: list[float]) -> float | None:
    return sum(shares) / len(shares) if shares else None


def weakest(state: RunState) -> list[tuple[str, float]]:
    """The leaves where the target loses most, with the posterior mean of lambda, the weakest first."""
    tree = state.tree
    return [(" > ".join(tree.path_names(leaf)), tree.mean(leaf)) for leaf in weakest_leaves(state)]


def weakest_leaves(state: RunState, count: int = _WEAKEST) -> list[int]:
    """The arms of the leaves where the target loses most, by posterior mean of lambda, the weakest first."""
    tree = state.tree
    leaves = [leaf for leaf in tree.leaves() if tree.pulls(leaf) >= PULLS_TO_BE_NAMED]
    leaves.sort(key=lambda leaf: (-tree.mean(leaf), leaf))
    return leaves[:count]


def status(figures: Figures, state: RunState) -> dict[str, Any]:
    """Where a run stands."""
    rules = state.rules
    return {
        "run_id": state.run_id,
        "phase": state.finished or (f"paused: {why_paused(figures, state)}" if state.paused else phase(state)),
        "round": state.round,
        "rounds": rules.rounds if rules else 0,
        "step": state.step,
        "steps": rules.steps if rules else 0,
        "open_slots": state.open_slots,
        "tree": state.tree.nodes_by_level[1:],
        "target_version": state.target_version,
        "pairs": state.pair_count,
        "counts": state.counts,
        "none_right": figures.none_right,
        "refusals": refusals(figures),
        "judges": figures.judges.told(),
        "tokens": state.spent_tokens,
        "seconds": round(figures.seconds, 1),
        "budget": spending(state),
        "weakest": weakest(state),
    }


def why_paused(figures: Figures, state: RunState) -> str:
    """The reason of a pause; where nothing came of what was asked, with what the last failure was."""
    if state.paused in (NOBODY_ANSWERED, NO_OPEN_ARM) and figures.last_failure:
        return f"{state.paused}: the last one: {figures.last_failure}"
    return state.paused


def spending(state: RunState) -> dict[str, dict[str, float]]:
    """By the caps' names: what was spent, the cap (0: none) and what the whole run will have spent at this pace (0: not
    known yet)."""
    share = done_share(state)
    return {
        name: {
            "spent": round(used, 3),
            "cap": state.caps.get(name, 0),
            "forecast": round(used / share, 3) if share >= _SHARE_TO_FORECAST else 0,
        }
        for name, used in budget.spent(state).items()
    }


def done_share(state: RunState) -> float:
    """How much of the run is done, 0 to 1: rounds, and within one its steps as one half and the training the other."""
    if state.rules is None:
        return 0.0
    steps = min(state.steps_counted / state.rules.steps, 1.0)
    return min(1.0, (state.round + steps / 2) / state.rules.rounds)


def phase(state: RunState) -> str:
    """The part of the method that a run is in."""
    if state.training is not None:
        return f"Enlightenment: training {state.training.version}"
    if state.rehearsing:
        return "rehearsal"
    return "Meditation" if state.open_slots else "deciding"


def tree_rows(state: RunState) -> list[dict[str, Any]]:
    """One row a node, parents before children in depth-first order."""
    tree, rows = state.tree, []

    def walk(node: int) -> None:
        if node != ROOT:
            rows.append(
                {
                    "node": node,
                    "path": tree.path_names(node),
                    "level": tree.level[node],
                    "alpha": tree.alpha[node],
                    "beta": tree.beta[node],
                    "lambda": round(tree.mean(node), 4),
                    "rebirths": tree.rebirths[node],
                    "open": bool(tree.open[node]),
                    "pairs": len(state.pairs.get(node, ())),
                }
            )
        for child in tree.children(node):
            walk(child)

    if len(tree):
        walk(ROOT)
    return rows
