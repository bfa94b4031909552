"""Bugs to be planted in the real code, one at a time: each is one that a careful person could have written, and each
must be found. What the simulator does not find it does not guard against."""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

from bohdi_common.core import evolve
from bohdi_common.core.decide import Fact, requests
from bohdi_common.core.state import RunState, Slot
from bohdi_common.events.events_pb2 import Event
from bohdi_common.events.topics import DEAD, FEEDBACK
from bohdi_common.log.port import Done, LogUnavailable, Record, Stored
from bohdi_common.runtime import worker
from bohdi_common.runtime.feedback import feedback_events
from bohdi_common.runtime.local_host import LocalHost
from bohdi_common.runtime.manager_host import ManagerHost
from bohdi_common.runtime.ordered_window import OrderedWindow, Partition
from bohdi_common.runtime.shell import Shell
from services.bandit.handler import Bandit
from services.bandit.runs import Runs
from services.bandit.snapshots import Snapshots
from tests.simulation.plan import EMBEDDED, MODES, SERVICES, TWO_BANDITS, TWO_RUNS
from tests.simulation.schedule import Result, mode_of, run

_ON_BROKER = (SERVICES, TWO_BANDITS, TWO_RUNS)


@dataclass(frozen=True)
class Plant:
    """`patches`: what is put in the place of what, as (owner, attribute, replacement). `modes`: where it can show."""

    name: str
    modes: tuple[str, ...]
    patches: tuple[tuple[Any, str, Any], ...]

    @contextmanager
    def planted(self) -> Iterator[None]:
        """Inside, the bug is in the code."""
        with ExitStack() as stack:
            for owner, attribute, replacement in self.patches:
                stack.enter_context(mock.patch.object(owner, attribute, replacement))
            yield


# ---- workers ---------------------------------------------------------------------------------------------------


def _handling_without_waiting(shell: Shell, append: worker.Append) -> Callable[[Stored], Any]:
    under_way: set[asyncio.Task[None]] = set()

    async def handle(stored: Stored) -> None:
        task = asyncio.create_task(worker.until_durable(append, await shell.process(stored)))
        under_way.add(task)
        task.add_done_callback(under_way.discard)

    return handle


async def _append_once(append: worker.Append, records: Sequence[Record]) -> None:
    try:
        await append(records)
    except LogUnavailable:
        return


_process = Shell.process


async def _process_what_decodes(shell: Shell, stored: Stored) -> list[Record]:
    return [record for record in await _process(shell, stored) if record.topic != DEAD.name]


# ---- the window ------------------------------------------------------------------------------------------------


def _acknowledge_what_is_done(window: OrderedWindow, partition: Partition) -> None:
    held = window._held[partition]
    for one in list(held):
        if one.task.done() and not one.task.cancelled() and one.task.exception() is None:
            held.remove(one)
            window._running.pop((partition, one.offset), None)
            window._acknowledged[partition] = max(one.offset, window._acknowledged.get(partition, -1))
            one.acknowledge()
    window._room.set()


def _revoked_but_held(window: OrderedWindow) -> None:
    window._expected.clear()
    window._placed.clear()
    window._room.set()


_assigned = OrderedWindow.assigned


def _assigned_and_held(window: OrderedWindow, starts: Any) -> None:
    held = {partition: copy.copy(deque) for partition, deque in window._held.items()}
    _assigned(window, starts)
    window._held.update(held)


_take = OrderedWindow.take


async def _take_of_any_assignment(window: OrderedWindow, stored: Stored, acknowledge: Any, still_ours: Any) -> None:
    await _take(window, stored, acknowledge)


# ---- the bandit ------------------------------------------------------------------------------------------------

_decisions = Bandit._decisions


def _decisions_and_their_requests(bandit: Bandit, cause: str, due: list[Fact]) -> list[Event]:
    decided = _decisions(bandit, cause, due)
    ahead = copy.deepcopy(bandit.state)
    asked: list[Event] = []
    for event in decided:
        before = ahead.sequence
        evolve.evolve(ahead, event)
        asked += [bandit._event(fact, cause, asks=True) for fact in requests(ahead, before)]
    return [*decided, *asked]


def _fold_most_of_the_past(host: ManagerHost) -> int:
    end = host.log.end(FEEDBACK.name)
    for offset, event in feedback_events(host.log, host.start, max(host.start, end - 2)):
        host.manager.fold(event)
        host.on_event(offset, event)
    return max(end, host.start)


_save = Snapshots.save
_kept_before: dict[Path, Runs] = {}


def _save_the_fold_before(snapshots: Snapshots, offset: int, last_id: str, runs: Runs) -> None:
    now = Runs(over=set(runs.over))
    for run_id, bandit in runs.going.items():
        now.going[run_id] = Bandit(run_id)
        now.going[run_id].restore(bandit.settings, copy.deepcopy(bandit.state))
    _save(snapshots, offset, last_id, _kept_before.get(snapshots.file, now))
    _kept_before[snapshots.file] = now


# ---- the fold --------------------------------------------------------------------------------------------------


def _slot_settled_or_not(state: RunState, event: Any, body: Any) -> Slot | None:
    if (event.round, event.step) != (state.round, state.step) or event.slot >= len(state.slots):
        return None
    slot = state.slots[event.slot]
    return slot if slot.request_hash == body.request_hash else None


def _judged_late_or_not(state: RunState, event: Any, body: Any) -> None:
    late = state.counts.get("late", 0)
    evolve._harvest_judged(state, event, body)
    if state.counts.get("late", 0) > late and body.counted:
        leaf = 0
        for name in body.path:
            leaf = state.tree.child_named(leaf, name) or 0
        state.tree.reward(leaf, body.reward)


_FOLDS_OF_LATE = {**evolve._FOLDS, "harvest_judged": _judged_late_or_not}


def _asked_for_by_the_slot(state: RunState, slot: Slot) -> str:
    return slot.request_hash


# ---- the local host --------------------------------------------------------------------------------------------


async def _mark_then_append(host: LocalHost, shell: Shell, stored: Stored) -> None:
    records = await shell.process(stored)
    await host.log.append([], Done(shell.service.name, stored.topic, stored.offset))
    await host.log.append(records)


async def _append_then_mark(host: LocalHost, shell: Shell, stored: Stored) -> None:
    await host.log.append(await shell.process(stored))
    await host.log.append([], Done(shell.service.name, stored.topic, stored.offset))


PLANTS = (
    Plant(
        "acknowledges before the outputs are durable", _ON_BROKER, ((worker, "handling", _handling_without_waiting),)
    ),
    Plant("appends once and gives up when the broker is away", _ON_BROKER, ((worker, "until_durable", _append_once),)),
    Plant("drops what does not decode", _ON_BROKER, ((Shell, "process", _process_what_decodes),)),
    Plant("acknowledges out of order", _ON_BROKER, ((OrderedWindow, "_advance", _acknowledge_what_is_done),)),
    Plant(
        "acknowledges after a rebalance what was delivered before",
        _ON_BROKER,
        ((OrderedWindow, "revoked", _revoked_but_held), (OrderedWindow, "assigned", _assigned_and_held)),
    ),
    Plant(
        "takes deliveries of an assignment that is over",
        _ON_BROKER,
        ((OrderedWindow, "take", _take_of_any_assignment),),
    ),
    Plant("asks before its decision is read back", MODES, ((Bandit, "_decisions", _decisions_and_their_requests),)),
    Plant("starts the bandit from a stale fold", MODES, ((ManagerHost, "fold_past", _fold_most_of_the_past),)),
    Plant("keeps a snapshot that is older than it says", _ON_BROKER, ((Snapshots, "save", _save_the_fold_before),)),
    Plant("settles a slot twice", MODES, ((evolve, "_answered_slot", _slot_settled_or_not),)),
    Plant("counts a late settlement", MODES, ((evolve, "_FOLDS", _FOLDS_OF_LATE),)),
    Plant("lets an expiry of the past end another wait", MODES, ((RunState, "asked_for", _asked_for_by_the_slot),)),
    Plant(
        "marks an input done before its outputs are written", (EMBEDDED,), ((LocalHost, "_handle", _mark_then_append),)
    ),
    Plant(
        "marks an input done after its outputs are written", (EMBEDDED,), ((LocalHost, "_handle", _append_then_mark),)
    ),
)


def found_after(plant: Plant, seed: int, schedules_max: int) -> tuple[int, Result] | None:
    """How many schedules in which the planted bug can show it took until one found something; and that one."""
    numbers = [number for number in range(schedules_max) if mode_of(number) in plant.modes]
    for count, number in enumerate(numbers, 1):
        result = run(seed, number)
        if result.findings:
            return count, result
    return None
