"""A run recorded in memory: the bandit and the services' own handlers in their shells, models that are scripted.

Not for what a run costs or learns, but for logs that are as real ones are: sprouts that fail, judges that abstain,
models that are away, slots that expire and are answered late.
"""

from __future__ import annotations

import asyncio
import hashlib
import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from bohdi_common.core.held_back import is_held_back
from bohdi_common.core.ids import derived_id
from bohdi_common.core.state import Failure, RunState
from bohdi_common.events import codec
from bohdi_common.events.events_pb2 import Domain, Event, RunStarted, Settings
from bohdi_common.log.port import Record, Stored
from bohdi_common.models.port import Message, ModelBlocked, ModelRef, ModelUnavailable, Sampling
from bohdi_common.models.scripted import ScriptedModels
from bohdi_common.models.versions import VersionStore
from bohdi_common.runtime import config
from bohdi_common.runtime.shell import Retries, Shell
from services.bandit.handler import Bandit
from services.generation.handler import Generation
from services.generation.near_duplicates import EarlierQuestions
from services.judging.handler import Judging
from services.tree_expansion.handler import TreeExpansion

SOURCES = ("a", "b", "c")
_WIDTH = 3  # children of a node, then nothing is missing


def settings(seed: int, **sections: Any) -> Settings:
    """Resolved settings of a small run; `sections` are laid over its configuration."""
    bandit = {
        "rounds": 2, "steps": 2, "slots": 10, "window": 4, "rehearsal_questions": 6, "rehearsal_below": 0.7,
        "sprout_failures": 2, "leaf_failures": 3, "slot_failures": 3, "threshold": 0.9, "slot_timeout_s": 60,
    }  # fmt: skip
    raw = {
        "name": "recorded",
        "prompts": "micro-v1",
        "sources": [{"name": name, "path": name} for name in SOURCES],
        "target": {"name": "target", "path": "target"},
        **sections,
        "bandit": bandit | sections.get("bandit", {}),
        "training": {"batch": 4, "passes": 1.0} | sections.get("training", {}),
    }
    return config.parse(raw, "recorded run").settings(seed, dict.fromkeys((*SOURCES, "target"), ""))


@dataclass
class RecordedRun:
    """Shares: `away` of the model calls fail, `blocked` do until the run is resumed (and half of the trainings then);
    `withheld` of the requests are answered only after they expired; `twice` of the feedback events are there twice;
    before `disturbed` of the actions somebody pauses the run, resumes it though it is not paused, or kills the bandit
    and resumes; at action `cancelled` somebody ends the run."""

    run_id: str = "run"
    seed: int = 1
    settings: Settings | None = None
    domains: tuple[tuple[str, ...], ...] = ()
    versions: VersionStore | None = None
    away: float = 0.0
    blocked: float = 0.0
    withheld: float = 0.0
    twice: float = 0.0
    disturbed: float = 0.0
    cancelled: int = -1
    feedback: list[Event] = field(default_factory=list)
    requests: list[Event] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.now_us = 1_000_000
        self._random, self._people = random.Random(self.seed), random.Random(self.seed)
        self._ids: set[str] = set()
        self._inbox: list[Event] = []
        self._kept_back: list[Event] = []
        self._read = 0
        models = ScriptedModels(self._reply)
        retries = Retries(times=0)
        self._shells = {
            shell.service.topic.name: shell
            for shell in (
                Shell(TreeExpansion(models, self._clock), self._clock, retries),
                Shell(Generation(models, EarlierQuestions(lambda _: self), clock=self._clock), self._clock, retries),
                Shell(Judging(models, self._clock), self._clock, retries),
            )
        }

    def run(self, actions_max: int = 100_000) -> RunState:
        """To the end of the run; paused runs are resumed."""
        self._bandit = bandit = Bandit(self.run_id, self._clock)
        started = RunStarted(
            settings=self.settings or settings(self.seed), domains=[Domain(path=path) for path in self.domains]
        )
        self._append([self._command("run_started", started)])
        for action in range(actions_max):
            if action == self.cancelled:
                self._append([self._command("run_finished", {"reason": "cancelled by hand"})])
            if self._people.random() < self.disturbed and not self._bandit.state.finished:
                self._disturb()
            bandit = self._bandit
            if self._read < len(self.feedback):
                self._read += 1
                self._append(bandit.handle(self.feedback[self._read - 1]))
            elif bandit.state.finished and self._kept_back:
                self._settle(self._kept_back)
            elif bandit.state.finished and self.cancelled >= 0 and self._inbox:
                self._work(self._inbox.pop())
            elif bandit.state.finished:
                return bandit.state
            elif bandit.state.paused and (not self._inbox or self._people.random() < 0.3):
                self._append([self._command("run_resumed", {})])
            elif self._inbox:
                self._work(self._inbox.pop(self._random.randrange(len(self._inbox))))
            else:
                self.now_us += 61_000_000
                self._append(bandit.tick())
                self._settle(self._kept_back)
        raise AssertionError(f"not over after {actions_max} actions")

    def _disturb(self) -> None:
        kind, body = self._people.choice([("run_paused", {"reason": "a person"}), ("run_resumed", {})])
        self._append([self._command(kind, body)])
        if kind == "run_resumed" and self._people.random() < 0.5:
            self._bandit = Bandit(self.run_id, self._clock)
            for event in self.feedback:
                self._bandit.fold(event)
            self._read = len(self.feedback)
            self._append(self._bandit.start())

    def _settle(self, late: list[Event]) -> None:
        while late:
            self._answer(late.pop())

    def _clock(self) -> int:
        return self.now_us

    def _command(self, kind: str, body: Any) -> Event:
        event_id = derived_id(self.run_id, kind, len(self.feedback))
        written = Event(event_id=event_id, run_id=self.run_id, time_us=self.now_us, schema_version=1, producer="cli")
        written.MergeFrom(Event(**{kind: body}))
        return written

    def _append(self, events: list[Event]) -> None:
        """As a log would: the first event of an id stays."""
        self.now_us += 1
        for event in events:
            if event.event_id in self._ids:
                continue
            self._ids.add(event.event_id)
            if codec.topic_of(event).name == "bohdi.feedback":
                self.feedback += [event] * (1 + (self._random.random() < self.twice))
            else:
                self.requests.append(event)
                self._inbox.append(event)

    def read(self, topic: str, start: int = 0, stop: int | None = None) -> Iterator[Stored]:
        """The feedback log, as its port says."""
        for offset, event in enumerate(self.feedback[start:stop], start):
            yield Stored(topic, offset, event.run_id, event.event_id, codec.encode(event))

    def end(self, topic: str) -> int:
        """As the port says."""
        return len(self.feedback)

    def _work(self, request: Event) -> None:
        keep = codec.kind_of(request) != "training_requested" and self._random.random() < self.withheld
        if keep:
            self._kept_back.append(request)
        else:
            self._answer(request)

    def _answer(self, request: Event) -> None:
        if codec.kind_of(request) == "training_requested":
            return self._append([self._trained(request)])
        topic = codec.topic_of(request).name
        stored = Stored(topic, 0, "", request.event_id, codec.encode(request))
        records: list[Record] = asyncio.run(self._shells[topic].process(stored))
        return self._append([codec.decode(record.value) for record in records])

    def _trained(self, request: Event) -> Event:
        asked = request.training_requested
        if self.blocked and self._random.random() < 0.5:
            failed = {"version": asked.version, "failure": Failure.BLOCKED.value, "reason": "the disk is full"}
            return codec.result(request, "training", self.now_us, "training_failed", failed)
        digest = ""
        if self.versions is not None:
            folder = self.versions.aside(asked.version)
            (folder / "weights").write_text(f"weights of {asked.version}")
            digest = self.versions.publish(asked.version, folder, {"request_hash": asked.request_hash})
        share = asked.settings.training.held_back_share
        examples = sum(not is_held_back(request.run_id, sample, share) for sample in asked.samples)
        body = {"version": asked.version, "manifest_digest": digest, "examples": examples}
        return codec.result(request, "training", self.now_us, "target_promoted", body)

    def _reply(self, model: ModelRef, messages: list[Message], sampling: Sampling) -> list[str]:
        if self._random.random() < self.away:
            raise ModelUnavailable(f"{model.name} is away")
        if self.blocked and self._random.random() < self.blocked:
            raise ModelBlocked(f"{model.name} refused the key")
        prompt = messages[-1]["content"]
        return [self._text(model, prompt, n) for n in range(sampling.n)]

    def _text(self, model: ModelRef, prompt: str, n: int) -> str:
        chance = hashlib.sha256(f"{self.seed}/{model.name}/{model.version}/{prompt}/{n}".encode()).digest()
        if prompt.startswith("Propose: "):
            place, *known = prompt.removeprefix("Propose: ").split(" | ")
            level = place.count(" > ")
            missing = [f"{'msl'[level]}{i}" for i in range(_WIDTH) if f"{'msl'[level]}{i}" not in known]
            return missing[chance[0] % len(missing)] if missing else "none"
        if prompt.startswith("Ask: "):
            return f"what is {prompt.removeprefix('Ask: ')} {self._random.randrange(1000)}"
        if prompt.startswith("Judge: "):
            shown = prompt.split(" | ")[1:]
            return sorted(shown)[chance[0] % 2] if chance[1] % 8 else "none"
        return ("", "one", "two", "two")[chance[0] % 4] if chance[1] % 4 else "three"
