"""What is open in a step: slots and sprouts, and what has come for them."""

from __future__ import annotations

from dataclasses import dataclass, field

from bohdi.verify.arms import NEVER
from bohdi_common.core.tree import LEAF_LEVEL, ROOT


@dataclass(slots=True)
class Outcome:
    """What a slot's result says. `missed`: nobody could answer or judge."""

    at: int  # run sequence
    sample: bool = False
    reward: int | None = None  # of a counted harvest
    missed: bool = False
    unavailable: bool = False


@dataclass(slots=True)
class Slot:
    """An open slot. `ready`: first state in which it could go on after its sprout; NEVER before."""

    path: tuple[int, ...]
    leader: str
    request_hash: str
    asked: int
    attempt: int = 0
    failures: int = 0
    child: int = -1
    ready: int = NEVER
    turn: bool = False  # its result, or its sprout's, is in and takes effect with those of the others
    outcome: Outcome | None = None

    @property
    def for_result(self) -> bool:
        return len(self.path) == LEAF_LEVEL

    @property
    def waiting(self) -> bool:
        """Nothing has come for it yet."""
        return self.ready == NEVER and not self.turn

    @property
    def node(self) -> int:
        """Where its path ends; one that is not for a result waits for a sprout from there."""
        return self.path[-1] if self.path else ROOT


@dataclass(slots=True)
class Sprout:
    """What was asked: under which node, at which round and step, beside how many known children; and what came."""

    parent: int
    request_hash: str
    asked: int
    place: tuple[int, int]
    known: int
    want: int = 0
    waiting: list[int] = field(default_factory=list)
    answered: bool = False
    names: tuple[str, ...] = ()
    unavailable: bool = False
