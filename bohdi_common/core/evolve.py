"""evolve: the fold. One event of the feedback log moves the state, or is counted and moves nothing.

Total: any event in any state gives a state. The state is owned by the fold and changed in place (a copy per event would
cost the tree), so `evolve` returns the object it was given. A slot is settled by the first result that names what the
log asked; a decision takes effect when it is the one that the state calls for. All else is counted: `late` (what it
answers or decides is past), `invalid` (it could never have been), `unknown` (no fact of the feedback log).
"""

from __future__ import annotations

from array import array
from collections.abc import Callable
from typing import Any

from bohdi_common.core import budget, names
from bohdi_common.core.ids import derived_id
from bohdi_common.core.state import (
    NOBODY_ANSWERED,
    Failure,
    Next,
    Outcome,
    Rules,
    RunState,
    Slot,
    Sprout,
    Training,
    Waits,
)
from bohdi_common.core.tree import LEAF_LEVEL, ROOT, Tree


def evolve(state: RunState, event: Any) -> RunState:
    """The state after `event`, a `bohdi.v1.Event` of the run. Costs the path, not the tree or the stored questions."""
    fold = _FOLDS.get(kind := event.WhichOneof("body"))
    if fold is None:
        _count(state, "unknown")
    elif state.rules is None and kind != "run_started":
        _count(state, "invalid")
    else:
        fold(state, event, getattr(event, kind))
        budget.spend(state, event, kind == "run_resumed")
    state.sequence += 1
    return state


def _count(state: RunState, what: str) -> None:
    state.counts[what] = state.counts.get(what, 0) + 1


# ---- the run ---------------------------------------------------------------------------------------------------


def _run_started(state: RunState, event: Any, body: Any) -> None:
    if state.rules is not None:
        return _count(state, "late")
    rules = Rules.of(body.settings)
    if rules.problem():
        return _count(state, "invalid")
    state.run_id = event.run_id
    state.rules = rules
    state.tree = Tree(rules.window)
    state.tree.plant(rules.grow)
    budget.allow(state, body.settings.budget)
    for domain in body.domains:
        _plant_path(state.tree, list(domain.path), rules.grow)
    return None


def _plant_path(tree: Tree, path: list[str], grow: bool) -> None:
    parent = ROOT
    for given in path[:LEAF_LEVEL]:
        name = names.tidy(given)
        if names.why_refused(name):
            return
        child = tree.child_named(parent, name)
        parent = tree.add(parent, name, grow) if child is None else child


def _run_paused(state: RunState, event: Any, body: Any) -> None:
    if state.paused or state.finished or event.event_id in state.controls:
        return _count(state, "late")
    if event.producer == "bandit" and event.event_id != state.pause_id:  # a resume came before it: what it saw is past
        return _count(state, "late")
    state.controls.append(event.event_id)
    state.paused = body.reason or "paused"
    state.pauses += 1
    return None


def _run_resumed(state: RunState, event: Any, body: Any) -> None:
    """Goes on, paused or not (a host that was killed resumes too): what is outstanding gets its time anew."""
    if state.finished or event.event_id in state.controls:
        return _count(state, "late")
    state.controls.append(event.event_id)
    state.paused = state.stalled = ""
    state.failed_trainings = 0
    state.resumes += 1
    budget.allow(state, body.budget)
    for slot in state.slots:
        slot.asked_us = event.time_us
    for sprout in state.sprouts.values():
        sprout.asked_us = event.time_us
    return None


def _run_finished(state: RunState, event: Any, body: Any) -> None:
    if state.finished:
        return _count(state, "late")
    state.finished = body.reason or "finished"
    return None


def _target_evaluated(state: RunState, event: Any, body: Any) -> None:
    _count(state, "evaluations")  # for people: the bandit never looks at a benchmark


# ---- draws and slots -------------------------------------------------------------------------------------------


def _paths_drawn(state: RunState, event: Any, body: Any) -> None:
    due = Next.REHEARSAL if body.rehearsal else Next.STEP
    if state.next() != due or (event.round, event.step) != (state.round, state.step):
        return _count(state, "late")
    slots: list[Slot] = []
    for number, drawn in enumerate(body.slots):
        slot = _slot(state, event, drawn)
        if slot is None or drawn.slot != number:
            return _count(state, "invalid")
        slots.append(slot)
    state.slots = slots
    state.open_slots = len(slots)
    state.unavailable_slots = 0
    state.rehearsing = body.rehearsal
    for number, slot in enumerate(state.slots):
        if slot.waits == Waits.SPROUT:
            _wait_for_sprout(state, event, number)
    _limit_wants(state)
    if not slots:
        _step_over(state)
    return None


def _slot_continued(state: RunState, event: Any, body: Any) -> None:
    number = body.drawn.slot
    slot = _open_slot(state, event, number)
    if slot is None or slot.waits != Waits.DECISION or slot.attempt != body.attempt:
        return _count(state, "late")
    if body.given_up:
        del state.ready[number]
        _count(state, "given_up")
        return _settle(state, slot)
    fresh = _slot(state, event, body.drawn)
    if fresh is None:
        return _count(state, "invalid")
    fresh.attempt, fresh.failures = slot.attempt + 1, slot.failures
    state.slots[number] = fresh
    del state.ready[number]
    if fresh.waits == Waits.SPROUT:
        _wait_for_sprout(state, event, number)
        _limit_wants(state)
    return None


def _slot_expired(state: RunState, event: Any, body: Any) -> None:
    slot = _open_slot(state, event, event.slot)
    if slot is None or slot.waits not in (Waits.RESULT, Waits.SPROUT) or state.asked_for(slot) != body.request_hash:
        return _count(state, "late")
    if slot.waits == Waits.SPROUT:
        sprout = state.sprout_of(slot)
        sprout.waiting.remove(event.slot)
        if not sprout.waiting:
            del state.sprouts[sprout.parent]
    _count(state, "expired")
    _settle(state, slot, unavailable=True)
    return _take_turns(state)


def _slot(state: RunState, event: Any, drawn: Any) -> Slot | None:
    """The slot that a draw opens; None when its path is not one of the tree's, or its leader none of the sources."""
    assert state.rules is not None
    path = tuple(drawn.path[:])  # a slice first: protobuf's repeated fields are slow to walk
    if not state.tree.holds_path(path) or drawn.leader not in state.rules.sources:
        return None
    waits = Waits.RESULT if len(path) == LEAF_LEVEL else Waits.SPROUT
    return Slot(waits, path, drawn.leader, drawn.request_hash, state.sequence, event.time_us)


def _open_slot(state: RunState, event: Any, number: int) -> Slot | None:
    """The slot of the step at hand that an event names, if it is still open."""
    if event.step != state.step or event.round != state.round or not 0 <= number < len(state.slots):
        return None
    slot = state.slots[number]
    return slot if slot.waits != Waits.NOTHING else None


def _settle(state: RunState, slot: Slot, unavailable: bool = False) -> None:
    slot.waits = Waits.NOTHING
    state.open_slots -= 1
    state.unavailable_slots += unavailable
    if not state.open_slots:
        _step_over(state)


def _step_over(state: RunState) -> None:
    nothing_came = bool(state.slots) and state.unavailable_slots == len(state.slots)
    if nothing_came:
        state.stalled = state.stalled or NOBODY_ANSWERED
    elif state.rehearsing:
        state.rehearsed = True
    else:
        state.steps_counted += 1
    state.slots = []
    state.ready.clear()
    state.sprouts.clear()
    state.rehearsing = False
    state.step += 1


# ---- sprouts ---------------------------------------------------------------------------------------------------


def _wait_for_sprout(state: RunState, event: Any, number: int) -> None:
    """Slots that wait under one parent share one request; one that comes later joins it."""
    path = state.slots[number].path
    parent = path[-1] if path else ROOT
    sprout = state.sprouts.get(parent)
    if sprout is None:
        # By the sequence too: what was asked before under this parent, and came to nothing, is another request.
        request_hash = derived_id(state.run_id, "sprout", parent, state.sequence)
        sprout = Sprout(parent, request_hash, 0, [], state.sequence, event.time_us)
        state.sprouts[parent] = sprout
    sprout.waiting.append(number)


def _limit_wants(state: RunState) -> None:
    """A request that has just been opened asks for a name per slot that waits for it, up to the bound. Slots that are
    about to go on from the same new node count: that node has nothing but its `unk` arm yet, so they will wait too."""
    assert state.rules is not None
    for sprout in state.sprouts.values():
        if sprout.asked == state.sequence:
            coming = sum(state.slots[number].child == sprout.parent for number in state.ready)
            sprout.want = min(len(sprout.waiting) + coming, state.rules.sprout_names)


def _domains_sprouted(state: RunState, event: Any, body: Any) -> None:
    sprout = _asked_sprout(state, body)
    if sprout is None:
        return _count(state, "late")
    return _sprout_answered(state, sprout, tuple(given.name for given in body.names))


def _sprout_failed(state: RunState, event: Any, body: Any) -> None:
    sprout = _asked_sprout(state, body)
    if sprout is None:
        return _count(state, "late")
    return _sprout_answered(state, sprout, unavailable=_away(state, body))


def _asked_sprout(state: RunState, body: Any) -> Sprout | None:
    """The request that waits for just this result."""
    sprout = state.sprouts.get(body.parent)
    if sprout is None or sprout.answered or sprout.request_hash != body.request_hash:
        return None
    return sprout


def _sprout_answered(state: RunState, sprout: Sprout, names: tuple[str, ...] = (), unavailable: bool = False) -> None:
    assert state.rules is not None
    sprout.answered, sprout.names, sprout.unavailable = True, names, unavailable
    if not state.rules.lockstep:
        return _sprout_settled(state, sprout)
    for number in sprout.waiting:
        state.slots[number].waits = Waits.TURN
    return _take_turns(state)


def _sprout_settled(state: RunState, sprout: Sprout) -> None:
    del state.sprouts[sprout.parent]
    if sprout.unavailable:
        _count(state, "unavailable")
        for number in sprout.waiting:
            _settle(state, state.slots[number], unavailable=True)
    elif added := _add_names(state, sprout):
        _count(state, "sprouts")
        arm = state.tree.unk_of[sprout.parent]
        state.tree.alpha[arm] += len(added)
        state.tree.misses[arm] = 0
        for turn, number in enumerate(sprout.waiting):
            slot = state.slots[number]
            slot.waits, slot.child = Waits.DECISION, added[turn % len(added)]
            state.ready[number] = state.sequence
    else:
        _sprout_rejected(state, sprout)


def _add_names(state: RunState, sprout: Sprout) -> list[int]:
    """Ids of the nodes that the sprout's names make: those that may name a domain and are not known, within `want`."""
    assert state.rules is not None
    tree = state.tree
    added: list[int] = []
    above = {names.key(name) for name in tree.path_names(sprout.parent)}
    for name in map(names.tidy, sprout.names):
        known = names.key(name) in above or tree.child_named(sprout.parent, name) is not None
        if len(added) < sprout.want and not known and not names.why_refused(name):
            added.append(tree.add(sprout.parent, name, state.rules.grow))
    return added


def _sprout_rejected(state: RunState, sprout: Sprout) -> None:
    assert state.rules is not None
    _count(state, "sprouts_rejected")
    arm = state.tree.unk_of[sprout.parent]
    state.tree.beta[arm] += 1
    state.tree.missed(arm, state.rules.sprout_failures)
    for number in sprout.waiting:
        slot = state.slots[number]
        slot.waits, slot.child = Waits.DECISION, -1
        slot.failures += 1
        state.ready[number] = state.sequence


# ---- harvests --------------------------------------------------------------------------------------------------


def _harvest_judged(state: RunState, event: Any, body: Any) -> None:
    slot = _answered_slot(state, event, body)
    if slot is None or state.rehearsing:
        return _count(state, "late")
    return _answered(state, slot, "harvests" if body.counted else "no_verdict", 1 if body.reward else 0)


def _harvest_failed(state: RunState, event: Any, body: Any) -> None:
    slot = _answered_slot(state, event, body)
    if slot is None:
        return _count(state, "late")
    return _answered(state, slot, "unavailable" if _away(state, body) else "rejected")


def _away(state: RunState, body: Any) -> bool:
    """Whether a request failed because models were away. Where a person must mend that, the run stops at once: what
    else is asked would come to the same."""
    if body.failure == Failure.BLOCKED:
        state.stalled = body.reason or "a model cannot be asked"
    return body.failure in (Failure.UNAVAILABLE, Failure.BLOCKED)


def _rehearsal_answered(state: RunState, event: Any, body: Any) -> None:
    slot = _answered_slot(state, event, body)
    if slot is None or not state.rehearsing:
        return _count(state, "late")
    return _answered(state, slot, "rehearsals")


def _answered_slot(state: RunState, event: Any, body: Any) -> Slot | None:
    """The open slot that waits for just this result."""
    slot = _open_slot(state, event, event.slot)
    if slot is None or slot.waits != Waits.RESULT or slot.request_hash != body.request_hash:
        return None
    return slot


def _answered(state: RunState, slot: Slot, what: str, reward: int = 0) -> None:
    assert state.rules is not None
    outcome = Outcome(what, state.sequence, reward)
    if not state.rules.lockstep:
        return _slot_settled(state, slot, outcome)
    slot.waits, slot.outcome = Waits.TURN, outcome
    return _take_turns(state)


def _take_turns(state: RunState) -> None:
    """In lockstep: once the results of all slots are in they take effect in the order of the slots, so that the order
    in which they arrived leaves no trace in windows, failures in a row and ids."""
    if any(slot.waits in (Waits.RESULT, Waits.SPROUT) for slot in state.slots):
        return
    for slot in state.slots:
        if slot.waits == Waits.TURN and slot.outcome is not None:
            _slot_settled(state, slot, slot.outcome)
    for sprout in list(state.sprouts.values()):
        _sprout_settled(state, sprout)


def _slot_settled(state: RunState, slot: Slot, outcome: Outcome) -> None:
    assert state.rules is not None
    leaf, tree = slot.path[-1], state.tree
    _count(state, outcome.what)
    if outcome.what == "harvests":
        tree.reward(leaf, outcome.reward)
        tree.misses[leaf] = 0
        if not tree.paired[leaf]:
            tree.pair_stored(leaf)
            state.pairs[leaf] = array("Q")
        state.pairs[leaf].append(outcome.sequence)
    elif outcome.what == "rehearsals":
        state.rehearsals.setdefault(leaf, array("Q")).append(outcome.sequence)
    elif outcome.what != "unavailable" and not state.rehearsing:
        # Nobody could answer or judge: no evidence about the target. A leaf where it goes on like that is closed.
        tree.missed(leaf, state.rules.leaf_failures)
    _settle(state, slot, unavailable=outcome.what == "unavailable")


# ---- rebirth and training --------------------------------------------------------------------------------------


def _nodes_reborn(state: RunState, event: Any, body: Any) -> None:
    if state.next() != Next.INTROSPECTION or event.round != state.round:
        return _count(state, "late")
    tree = state.tree
    if any(not _can_be_reborn(tree, rebirth) for rebirth in body.rebirths):
        return _count(state, "invalid")
    for rebirth in body.rebirths:
        tree.reborn(rebirth.node, rebirth.window_sum, rebirth.window_length)
        _count(state, "rebirths")
    state.introspected = True
    return None


def _can_be_reborn(tree: Tree, rebirth: Any) -> bool:
    node = rebirth.node
    if not 0 < node < len(tree) or tree.is_unk[node] or tree.pulls(node) < tree.window_length:
        return False
    return (rebirth.window_sum, rebirth.window_length) == (tree.window[node].bit_count(), tree.window_length)


def _training_drawn(state: RunState, event: Any, body: Any) -> None:
    if state.next() != Next.TRAINING or event.round != state.round:
        return _count(state, "late")
    if any(not 0 <= sample < state.sequence for sample in body.samples) or body.version in state.versions:
        return _count(state, "invalid")
    if not body.samples:
        _count(state, "trainings_without_pairs")
        return _round_over(state)
    state.training = Training(
        body.request_hash,
        body.version,
        body.base_version,
        tuple(body.samples),
        tuple(body.average_with),
        state.sequence,
        event.time_us,
    )
    return None


def _target_promoted(state: RunState, event: Any, body: Any) -> None:
    if state.training is None or state.training.request_hash != body.request_hash:
        return _count(state, "late")
    state.versions.append(state.training.version)
    state.failed_trainings = 0
    return _round_over(state)


def _training_failed(state: RunState, event: Any, body: Any) -> None:
    assert state.rules is not None
    if state.training is None or state.training.request_hash != body.request_hash:
        return _count(state, "late")
    _count(state, "trainings_failed")
    if body.failure == Failure.BLOCKED:  # the round is not over: it is trained under another name once that is mended
        _count(state, "trainings_again")
        state.stalled = f"the training of {state.training.version} failed: {body.reason}"
        state.training = None
        return None
    state.failed_trainings += 1
    if body.failure == Failure.UNAVAILABLE or state.failed_trainings >= state.rules.training_failures:
        state.stalled = f"the training of {state.training.version} failed: {body.reason}"
    return _round_over(state)


def _round_over(state: RunState) -> None:
    state.counts.pop("trainings_again", None)  # of this round
    state.training = None
    state.round += 1
    state.step = state.steps_counted = 0
    state.introspected = False


_FOLDS: dict[str, Callable[[RunState, Any, Any], None]] = {
    "run_started": _run_started,
    "run_paused": _run_paused,
    "run_resumed": _run_resumed,
    "run_finished": _run_finished,
    "paths_drawn": _paths_drawn,
    "slot_continued": _slot_continued,
    "slot_expired": _slot_expired,
    "domains_sprouted": _domains_sprouted,
    "sprout_failed": _sprout_failed,
    "harvest_judged": _harvest_judged,
    "harvest_failed": _harvest_failed,
    "rehearsal_answered": _rehearsal_answered,
    "nodes_reborn": _nodes_reborn,
    "training_drawn": _training_drawn,
    "target_promoted": _target_promoted,
    "training_failed": _training_failed,
    "target_evaluated": _target_evaluated,
}
