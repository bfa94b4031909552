"""The verification's accounting of a run beside the state that the fold gives."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from bohdi.verify.arms import NEVER
from bohdi.verify.ledger import Ledger
from bohdi.verify.ledger.account import Account
from bohdi.verify.ledger.kept import Samples
from bohdi.verify.ledger.slots import Slot
from bohdi_common.core.state import RunState, Waits


def differences(run: Ledger, state: RunState) -> Iterator[str]:
    """One line for each thing on which ledger and fold differ."""
    account, stops = run.account, run.stops
    yield from _of_arms(account, state)
    yield from _unless_equal("run sequence", account.sequence, state.sequence)
    yield from _unless_equal("round and step", account.place, (state.round, state.step))
    yield from _unless_equal("steps counted", account.steps_counted, state.steps_counted)
    yield from _unless_equal("versions", account.versions, state.versions)
    yield from _unless_equal("decision due", account.due(), _DUE[state.next()])
    yield from _unless_equal("paused", stops.paused, bool(state.paused))
    yield from _unless_equal("stalled", stops.stalled, bool(state.stalled))
    yield from _unless_equal("finished", account.finished, bool(state.finished))
    yield from _unless_equal("pauses, resumes", (stops.pauses, len(stops.resumed)), (state.pauses, state.resumes))
    yield from _unless_equal("controls", run.lifecycle.controls, state.controls)
    yield from _unless_equal("open slots", _open_slots(run.step.slots), _open_slots_of(state))
    yield from _unless_equal("sprouts asked for", _sprouts(run.step.sprouts), _sprouts(state.sprouts))
    training = account.training.request_hash if account.training else ""
    yield from _unless_equal("open training", training, state.training.request_hash if state.training else "")
    for what in ("late", "invalid", "unknown"):
        yield from _unless_equal(f"{what} events", getattr(account, what), state.counts.get(what, 0))
    yield from _of_samples(run.samples, state)


_DUE = {
    "": "", "step": "paths_drawn", "rehearsal": "rehearsal", "introspection": "nodes_reborn",
    "training": "training_drawn", "finish": "run_finished",
}  # fmt: skip


def _unless_equal(what: str, accounted: Any, folded: Any) -> Iterator[str]:
    if accounted != folded:
        yield f"{what}: the fold has {_short(folded)}, the log adds up to {_short(accounted)}"


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 200 else f"{text[:200]}..."


def _sprouts(sprouts: dict[int, Any]) -> dict[int, tuple[Any, ...]]:
    """The same fields of the ledger's sprouts and of the state's."""
    return {
        parent: (s.request_hash, s.asked, s.want, s.waiting, s.answered, s.names, s.unavailable)
        for parent, s in sprouts.items()
    }


def _open_slots(slots: list[Slot | None]) -> dict[int, tuple[Any, ...]]:
    return {
        number: (slot.path, slot.leader, slot.request_hash, slot.attempt, slot.failures, slot.child, _waits(slot))
        for number, slot in enumerate(slots)
        if slot is not None
    }


def _waits(slot: Slot) -> int:
    if slot.turn:
        return Waits.TURN
    if slot.ready != NEVER:
        return Waits.DECISION
    return Waits.RESULT if slot.for_result else Waits.SPROUT


def _open_slots_of(state: RunState) -> dict[int, tuple[Any, ...]]:
    return {
        number: (slot.path, slot.leader, slot.request_hash, slot.attempt, slot.failures, slot.child, slot.waits)
        for number, slot in enumerate(state.slots)
        if slot.waits != Waits.NOTHING
    }


def _of_arms(account: Account, state: RunState) -> Iterator[str]:
    """alpha + beta - 2 of every arm is what it kept at its last rebirth and what was counted on it since."""
    tree = state.tree
    if not account.started:
        return
    yield from _unless_equal("arms", len(account.arms), len(tree))
    can_be_drawn = account.arms.open_nodes()
    for number, arm in enumerate(account.arms.all[: len(tree)]):
        accounted = (arm.parent, arm.level, arm.name, arm.is_unk, arm.alpha, arm.beta, arm.window, arm.misses,
                     arm.rebirths, can_be_drawn[number])  # fmt: skip
        folded = (tree.parent[number], tree.level[number], tree.name[number], bool(tree.is_unk[number]),
                  tree.alpha[number], tree.beta[number], tree.window[number], tree.misses[number],
                  tree.rebirths[number], bool(tree.open[number]))  # fmt: skip
        yield from _unless_equal(f"arm {number} ({arm.name})", accounted, folded)


def _of_samples(samples: Samples, state: RunState) -> Iterator[str]:
    pairs: dict[int, list[int]] = {}
    rehearsals: dict[int, list[int]] = {}
    for sequence in samples.stored:
        leaf = samples.leaves[sequence]
        (pairs if leaf > 0 else rehearsals).setdefault(abs(leaf), []).append(sequence)
    yield from _unless_equal("pairs in store", pairs, {leaf: list(at) for leaf, at in state.pairs.items()})
    yield from _unless_equal("rehearsals", rehearsals, {leaf: list(at) for leaf, at in state.rehearsals.items()})
