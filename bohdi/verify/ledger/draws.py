"""What the bandit decided of slots: drawn at first, drawn again after a sprout or given up, or waited for too long."""

from __future__ import annotations

from dataclasses import dataclass

from bohdi.verify.arms import NEVER
from bohdi.verify.ledger.account import Account
from bohdi.verify.ledger.envelope import Envelopes
from bohdi.verify.ledger.kept import Asked
from bohdi.verify.ledger.slots import Slot
from bohdi.verify.ledger.step import Step
from bohdi.verify.report import Kind
from bohdi_common.core.ids import derived_id
from bohdi_common.core.tree import LEAF_LEVEL, ROOT
from bohdi_common.events import events_pb2 as pb


@dataclass(frozen=True)
class Draws:
    """Of one run, held to the tree as it was in the state that each was made of."""

    account: Account
    envelopes: Envelopes
    step: Step
    asked: Asked

    def paths_drawn(self, event: pb.Event, body: pb.PathsDrawn) -> None:
        account, bandit = self.account, self.account.settings.bandit
        due = "rehearsal" if body.rehearsal else "paths_drawn"
        if account.due() != due or (event.round, event.step) != account.place:
            self.envelopes.decision(event, "paths_drawn", body.based_on, 0)
            return account.count_late()
        self.envelopes.decision(event, "paths_drawn", body.based_on, account.due_since)
        allowed = (0, bandit.rehearsal_questions) if body.rehearsal else (bandit.slots,)
        if len(body.slots) not in allowed:
            account.wrong(Kind.DRAW, f"{len(body.slots)} slots drawn")
        if [slot.slot for slot in body.slots] != list(range(len(body.slots))):
            account.invalid += 1
            return account.wrong(Kind.DRAW, "the slots are not numbered 0, 1, 2, ...")
        slots = [self._drawn(slot, body.based_on, 0, body.rehearsal) for slot in body.slots]
        sound = [slot for slot in slots if slot is not None]
        if len(sound) < len(slots):
            account.invalid += 1
            return None
        return self.step.begin(sound, body.rehearsal)

    def _drawn(self, drawn: pb.DrawnSlot, based_on: int, attempt: int, rehearsal: bool) -> Slot | None:
        """The slot that a draw opens; None for one that cannot be counted."""
        account = self.account
        account.report.draws += 1
        path = tuple(drawn.path)
        if not account.arms.is_path(path):
            self._wrong(drawn, f"{list(path)} is no path of the tree")
            return None
        self._arm_was_there(drawn, path, based_on)
        if drawn.leader not in account.rules.sources:
            self._wrong(drawn, f"the leader {drawn.leader!r} is no source")
            return None
        expected = ""
        if len(path) == LEAF_LEVEL:
            kind, where = "rehearsal" if rehearsal else "harvest", (*account.place, drawn.slot, attempt)
            expected = derived_id(account.run_id, kind, *where, *path, drawn.leader, account.versions[-1])
        elif rehearsal:
            self._wrong(drawn, "a rehearsal on an unk arm")
        if drawn.request_hash != expected:
            what = f"request hash {drawn.request_hash!r} does not follow from what is asked"
            self._wrong(drawn, what, Kind.HASH)
        return Slot(path, drawn.leader, drawn.request_hash, account.sequence, attempt)

    def _arm_was_there(self, drawn: pb.DrawnSlot, path: tuple[int, ...], based_on: int) -> None:
        arms = self.account.arms
        end = path[-1] if len(path) == LEAF_LEVEL else arms[path[-1] if path else ROOT].unk
        arm = arms[end]
        if arm.born > based_on:
            self._wrong(drawn, f"arm {end} was born in state {arm.born}, the draw is of {based_on}")
        if arm.closed <= based_on:
            self._wrong(drawn, f"arm {end} was closed in state {arm.closed}, the draw is of {based_on}")

    def _wrong(self, drawn: pb.DrawnSlot, what: str, kind: Kind = Kind.DRAW) -> None:
        self.account.wrong(kind, f"slot {drawn.slot}: {what}")

    # ---- a slot goes on ----------------------------------------------------------------------------------------

    def slot_continued(self, event: pb.Event, body: pb.SlotContinued) -> None:
        account, drawn = self.account, body.drawn
        slot = self.step.slot_of(event, drawn.slot)
        if slot is None or slot.ready == NEVER or slot.attempt != body.attempt:
            self.envelopes.decision(event, "slot_continued", body.based_on, 0, body.attempt)
            return account.count_late()
        self.envelopes.decision(event, "slot_continued", body.based_on, slot.ready, body.attempt)
        if event.slot != drawn.slot:
            account.wrong(Kind.ENVELOPE, f"slot {event.slot} goes on as slot {drawn.slot}")
        self._held_to_lockstep(body.based_on)
        if body.given_up:
            self._given_up(slot, drawn, body.based_on)
            return self.step.settle(drawn.slot)
        self._goes_on(slot, drawn, body.based_on)
        fresh = self._drawn(drawn, body.based_on, slot.attempt + 1, rehearsal=False)
        if fresh is None:
            account.invalid += 1
            return None
        return self.step.go_on(drawn.slot, fresh)

    def _goes_on(self, slot: Slot, drawn: pb.DrawnSlot, based_on: int) -> None:
        if drawn.leader != slot.leader:
            self._wrong(drawn, f"goes on under {drawn.leader!r}, its leader is {slot.leader!r}")
        if slot.failures >= self.account.settings.bandit.slot_failures:
            self._wrong(drawn, f"goes on after {slot.failures} failed sprouts")
        start = self._start(slot, based_on)
        if start is not None:
            path = self.account.arms.path(start)
            if list(drawn.path[: len(path)]) != path:
                self._wrong(drawn, f"goes on beside node {start}, the nearest that is open")

    def _given_up(self, slot: Slot, drawn: pb.DrawnSlot, based_on: int) -> None:
        if drawn.path or drawn.leader or drawn.request_hash:
            self._wrong(drawn, "given up, and yet drawn")
        if slot.failures < self.account.settings.bandit.slot_failures and self._start(slot, based_on) is not None:
            self._wrong(drawn, f"given up after {slot.failures} failed sprouts, with arms open")

    def _start(self, slot: Slot, based_on: int) -> int | None:
        """From where a slot goes on: its new domain, or the nearest node above it that was open; None if none was."""
        nodes = (ROOT, *slot.path, slot.child) if slot.child >= 0 else (ROOT, *slot.path)
        return next((node for node in reversed(nodes) if self.account.arms.is_open(node, based_on)), None)

    def _held_to_lockstep(self, based_on: int) -> None:
        if not self.account.settings.bandit.lockstep:
            return
        if any(slot and slot.asked < based_on < slot.ready for slot in self.step.slots):
            what = f"a slot goes on in lockstep while others waited in state {based_on}"
            self.account.wrong(Kind.DECISION, what)

    # ---- a slot expires ----------------------------------------------------------------------------------------

    def slot_expired(self, event: pb.Event, body: pb.SlotExpired) -> None:
        account = self.account
        slot = self.step.slot_of(event, event.slot)
        account.report.decisions += slot is None
        if slot is None or not slot.waiting or self.step.waits_for(slot) != body.request_hash:
            if body.request_hash not in self.asked:
                account.wrong(Kind.SETTLEMENT, f"request {body.request_hash!r} expired, which no decision opened")
            return account.count_late()
        self.envelopes.decision(event, "slot_expired", body.based_on, slot.asked + 1, slot.attempt)
        return self.step.expire(event.slot)
