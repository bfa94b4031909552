"""decide: what the bandit does in a state. Pure: the same state and time give the same decisions.

A decision is recorded in the feedback log and takes effect when it is folded; until then `decide` gives it again, under
the same id. What goes out to the other services is not decided: it follows from the state (`requests`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bohdi_common.core import budget, draws, swblrt
from bohdi_common.core.ids import derived_id
from bohdi_common.core.state import (
    ALL_ROUNDS_DONE,
    BASE_VERSION,
    NO_OPEN_ARM,
    STATE_VERSION,
    Introspection,
    Next,
    Rules,
    RunState,
    Slot,
    Sprout,
    Training,
    Waits,
    state_sha256,
)
from bohdi_common.core.tree import LEAF_LEVEL, ROOT, Tree

FORMS = {Introspection.PAPER: "paper", Introspection.TWO_SAMPLE: "two_sample"}


@dataclass(frozen=True)
class Fact:
    """An event to be written: the kind of its body and the fields, by their names in the proto. `time_us`: when what a
    request asks was asked first; 0 for what happens now."""

    event_id: str
    kind: str
    round: int
    step: int
    slot: int
    body: dict[str, Any]
    time_us: int = 0


def decide(state: RunState, now_us: int | None = None, since: int = 0) -> list[Fact]:
    """The decisions that are due. Empty while the run waits for results, is paused or over.

    Of the slots that can go on, those only that run sequence `since` and what came after made so: who asks after every
    event pays for what it changed. With `now_us` also what is due because time went by.
    """
    if state.rules is None or state.paused or state.finished:
        return []
    if state.stalled:
        return [_pause(state, state.stalled)]
    late = [] if now_us is None or not state.open_slots else list(_expirations(state, state.rules, now_us))
    if (spent := budget.exhausted(state)) and state.next() != Next.FINISH:
        # Nothing more is asked; what was asked has been paid for, and is waited for.
        return late if state.awaits_results else [_pause(state, spent)]
    if state.open_slots:
        return [*late, *_continuations(state, state.rules, since)]
    try:
        match state.next():
            case Next.STEP:
                return [_draw_step(state, state.rules)]
            case Next.REHEARSAL:
                return [_draw_rehearsal(state, state.rules)]
            case Next.INTROSPECTION:
                return [_introspect(state, state.rules)]
            case Next.TRAINING:
                return [_draw_training(state, state.rules)]
            case Next.FINISH:
                body = {"target_version": state.target_version, "reason": ALL_ROUNDS_DONE}
                return [_decision(state, "run_finished", body | _hashed(state))]
    except draws.NoOpenArm:
        return [_pause(state, NO_OPEN_ARM)]
    return []


def requests(state: RunState, since: int = 0) -> Iterator[Fact]:
    """What the state has asked for and not yet got: all of it, or what the decision at run sequence `since` asked.

    Settings are not in the bodies: the bandit service adds them. Ids follow from what is asked, so that asking again
    appends nothing where the request is already in its topic.
    """
    for number, slot in enumerate(state.slots):
        if slot.waits == Waits.RESULT and slot.asked >= since:
            yield _request(state, "harvest_requested", slot, number, _harvest(state, slot))
    for sprout in state.sprouts.values():
        if sprout.asked >= since and not sprout.answered:
            known = [state.tree.name[child] for child in state.tree.children(sprout.parent)]
            path = state.tree.path_names(sprout.parent)
            body = {"parent": sprout.parent, "path": path, "known": known, "want": sprout.want}
            yield _request(state, "sprout_requested", sprout, sprout.waiting[0], body)
    training = state.training
    if training is not None and training.asked >= since:
        body = {
            "samples": list(training.samples),
            "base_version": training.base_version,
            "version": training.version,
            "average_with": list(training.average_with),
        }
        yield _request(state, "training_requested", training, 0, body)


def slot_hash(state: RunState, number: int, path: Sequence[int], leader: str, rehearsal: bool, attempt: int) -> str:
    """Names what a slot asks: by whom, of whom, about which leaf. Empty for a slot that still waits for a sprout."""
    if len(path) < LEAF_LEVEL:
        return ""
    kind = "rehearsal" if rehearsal else "harvest"
    place = (state.round, state.step, number, attempt)
    return derived_id(state.run_id, kind, *place, *path, leader, state.target_version)


# ---- the decisions, one by one ---------------------------------------------------------------------------------


def _decision(state: RunState, kind: str, body: dict[str, Any], slot: int = 0, attempt: int = 0) -> Fact:
    """A fact of the bandit's own, with the state it was made in."""
    event_id = derived_id(state.run_id, kind, state.round, state.step, slot, attempt, state.resumes)
    return Fact(event_id, kind, state.round, state.step, slot, {"based_on": state.sequence, **body})


def _pause(state: RunState, reason: str) -> Fact:
    return Fact(state.pause_id, "run_paused", state.round, state.step, 0, {"reason": reason})


def _draw_step(state: RunState, rules: Rules) -> Fact:
    rng = draws.generator(rules.seed, state.round, state.step)
    ends = draws.draw_from_root(state.tree, rules.slots, rng, rules.sharpness, explore=True)
    leaders = rng.integers(len(rules.sources), size=rules.slots)
    slots = [
        _drawn(state, rules, n, int(end), int(who)) for n, (end, who) in enumerate(zip(ends, leaders, strict=True))
    ]
    return _decision(state, "paths_drawn", {"slots": slots} | ({} if state.step else _hashed(state)))


def _hashed(state: RunState) -> dict[str, Any]:
    """What a replay of the log up to this decision is held to. It costs the state: for the end of a round alone."""
    return {"state_sha256": state_sha256(state), "state_version": STATE_VERSION}


def _drawn(
    state: RunState, rules: Rules, number: int, end: int, leader: int, rehearsal: bool = False, attempt: int = 0
) -> dict[str, Any]:
    """A DrawnSlot whose draw came down to the arm `end`."""
    path = state.tree.path(state.tree.parent[end] if state.tree.is_unk[end] else end)
    name = rules.sources[leader]
    request_hash = slot_hash(state, number, path, name, rehearsal, attempt)
    return {"slot": number, "path": path, "leader": name, "request_hash": request_hash}


def _expirations(state: RunState, rules: Rules, now_us: int) -> Iterator[Fact]:
    oldest_us = now_us - round(rules.slot_timeout_s * 1e6)
    for number, slot in enumerate(state.slots):
        if slot.waits in (Waits.RESULT, Waits.SPROUT) and slot.asked_us < oldest_us:
            yield _decision(state, "slot_expired", {"request_hash": state.asked_for(slot)}, number, slot.attempt)


def _continuations(state: RunState, rules: Rules, since: int) -> Iterator[Fact]:
    if rules.lockstep:  # all at once, when no other slot is open
        since = 0 if len(state.ready) == state.open_slots else state.sequence
    for number in sorted(number for number, ready in state.ready.items() if ready >= since):
        slot = state.slots[number]
        body = {"drawn": {"slot": number}, "attempt": slot.attempt, "given_up": True}
        start = continues_from(state.tree, slot)
        if slot.failures < rules.slot_failures and start is not None:
            rng = draws.generator(rules.seed, state.round, state.step, number, slot.attempt)
            end = int(draws.draw_arms(state.tree, np.array([start]), rng, rules.sharpness, explore=True)[0])
            leader = rules.sources.index(slot.leader)
            drawn = _drawn(state, rules, number, end, leader, attempt=slot.attempt + 1)
            body = {"drawn": drawn, "attempt": slot.attempt}
        yield _decision(state, "slot_continued", body, number, slot.attempt)


def continues_from(tree: Tree, slot: Slot) -> int | None:
    """Where a slot goes on after its sprout: the deepest node of its path, the new one last, or Root, under which an
    arm is open. None: there is none."""
    path = (*slot.path, slot.child) if slot.child >= 0 else slot.path
    return next((node for node in (*reversed(path), ROOT) if tree.open[node]), None)


def _draw_rehearsal(state: RunState, rules: Rules) -> Fact:
    """Leaves where the target does not lose, equally often: it will rehearse there what it knows already."""
    tree = state.tree
    known = [leaf for leaf in tree.leaves() if tree.open[leaf] and target_holds(tree, leaf, rules.rehearsal_below)]
    slots: list[dict[str, Any]] = []
    if known:
        rng = draws.generator(rules.seed, state.round, state.step)
        leaders = rng.integers(len(rules.sources), size=rules.rehearsal_questions)
        slots = [
            _drawn(state, rules, n, known[n % len(known)], int(who), rehearsal=True) for n, who in enumerate(leaders)
        ]
    return _decision(state, "paths_drawn", {"rehearsal": True, "slots": slots})


def target_holds(tree: Tree, leaf: int, below: float) -> bool:
    """The deepest node of the path with two rewards or more says that the target seldom loses, and its secondary domain
    has seen a verdict at all (where nobody ever judged, nothing is known)."""
    secondary = tree.parent[leaf]
    if not tree.pulls(secondary):
        return False
    seen = next((node for node in (leaf, secondary, tree.parent[secondary]) if tree.pulls(node) >= 2), None)
    return seen is not None and tree.mean(seen) < below


def _introspect(state: RunState, rules: Rules) -> Fact:
    found = swblrt.sweep(state.tree, FORMS[Introspection(rules.introspection)], rules.threshold)
    columns = zip(found.nodes, found.window_sum, found.statistic, found.p_value, strict=True)
    rebirths = [
        {
            "node": int(node),
            "window_sum": int(wins),
            "window_length": found.window_length,
            "statistic": float(statistic),
            "p_value": float(p_value),
        }
        for node, wins, statistic, p_value in columns
    ]
    return _decision(state, "nodes_reborn", {"rebirths": rebirths, "tested": found.tested})


# ---- Enlightenment ---------------------------------------------------------------------------------------------


def _draw_training(state: RunState, rules: Rules) -> Fact:
    """Draws the samples of one fine-tuning, every one afresh: a share of rehearsal records, a share uniform over the
    leaves with pairs (replay), the rest by the bandit with every `unk` left out."""
    rng = draws.generator(rules.seed, state.round, "training")
    drawn = draw_examples(
        rules,
        _examples(state, rules),
        list(state.pairs),
        list(state.rehearsals),
        lambda count: draws.draw_from_root(state.tree, count, rng, rules.sharpness, explore=False),
        rng,
    )
    stores = [
        (state.rehearsals if rehearsed else state.pairs)[leaf]
        for leaf, rehearsed in zip(drawn.leaves.tolist(), drawn.rehearsal.tolist(), strict=True)
    ]
    samples = [store[int(turn * len(store))] for store, turn in zip(stores, drawn.turns.tolist(), strict=True)]
    again = state.counts.get("trainings_again", 0)  # a version that was published and not served keeps its name
    version = f"r{state.round + 1}.{again}" if again else f"r{state.round + 1}"
    average_with = _averaged_with(state, rules)
    base = BASE_VERSION if rules.restart else state.target_version
    body = {
        "samples": samples,
        "base_version": base,
        "version": version,
        "average_with": average_with,
        "from_rehearsal": int(drawn.rehearsal.sum()),
        "from_replay": int(drawn.replay.sum()),
        "request_hash": derived_id(state.run_id, "training", version, base, *average_with, *samples),
    }
    return _decision(state, "training_drawn", body)


def _averaged_with(state: RunState, rules: Rules) -> list[str]:
    """The promoted versions with which the last round's is averaged."""
    if state.round + 1 < rules.rounds or rules.average_last < 2:
        return []
    return state.versions[1:][-(rules.average_last - 1) :]


def _examples(state: RunState, rules: Rules) -> int:
    """How many samples a training sees: a given number (the paper's e x M; growing by round with `ramp`), or `passes`
    over the pairs in store on top of the rehearsal, in whole batches; bounded. 0 when there is no pair."""
    return examples_of(rules, state.round, state.pair_count, rehearsed=bool(state.rehearsals))


def examples_of(rules: Rules, round_: int, pairs: int, *, rehearsed: bool) -> int:
    """The same from what it follows from: the round, the pairs in store, whether anything was rehearsed."""
    if not pairs:
        return 0
    if not rules.passes:
        ramp = 2 * (round_ + 1) / (rules.rounds + 1) if rules.ramp else 1
        return min(round(rules.examples * ramp), rules.max_examples)
    share = rules.rehearsal_share if rehearsed else 0.0
    batches = math.ceil(rules.passes * pairs / (1 - share) / rules.batch)
    return min(batches * rules.batch, rules.max_examples)


@dataclass(frozen=True)
class Examples:
    """What a training's samples are drawn from, each of shape (examples,): the leaf; which of its records, as a share
    in [0, 1) of those in store; whether it is a rehearsal's; whether it was drawn to be replayed."""

    leaves: NDArray[np.int64]
    turns: NDArray[np.float64]
    rehearsal: NDArray[np.bool_]
    replay: NDArray[np.bool_]


def draw_examples(
    rules: Rules,
    count: int,
    paired: Sequence[int] | NDArray[np.int64],
    rehearsed: Sequence[int],
    by_bandit: Callable[[int], NDArray[np.int64]],
    rng: np.random.Generator,
) -> Examples:
    """`count` examples. `paired` and `rehearsed`: the leaves that have records in store, in the order in which they got
    their first; `by_bandit` draws that many leaves by their posteriors."""
    rehearsal_share = rules.rehearsal_share if rehearsed else 0.0
    kind = rng.random(count)
    rehearsal = kind < rehearsal_share
    replay = ~rehearsal & (kind < rehearsal_share + rules.replay_share)
    leaves, turns = np.zeros(count, dtype=np.int64), np.zeros(count)
    for chosen, store in ((rehearsal, rehearsed), (replay, paired)):
        if wanted := int(chosen.sum()):
            leaves[chosen] = np.asarray(store)[rng.integers(len(store), size=wanted)]
            turns[chosen] = rng.random(wanted)
    drawn = ~rehearsal & ~replay
    if wanted := int(drawn.sum()):
        leaves[drawn] = by_bandit(wanted)
        turns[drawn] = rng.random(wanted)
    return Examples(leaves, turns, rehearsal, replay)


# ---- requests --------------------------------------------------------------------------------------------------


def _request(state: RunState, kind: str, asked: Slot | Sprout | Training, slot: int, body: dict[str, Any]) -> Fact:
    event_id = derived_id(state.run_id, kind, asked.request_hash)
    body = {"request_hash": asked.request_hash, **body}
    return Fact(event_id, kind, state.round, state.step, slot, body, asked.asked_us)


def _harvest(state: RunState, slot: Slot) -> dict[str, Any]:
    return {
        "path": state.tree.path_names(slot.path[-1]),
        "leader": slot.leader,
        "target_version": state.target_version,
        "rehearsal": state.rehearsing,
    }
