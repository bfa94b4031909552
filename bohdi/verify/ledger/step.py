"""The step that goes on: its slots, the sprouts that they share, and when what has come for them takes effect.

Nothing is held to account here; what is, is counted as the rules of the fold have it.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from bohdi.verify.arms import NEVER
from bohdi.verify.ledger.account import Account
from bohdi.verify.ledger.kept import Asked, Samples
from bohdi.verify.ledger.slots import Outcome, Slot, Sprout
from bohdi.verify.ledger.stops import Stops
from bohdi_common.core import names
from bohdi_common.core.ids import derived_id
from bohdi_common.events import events_pb2 as pb


@dataclass(slots=True)
class Step:
    """The open step of one run; between two steps there are no slots."""

    account: Account
    stops: Stops
    samples: Samples
    asked: Asked
    slots: list[Slot | None] = field(default_factory=list)  # None: settled
    sprouts: dict[int, Sprout] = field(default_factory=dict)  # by the node that they are under
    rehearsing: bool = False
    max_attempt: int = 0  # of all steps
    _unavailable: int = 0

    def slot_of(self, event: pb.Event, number: int) -> Slot | None:
        """The open slot of that number, if the event is of this step."""
        here = (event.round, event.step) == self.account.place
        return self.slots[number] if here and number < len(self.slots) else None

    def waits_for(self, slot: Slot) -> str:
        """The hash of the request that a waiting slot waits for."""
        return slot.request_hash if slot.for_result else self.sprouts[slot.node].request_hash

    def _slot(self, number: int) -> Slot:
        slot = self.slots[number]
        assert slot is not None
        return slot

    # ---- decisions ---------------------------------------------------------------------------------------------

    def begin(self, slots: list[Slot], rehearsing: bool) -> None:
        self.slots = list(slots)
        self.account.open, self._unavailable, self.rehearsing = len(slots), 0, rehearsing
        for number in range(len(slots)):
            self._opened(number)
        self._wants()
        if not slots:
            self._over()

    def go_on(self, number: int, fresh: Slot) -> None:
        """A slot goes on after its sprout, as another."""
        fresh.failures = self._slot(number).failures
        self.max_attempt = max(self.max_attempt, fresh.attempt)
        self.slots[number] = fresh
        self._opened(number)
        self._wants()

    def expire(self, number: int) -> None:
        """A slot waits no longer; nor does a sprout for which no other waits."""
        slot = self._slot(number)
        if not slot.for_result:
            self.sprouts[slot.node].waiting.remove(number)
            if not self.sprouts[slot.node].waiting:
                del self.sprouts[slot.node]
        self.settle(number, unavailable=True)
        self._take_turns()

    def settle(self, number: int, unavailable: bool = False) -> None:
        self.account.report.settlements += 1
        self.slots[number] = None
        self.account.open -= 1
        self._unavailable += unavailable
        if not self.account.open:
            self._over()

    def _opened(self, number: int) -> None:
        """Notes what an opened slot asks: its harvest, or a sprout, which it may share with others."""
        slot, account = self._slot(number), self.account
        if slot.for_result:
            return self.asked.add(slot.request_hash)
        parent = slot.node
        if parent not in self.sprouts:
            request_hash = derived_id(account.run_id, "sprout", parent, account.sequence)
            known = len(account.arms[parent].children)
            self.sprouts[parent] = Sprout(parent, request_hash, account.sequence, account.place, known)
            self.asked.sprouts[request_hash] = self.sprouts[parent]
            self.asked.add(request_hash)
        self.sprouts[parent].waiting.append(number)
        return None

    def _wants(self) -> None:
        """A request of this event asks for a name per slot that waits, and per slot that will: one that is about to go
        on from the very node, a new one, finds nothing but its `unk` arm there."""
        for sprout in self.sprouts.values():
            if sprout.asked == self.account.sequence:
                coming = [slot for slot in self.slots if slot and slot.ready != NEVER and slot.child == sprout.parent]
                most = self.account.settings.bandit.sprout_names
                sprout.want = min(len(sprout.waiting) + len(coming), most)

    def _over(self) -> None:
        """A step in which every slot was unavailable is done again, and so is such a rehearsal."""
        account = self.account
        something_came = not self.slots or self._unavailable < len(self.slots)
        if not something_came:
            self.stops.stall(account.sequence)
        if self.rehearsing:
            account.rehearsed = account.rehearsed or something_came
        else:
            account.steps_counted += something_came
        self.slots, self.sprouts, self.rehearsing = [], {}, False
        account.step += 1
        account.due_since = account.sequence + 1

    # ---- results -----------------------------------------------------------------------------------------------

    def arrived(self, number: int, outcome: Outcome) -> None:
        """The result of a slot is in. It takes effect at once, or, in lockstep, when those of all slots are in."""
        slot = self._slot(number)
        slot.outcome, slot.turn = outcome, True
        if self.account.settings.bandit.lockstep:
            self._take_turns()
        else:
            self._take_effect(number)

    def sprouted(self, sprout: Sprout) -> None:
        """The result of a sprout is in: as with slots, it may have to wait for its turn."""
        sprout.answered = True
        if not self.account.settings.bandit.lockstep:
            return self._grow(sprout.parent)
        for number in sprout.waiting:
            self._slot(number).turn = True
        return self._take_turns()

    def _take_turns(self) -> None:
        """What is in takes effect in the order of the slots, and after them sprouts in the order of their asking."""
        if any(slot and slot.waiting for slot in self.slots):
            return
        for number, slot in enumerate(self.slots):
            if slot and slot.outcome:
                self._take_effect(number)
        for parent in list(self.sprouts):
            self._grow(parent)

    def _take_effect(self, number: int) -> None:
        """A slot's result takes effect."""
        slot, account = self._slot(number), self.account
        assert slot.outcome is not None
        outcome, leaf = slot.outcome, slot.node
        if outcome.sample:
            self.samples.stored.append(outcome.at)
        if outcome.reward is not None:
            account.arms.reward(leaf, outcome.reward)
            account.arms[leaf].misses = 0
            self.samples.pairs += 1
            account.report.harvests += 1
        elif outcome.sample:
            self.samples.rehearsals += 1
        if outcome.missed and not self.rehearsing:
            account.arms.missed(leaf, account.settings.bandit.leaf_failures, account.sequence + 1)
        self.settle(number, outcome.unavailable)

    def _grow(self, parent: int) -> None:
        """A sprout's result takes effect."""
        sprout = self.sprouts.pop(parent)
        if sprout.unavailable:
            for number in sprout.waiting:
                self.settle(number, unavailable=True)
            return
        arms = self.account.arms
        known, added = arms.taken_names(parent), list[int]()
        for name in map(names.tidy, sprout.names):
            if len(added) < sprout.want and names.key(name) not in known and not names.why_refused(name):
                added.append(arms.add(parent, name, self.account.sequence + 1))
                known.add(names.key(name))
        unk = arms[arms[parent].unk]
        if added:
            unk.wins += len(added)
            unk.misses = 0
            self._ready(sprout, added)
        else:
            self._rejected(sprout)

    def _rejected(self, sprout: Sprout) -> None:
        account = self.account
        unk = account.arms[sprout.parent].unk
        account.arms[unk].losses += 1
        account.arms.missed(unk, account.settings.bandit.sprout_failures, account.sequence + 1)
        for number in sprout.waiting:
            self._slot(number).failures += 1
        self._ready(sprout, [-1])

    def _ready(self, sprout: Sprout, children: list[int]) -> None:
        """The waiting slots can go on, each from one of the new children in turn."""
        for turn, number in enumerate(sprout.waiting):
            slot = self._slot(number)
            slot.ready, slot.turn, slot.child = self.account.sequence + 1, False, children[turn % len(children)]
