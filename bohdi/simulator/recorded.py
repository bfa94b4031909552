"""A run that might have been as the bandit service would have recorded it: its events, or a folder of them.

The bandit's own fold and decisions, answered by the world of a simulation, in the order in which `engine` has them:
what it says of a run is what a log of that run says, event for event.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from bohdi.run_folder import RunFolder
from bohdi.simulator.model import DomainModel
from bohdi.simulator.world import World
from bohdi_common.core.decide import Fact, requests
from bohdi_common.core.ids import derived_id
from bohdi_common.core.state import Failure
from bohdi_common.events import codec
from bohdi_common.events.events_pb2 import (
    JUDGING_MODE_LEADER,
    Domain,
    Event,
    HarvestRequested,
    RunStarted,
    Settings,
)
from bohdi_common.log.sqlite import SqliteLog
from bohdi_common.runtime.config import Config
from bohdi_common.runtime.shell import Clock, record_of
from services.bandit.handler import Bandit
from services.judging import votes

RUN_ID = "simulated"
_RECORDS_AN_APPEND = 5_000
_PRODUCERS = {
    "domains_sprouted": "tree_expansion",
    "sprout_failed": "tree_expansion",
    "harvest_judged": "judging",
    "rehearsal_answered": "generation",
    "target_promoted": "training",
}
_START_US = 1_000_000_000_000_000  # in 2001: no log that was really recorded is as old
_EVENT_US = 1_000
_SENTENCE = (
    "the river carries fine sand to its mouth where slow water lets it fall and in a thousand years an island stands "
    "that no map of the old harbour shows while pilots still steer by the two lamps on the northern shore "
)


@dataclass
class Answers:
    """What the services would append, by the world of one run. `text_bytes`: of a question, and of each answer."""

    world: World
    settings: Settings
    text_bytes: int = 0
    _asked: Counter[tuple[int, int, int]] = field(default_factory=Counter)
    _luck: tuple[tuple[int, int], Any] = ((-1, -1), None)

    def __post_init__(self) -> None:
        self.models = [source.name for source in self.settings.sources]
        self.target = self.settings.target.name or "target"
        self._leaf_of: dict[int, int] = {}  # which leaf a record in store is of, by its run sequence

    def stands(self, sequence: int, event: Event) -> None:
        """Where an answer stands in the log, for the trainings that are to come."""
        kind = event.WhichOneof("body")
        if kind in ("harvest_judged", "rehearsal_answered"):
            path = tuple(getattr(event, kind).path)
            self._leaf_of[sequence] = self.world.places.leaf[self.world.places.by_path[path]]

    def answer(self, request: Event, time_us: int) -> Event:
        """The outcome of a request, as it would stand in the feedback log."""
        kind, body = getattr(self, f"_{codec.kind_of(request)}")(request)
        result = codec.result(request, _PRODUCERS[kind], time_us, kind, body)
        if kind == "harvest_judged":  # between request and verdict stood the answers, in their own topic
            result.cause_id = derived_id(RUN_ID, "answers_written", request.harvest_requested.request_hash)
        return result

    def _sprout_requested(self, request: Event) -> tuple[str, dict[str, Any]]:
        asked = request.sprout_requested
        place = self.world.places.by_path[tuple(asked.path)]
        key = (request.round, request.step, place)
        luck = (0, request.round, request.step, place, len(asked.known), asked.want, self._asked[key])
        self._asked[key] += 1
        found = self.world.found(*luck)
        if not found:
            failed = {"parent": asked.parent, "failure": Failure.REJECTED.value, "reason": "no source named a new one"}
            return "sprout_failed", failed
        by = max(len(self.models), self.settings.sprout.votes)
        names = [{"name": self.world.places.name[place], "votes": by} for place in found]
        proposals = [{"model": self.models[0], "text": name["name"], "votes": by} for name in names]
        common = {"parent": asked.parent, "prompts": self.settings.prompts}
        return "domains_sprouted", common | {"names": names, "proposals": proposals}

    def _harvest_requested(self, request: Event) -> tuple[str, dict[str, Any]]:
        asked = request.harvest_requested
        path, place = list(asked.path), (request.round, request.step, request.slot)
        common = {
            "path": path,
            "question": self._text(place, " > ".join(path)),
            "leader": asked.leader,
            "prompts": self.settings.prompts,
        }
        if asked.rehearsal:
            known = self._answer(place, self.target, asked.target_version)
            return "rehearsal_answered", common | {"answer": known}
        leaf = self.world.places.leaf[self.world.places.by_path[tuple(path)]]
        luck = self._luck_of(request.round, request.step)[:, request.slot]
        lost = bool(luck[0] < self.world.seen(self.world.weakness[0, leaf]))
        counted = bool(luck[1] >= self.world.model.no_verdict)
        answers = [self._answer(place, self.target, asked.target_version)]
        answers += [self._answer(place, source, "") for source in self.models]
        best = 1 + self.models.index(asked.leader) if lost else 0
        return "harvest_judged", common | {
            "target_version": asked.target_version,
            "answers": answers,
            "verdicts": self._verdicts(asked, best if counted else votes.ABSTAINED),
            "counted": counted,
            "best": best if counted else votes.ABSTAINED,
            "reward": int(counted and lost),
        }

    def _training_requested(self, request: Event) -> tuple[str, dict[str, Any]]:
        asked = request.training_requested
        leaves = [self._leaf_of[sample] for sample in asked.samples]
        self.world.train(np.bincount(leaves, minlength=self.world.places.leaves)[None, :])
        return "target_promoted", {"version": asked.version, "examples": len(asked.samples)}

    def _luck_of(self, round_: int, step: int) -> Any:
        if self._luck[0] != (round_, step):
            slots = self.settings.bandit.slots
            self._luck = ((round_, step), self.world.luck(0, round_, step, slots))
        return self._luck[1]

    def _answer(self, place: tuple[int, ...], model: str, version: str) -> dict[str, Any]:
        text = self._text((*place, model), "so")
        tokens = {"prompt_tokens": 12, "completion_tokens": max(1, len(text) // 5)}
        return {"model": model, "version": version, "text": text, "finish_reason": "stop", "seconds": 0.125} | tokens

    def _verdicts(self, asked: HarvestRequested, choice: int) -> list[dict[str, Any]]:
        """Every judge says the same, in every order that it is shown; an abstention is of all."""
        judging, candidates = self.settings.judging, range(1 + len(self.models))
        leads = judging.mode == JUDGING_MODE_LEADER
        told = {"reply": str(choice) if choice >= 0 else "none", "prompt_tokens": 40, "completion_tokens": 1}
        cast: list[dict[str, Any]] = []
        for judge in [asked.leader] if leads else self.models:
            place = (asked.request_hash, judge)
            for order in votes.orders(candidates, max(1, judging.verdicts), *place, target_first=leads):
                shown = [order, order[::-1]] if judging.both_orders else [order]
                for number, seen in enumerate(shown):
                    counted = choice >= 0 and number == 0
                    cast.append({"judge": judge, "order": seen, "choice": choice, "counted": counted} | told)
        return cast

    def _text(self, place: tuple[int | str, ...], begin: str) -> str:
        """Words until there are enough bytes: those of one place in a run are always the same, and no other's."""
        named = f"{begin} {' '.join(map(str, place))}"
        if self.text_bytes <= len(named):
            return named
        turn = sum(part for part in place if isinstance(part, int)) % len(_SENTENCE)
        return f"{named} {_SENTENCE[turn:]}{_SENTENCE * (1 + self.text_bytes // len(_SENTENCE))}"[: self.text_bytes]


@dataclass
class Recording:
    """A run by the bandit itself, event by event; `bandit` stands where the events that were given out left it."""

    model: DomainModel
    settings: Settings
    text_bytes: int = 0

    def __post_init__(self) -> None:
        self.bandit = Bandit(RUN_ID, self._now_us)
        self.answers = Answers(World.of(self.model, [self.settings.seed]), self.settings, self.text_bytes)

    def _now_us(self) -> int:
        return _START_US + _EVENT_US * self.bandit.state.sequence

    def events(self) -> Iterator[Event]:
        """All of them, in order."""
        places = self.answers.world.places
        given = [Domain(path=places.path(place)) for place in places.of_leaf] if self.model.given else []
        started = RunStarted(settings=self.settings, domains=given)
        first = codec.by_hand(RUN_ID, derived_id(RUN_ID, "run_started"), _START_US, "run_started", started)
        for sequence, event in enumerate(history(self.bandit, self._now_us, first, self.answers.answer)):
            self.answers.stands(sequence, event)
            yield event


def history(bandit: Bandit, now_us: Clock, first: Event, answer: Callable[[Event, int], Event]) -> Iterator[Event]:
    """The events of a run of `bandit` that begins with `first`, as they are folded: its decisions, and what `answer`
    gives for a request and a time, in the order in which it was asked for."""
    due = [first]
    while due:
        answers: list[Event] = []
        for event in due:
            before, time_us = bandit.state.sequence, now_us()
            bandit.fold(event)
            yield event
            asked = (_request(bandit.run_id, fact) for fact in requests(bandit.state, since=before))
            answers += [answer(request, time_us) for request in asked]
        for event in answers:
            bandit.fold(event)
            yield event
        due = bandit.tick()


def _request(run_id: str, fact: Fact) -> Event:
    """What a service would be sent, without the settings: who answers here has them."""
    body: dict[str, Any] = {fact.kind: fact.body}
    return Event(event_id=fact.event_id, run_id=run_id, round=fact.round, step=fact.step, slot=fact.slot, **body)


def write(folder: RunFolder, config: Config, events: Iterable[Event]) -> int:
    """A run's folder with these events, as the embedded host writes them; gives their number. Raises BadConfig where
    the folder is there already."""
    folder.create(config)
    return append(folder.log, events)


def append(file: Path, events: Iterable[Event]) -> int:
    """Appends events to a log, made if it is not there; gives their number."""
    return asyncio.run(_append(file, iter(events)))


async def _append(file: Path, events: Iterator[Event]) -> int:
    log, written = SqliteLog.open(file, create=True), 0
    try:
        while batch := [record_of(event) for event in islice(events, _RECORDS_AN_APPEND)]:
            await log.append(batch)
            written += len(batch)
    finally:
        await log.close()
    return written
