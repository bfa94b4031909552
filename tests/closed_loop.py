"""A closed loop without models, files or clocks: bandits on a feedback log in memory, a scripted world that answers.

For tests, simulations and benchmarks. The log keeps the first event of an id, as the port says; the world's answers
depend on what is asked and never on when, so that runs may be compared.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from bohdi_common.core.ids import derived_id
from bohdi_common.core.state import Failure, RunState
from bohdi_common.events import codec
from bohdi_common.events.events_pb2 import Domain, Event, RunStarted, Settings
from bohdi_common.runtime import config
from services.bandit.handler import Bandit

RUN_ID = "run"
_LETTERS = "msl"  # main, secondary and leaf domains are called m0, s0, l0, ...
_RESULTS = {
    "sprout_requested": "sprout_failed",
    "harvest_requested": "harvest_failed",
    "training_requested": "training_failed",
}

Path = tuple[str, ...]


def settings(seed: int = 1, **sections: Any) -> Settings:
    """Resolved settings of a small run with three sources; `sections` are laid over the configuration."""
    small = {"rounds": 2, "steps": 2, "slots": 12, "window": 4, "rehearsal_questions": 0}
    raw: dict[str, Any] = {
        "name": "closed-loop",
        "sources": [{"name": name, "path": name} for name in ("a", "b", "c")],
        "target": {"name": "target", "path": "target"},
        **sections,
        "bandit": small | sections.get("bandit", {}),
    }
    if raw.get("preset") == "paper":
        raw["bandit"] = {"rounds": 2} | sections.get("bandit", {})
    grow = raw["bandit"].pop("grow", True)  # the configuration wants domains beside it; the loop has them apart
    resolved = config.parse(raw, "closed loop").settings(seed, dict.fromkeys(("a", "b", "c", "target"), ""))
    resolved.bandit.grow = grow
    return resolved


@dataclass(frozen=True)
class World:
    """What the services would answer.

    loses     probability that the target loses at a leaf (path of names), given its version
    width     children that a node of level 0, 1, 2 has; when all are known a sprout is rejected
    fails     class of the failure of a request, None when it is answered
    verdict   whether a harvest comes to a verdict
    text      question and answer of every harvest
    """

    loses: Callable[[Path, str], float] = lambda path, version: 0.5
    width: tuple[int, int, int] = (3, 3, 3)
    fails: Callable[[Event], Failure | None] = lambda request: None
    verdict: Callable[[Event], bool] = lambda request: True
    text: str = "?"
    seed: int = 0

    def answer(self, request: Event, time_us: int) -> Event:
        """The outcome of a request, as the services would append it to the feedback log."""
        kind = codec.kind_of(request)
        failure = self.fails(request)
        if failure is not None:
            body: dict[str, Any] = {"failure": failure.value, "reason": "scripted"}
            if kind == "sprout_requested":
                body["parent"] = request.sprout_requested.parent
            return codec.result(request, "world", time_us, _RESULTS[kind], body)
        outcome = getattr(self, f"_{kind}")(request)
        return codec.result(request, "world", time_us, *outcome)

    def _sprout_requested(self, request: Event) -> tuple[str, dict[str, Any]]:
        asked = request.sprout_requested
        level = len(asked.path)
        there = [f"{_LETTERS[level]}{number}" for number in range(self.width[level])]
        new = [name for name in there if name not in asked.known][: asked.want]
        if not new:
            body = {"parent": asked.parent, "failure": Failure.REJECTED.value, "reason": "nothing is missing"}
            return "sprout_failed", body
        return "domains_sprouted", {"parent": asked.parent, "names": [{"name": name, "votes": 2} for name in new]}

    def _harvest_requested(self, request: Event) -> tuple[str, dict[str, Any]]:
        asked = request.harvest_requested
        path: Path = tuple(asked.path)
        common = {"path": path, "question": f"{'/'.join(path)} {self.text}", "leader": asked.leader}
        if asked.rehearsal:
            return "rehearsal_answered", common | {"answer": {"model": "target", "text": "known"}}
        counted = self.verdict(request)
        lost = self._uniform(request, path, asked) < self.loses(path, asked.target_version)
        answers = [{"model": "target", "text": "no"}, {"model": asked.leader, "text": "yes"}]
        return "harvest_judged", common | {
            "target_version": asked.target_version,
            "answers": answers,
            "counted": counted,
            "best": int(lost) if counted else -1,
            "reward": int(counted and lost),
        }

    def _training_requested(self, request: Event) -> tuple[str, dict[str, Any]]:
        asked = request.training_requested
        return "target_promoted", {"version": asked.version, "examples": len(asked.samples)}

    def _uniform(self, request: Event, path: Path, asked: Any) -> float:
        """In [0, 1), by the place of the question; the ids of nodes and requests do not enter."""
        place = (request.round, request.step, request.slot, *path, asked.leader, asked.target_version)
        return int(derived_id(self.seed, *place)[:13], 16) / 16**13


@dataclass
class Loop:
    """`bandits` managers of one run on one log. `order` None: everything in turn; else a random order of what could
    happen next (a bandit reads, the world answers). `dedupes` False: an event appended twice stands in the log twice,
    and a request is answered twice, as on Kafka."""

    world: World = field(default_factory=World)
    settings: Settings = field(default_factory=settings)
    domains: Iterable[Path] = ()
    bandits: int = 1
    order: random.Random | None = None
    dedupes: bool = True

    def __post_init__(self) -> None:
        self.now_us = 1_000_000
        self.log: list[Event] = []
        self.pending: list[Event] = []
        self.asked: dict[str, Event] = {}
        self.managers = [Bandit(RUN_ID, self.clock) for _ in range(self.bandits)]
        self.read = [0] * self.bandits
        self._logged: set[str] = set()
        self.append([self.event("run_started", self._started(), "start")])

    def clock(self) -> int:
        return self.now_us

    @property
    def state(self) -> RunState:
        return self.managers[0].state

    def event(self, kind: str, body: Any, event_id: str, **place: int) -> Event:
        """An event of the run that none of the services writes."""
        return Event(event_id=event_id, run_id=RUN_ID, time_us=self.now_us, schema_version=1, **place, **{kind: body})

    def run(self, until: Callable[[RunState], bool] = lambda state: False, actions_max: int = 10_000_000) -> RunState:
        """Goes on until nothing is left to do or `until` holds of the first bandit's state."""
        for _ in range(actions_max):
            if until(self.state) or not self.act():
                return self.state
        raise AssertionError(f"not over after {actions_max} actions")

    def act(self) -> bool:
        """One thing happens: a bandit reads the next event, or the world answers a request. False: nothing can."""
        readers = [number for number in range(self.bandits) if self.read[number] < len(self.log)]
        if self.order is not None:
            choice = self.order.randrange(len(readers) + bool(self.pending)) if readers or self.pending else 0
            if choice < len(readers):
                self.read_next(readers[choice])
            elif self.pending:
                self.answer(self.order.randrange(len(self.pending)))
            else:
                return False
        elif readers:
            self.read_next(readers[0])
        elif self.pending:
            self.answer(0)
        else:
            return False
        return True

    def read_next(self, number: int) -> None:
        event = self.log[self.read[number]]
        self.read[number] += 1
        self.append(self.managers[number].handle(event))

    def answer(self, index: int) -> None:
        request = self.pending.pop(index)
        self.append([self.world.answer(request, self.now_us)])

    def append(self, events: Iterable[Event]) -> None:
        """As a log would: the first event of an id stays."""
        self.now_us += 1
        for event in events:
            if codec.kind_of(event) in _RESULTS:
                if event.event_id not in self.asked or not self.dedupes:
                    self.asked[event.event_id] = event
                    self.pending.append(event)
            elif event.event_id not in self._logged or not self.dedupes:
                self._logged.add(event.event_id)
                self.log.append(event)

    def restart(self, number: int = 0) -> list[Event]:
        """The bandit is killed and folds the log anew; returns what it appends at its start."""
        fresh = Bandit(RUN_ID, self.clock)
        for event in self.log:
            fresh.fold(event)
        self.managers[number] = fresh
        self.read[number] = len(self.log)
        outputs = fresh.start()
        self.append(outputs)
        return outputs

    def _started(self) -> RunStarted:
        return RunStarted(settings=self.settings, domains=[Domain(path=path) for path in self.domains])
