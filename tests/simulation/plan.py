"""What a schedule is made of, drawn from its seed: the runs, the machines, and which faults may come how often.

Every kind of fault is off in about half of the schedules, so that those which would drown the others are left out often
enough.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Any

from bohdi_common.events import topics
from bohdi_common.events.events_pb2 import Settings
from bohdi_common.runtime import config
from tests.simulation.weather import Weather

SERVICES = "services"  # five services over a broker, one run
TWO_BANDITS = "two bandits"  # the same with a second bandit most of the time
TWO_RUNS = "two runs"  # two runs on one broker
EMBEDDED = "embedded"  # all of it in one process on one log
MODES = (SERVICES, TWO_BANDITS, TWO_RUNS, EMBEDDED)

_SOURCES = ("a", "b", "c")
_ON_BROKER = (
    "crash", "crash", "crash_all", "second_worker", "lose_connection", "rebalance", "broker_away", "corrupt", "lag",
    "pause", "cancel", "second_bandit",
)  # fmt: skip
_EMBEDDED = ("crash", "crash", "stop", "pause", "cancel")
_NEVER = 10**9
_RARE = {"cancel": 0.08}


@dataclass(frozen=True)
class Plan:
    """`faults`: how many come before all cease, `turns_between` them on average; `partitions` of each topic; `capacity`
    of each worker and what it may hold unacknowledged for each in flight; a bandit's clock is ahead by `skew_us`; a
    snapshot of the fold is kept every so many records."""

    mode: str
    settings: list[Settings]
    faults: int
    turns_between: int
    kinds: tuple[str, ...]
    partitions: dict[str, int]
    capacity: int
    held: int
    skew_us: int
    saved_every: int

    @classmethod
    def of(cls, mode: str, chance: random.Random) -> Plan:
        kinds = tuple(
            kind for kind in (_EMBEDDED if mode == EMBEDDED else _ON_BROKER) if chance.random() < _RARE.get(kind, 0.5)
        )
        if mode == TWO_BANDITS:
            kinds += ("second_bandit", "lag")
        partitions = {topic.name: chance.randrange(1, 3) for topic in topics.TOPICS} | {topics.DEAD.name: 1}
        return cls(
            mode,
            [_settings(chance, run) for run in range(2 if mode == TWO_RUNS else 1)],
            faults=chance.randrange(2, 16),
            turns_between=chance.choice((30, 80, 200, 400)),
            kinds=kinds or ("crash",),
            partitions=partitions,
            capacity=chance.randrange(1, 5),
            held=chance.randrange(1, 4),
            skew_us=chance.choice((0, 0, 3_000_000, 40_000_000)),
            saved_every=chance.choice((3, 10, 40, _NEVER, _NEVER)),
        )


def weather(mode: str, chance: random.Random) -> Weather:
    """The rates of a schedule's faults while they last."""

    def rate(most: float) -> float:
        return chance.random() * most if chance.random() < 0.5 else 0.0

    drawn = Weather(chance, away=rate(0.2), refuse=rate(0.1), dawdle=rate(0.1), rubbish=rate(0.4), slow=rate(0.1))
    if mode == EMBEDDED:
        drawn.disk_full = rate(0.01)
    else:
        drawn.refused, drawn.acks_lost = rate(0.2), rate(0.2)
        drawn.torn, drawn.skips = rate(0.2), rate(0.3)
    return drawn


def _settings(chance: random.Random, run: int) -> Settings:
    """Of a run that is over after one or two rounds."""
    sources = _SOURCES[: chance.randrange(2, 4)]
    paper = chance.random() < 0.2
    bandit = {
        "rounds": chance.choice((1, 1, 2)),
        "steps": chance.choice((1, 1, 2)),
        "slots": chance.randrange(2, 5),
        "window": 2,
        "threshold": 0.9,
        "introspection": chance.choice(("off", "paper", "two_sample")),
        "lockstep": chance.random() < 0.25,
        "sprout_failures": 2,
        "leaf_failures": 2,
        "slot_failures": 2,
        "sprout_names": chance.choice((1, 2, 4)),
        "slot_timeout_s": chance.choice((20.0, 60.0, 300.0)),
        "rehearsal_questions": 0 if paper else chance.choice((0, 2)),
        "rehearsal_below": 0.7,
        "training_failures": chance.choice((1, 2)),
    }
    raw: dict[str, Any] = {
        "name": f"run-{run}",
        "preset": "paper" if paper else "default",
        "prompts": "micro-v1",
        "sources": [{"name": name, "path": name} for name in sources],
        "target": {"name": "target", "path": "target"},
        "bandit": bandit,
        "sprout": {"samples": 1, "votes": 1},
        "harvest": {"question_samples": 1},
        "training": {"batch": 2, "passes": 1.0},
    }
    return config.parse(raw, "schedule").settings(chance.randrange(1000), dict.fromkeys((*sources, "target"), ""))
