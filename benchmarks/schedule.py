"""What a run would take if nothing but the models took time: a schedule of the calls that the run's own log names.

`graph` reads from a run's events which calls each needed and which events had to be there before: the same draws, the
same outcomes. `makespan_s` then lets every call last `latency_s` on one of `capacity` servers of its pool, first come
first served; decisions, logs and services cost nothing. That is no bound (another order may be shorter by a little), it
is what a program without overhead would take. `least_s`, calls times latency by capacity of the fullest pool, is a
bound; `lockstep_s` is what the same calls take when each phase of a step waits for the last of the one before.
"""

from __future__ import annotations

import heapq
import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from bohdi_common.events import codec
from bohdi_common.events.events_pb2 import Event

SPROUT, ASK, ANSWER, VERDICT, TRAIN, TRIAL = "sprout", "ask", "answer", "verdict", "train", "trial"
POOL = {SPROUT: "tree", ASK: "generation", ANSWER: "generation", VERDICT: "judging", TRAIN: "train", TRIAL: "training"}
_BARRIERS = ("paths_drawn", "nodes_reborn", "training_drawn", "run_finished")


@dataclass(frozen=True)
class Stage:
    """Calls that are made at once; the stage is over when the last of them is."""

    phase: str
    calls: int


@dataclass
class Node:
    """An event: what it waits for (indices of nodes), and the calls, stage by stage, that lead to it then. `part`
    counts the barriers before it: the steps of the run, the trainings, the introspections."""

    kind: str
    needs: set[int]
    stages: list[Stage]
    part: int
    depth: int = field(default=0)


def graph(events: Iterable[Event], sources: int) -> list[Node]:
    """`events`: of all topics, causes before what they caused, the feedback log's in its order."""
    nodes: list[Node] = []
    place: dict[str, int] = {}
    slot_drawn: dict[tuple[int, int, int], int] = {}
    part, since = 0, 0
    for event in events:
        kind = codec.kind_of(event)
        needs = {place[event.cause_id]} if event.cause_id in place else set()
        if kind in _BARRIERS:  # decided when all that was asked before it is settled
            needs, part, since = set(range(since, len(nodes))), part + 1, len(nodes)
        if kind == "slot_continued":
            slot = (event.round, event.step, event.slot)
            needs |= {slot_drawn[slot]} if slot in slot_drawn else set()
            slot_drawn[slot] = len(nodes)
        depth = max((nodes[need].depth for need in needs), default=0) + (kind == "slot_continued")
        place[event.event_id] = len(nodes)
        nodes.append(Node(kind, needs, stages_of(event, sources), part, 0 if kind in _BARRIERS else depth))
    return nodes


def stages_of(event: Event, sources: int) -> list[Stage]:
    """The calls between the request that an event answers and the event."""
    kind = codec.kind_of(event)
    if kind in ("domains_sprouted", "sprout_failed"):
        return [Stage(SPROUT, sources)]
    if kind == "answers_written":
        return [Stage(ASK, 1), Stage(ANSWER, 1 + sources)]
    if kind == "rehearsal_answered":
        return [Stage(ASK, 1), Stage(ANSWER, 1)]
    if kind == "harvest_failed" and event.harvest_failed.stage in ("question", "gate"):
        return [Stage(ASK, 1)]
    if kind == "harvest_judged" and event.harvest_judged.verdicts:
        return [Stage(VERDICT, len(event.harvest_judged.verdicts))]
    if kind == "target_promoted":
        return [Stage(TRAIN, 1), Stage(TRIAL, 1)]
    return []


def calls(nodes: Sequence[Node]) -> Counter[str]:
    """Calls by pool."""
    counted: Counter[str] = Counter()
    for node in nodes:
        for stage in node.stages:
            counted[POOL[stage.phase]] += stage.calls
    return counted


def least_s(nodes: Sequence[Node], capacity: int, latency_s: float) -> float:
    """No schedule is shorter: the fullest pool works without a pause."""
    return max(calls(nodes).values(), default=0) * latency_s / capacity


def lockstep_s(nodes: Sequence[Node], capacity: int, latency_s: float) -> float:
    """Within a step first all sprouts, those of one depth after those of the one before, then all questions, then all
    answers, then all verdicts."""
    phases: Counter[tuple[int, int, str]] = Counter()
    for node in nodes:
        for stage in node.stages:
            phases[node.part, node.depth if stage.phase == SPROUT else 0, stage.phase] += stage.calls
    return sum(math.ceil(count / capacity) * latency_s for count in phases.values())


def makespan_s(nodes: Sequence[Node], capacity: int, latency_s: float) -> float:
    """When the last event is there."""
    return _Run(nodes, capacity, latency_s).last_s()


class _Run:
    """One simulation: events in the order of time, calls that wait in the order in which they came."""

    def __init__(self, nodes: Sequence[Node], capacity: int, latency_s: float) -> None:
        self._nodes, self._latency_s = nodes, latency_s
        self._free = dict.fromkeys(POOL.values(), capacity)
        self._queue: defaultdict[str, list[int]] = defaultdict(list)
        self._left = [len(node.needs) for node in nodes]
        self._then: defaultdict[int, list[int]] = defaultdict(list)
        self._stage = [-1] * len(nodes)
        self._open = [0] * len(nodes)
        self._done: list[tuple[float, int, int]] = []  # when a call ends, in which order it began, whose it is
        self._begun = 0
        for number, node in enumerate(nodes):
            for need in node.needs:
                self._then[need].append(number)

    def last_s(self) -> float:
        now_s, waited = 0.0, list(self._left)
        for number, left in enumerate(waited):
            if not left:
                self._next_stage(number, now_s)
        while self._done:
            now_s, _, number = heapq.heappop(self._done)
            pool = POOL[self._nodes[number].stages[self._stage[number]].phase]
            self._free[pool] += 1
            self._open[number] -= 1
            if not self._open[number]:
                self._next_stage(number, now_s)
            self._begin(pool, now_s)
        assert not any(self._left), "events wait for each other"
        return now_s

    def _next_stage(self, number: int, now_s: float) -> None:
        """Queues a node's next calls; with none left the event is there, and with it what waited for it alone."""
        ready = [number]
        while ready:
            number = ready.pop()
            self._stage[number] += 1
            stages = self._nodes[number].stages
            if self._stage[number] < len(stages):
                stage = stages[self._stage[number]]
                self._open[number] = stage.calls
                self._queue[POOL[stage.phase]] += [number] * stage.calls
                self._begin(POOL[stage.phase], now_s)
                continue
            for follower in self._then[number]:
                self._left[follower] -= 1
                if not self._left[follower]:
                    ready.append(follower)

    def _begin(self, pool: str, now_s: float) -> None:
        queue, free = self._queue[pool], self._free[pool]
        starting = queue[:free]
        del queue[:free]
        self._free[pool] -= len(starting)
        for number in starting:
            heapq.heappush(self._done, (now_s + self._latency_s, self._begun, number))
            self._begun += 1
