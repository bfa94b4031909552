"""Whole runs with scripted models of fixed latency, as a share of a schedule without overhead (`schedule`).

A ratio of 1: the run took as long as its calls alone, in the order of their dependencies, on `capacity` servers a pool.
What is timed is from the first draw to the end of the run, by the events' own times, of processes that did a small run
before it: neither their start nor the first reading of prompts and benchmark. `capacity` bounds the model calls in
flight of each pool: tree expansion, generation, judging, training. A call of 0.1 s is a fast one: at capacity 32 the
run then asks for more calls a second than two cores handle, and that is what its share shows; `latency_s` tells how it
is with models that take longer.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import shutil
from collections.abc import Iterable
from pathlib import Path

from benchmarks import kafka_there, schedule
from benchmarks.rows import Measured
from bohdi.embedded import Parts, Watcher, host_run, new_run
from bohdi.run_folder import RunFolder, resolved
from bohdi_common.core.state import ALL_ROUNDS_DONE, RunState
from bohdi_common.events import codec
from bohdi_common.events.events_pb2 import Event
from bohdi_common.events.topics import ANSWERS, FEEDBACK, HARVEST_REQUESTS, SPROUT_REQUESTS, TRAINING_REQUESTS
from bohdi_common.log.kafka_reader import KafkaReader
from bohdi_common.log.port import LogReader
from bohdi_common.log.sqlite_file import open_readonly
from bohdi_common.runtime import config as configs
from tests import scripted
from tests.kafka_runs.cluster import DEMO, cluster
from tests.scripted import Scripted, copied

WORK = Path("benchmarks/work/whole_runs")
_TOPICS = (SPROUT_REQUESTS, HARVEST_REQUESTS, ANSWERS, TRAINING_REQUESTS, FEEDBACK)
_SLOTS = {2: 16, 8: 32, 32: 64}  # of a step, by capacity: enough to keep the pools busy
_WARM = {"rounds": 1, "steps": 1, "slots": 4, "rehearsal_questions": 4}
_SOURCES = 3
_RUN_S = 120.0


def embedded(capacity: int, latency_s: float = 0.1) -> Measured:
    """On one SQLite log, all services in this process."""
    shutil.rmtree(WORK, ignore_errors=True)
    WORK.mkdir(parents=True)
    before = dict(os.environ)
    os.environ.update(told(capacity, latency_s))
    try:
        _hosted(RunFolder(WORK / "warm"), _WARM)
        folder = RunFolder(WORK / "run")
        _hosted(folder, size(capacity))
    finally:
        os.environ.clear()
        os.environ.update(before)
    log = open_readonly(folder.log)
    try:
        return measured(_events([log]), capacity, latency_s)
    finally:
        log.close_reading()


def _hosted(folder: RunFolder, bandit: dict[str, int]) -> None:
    parts = Parts(models=Scripted, fine_tune=copied)
    config = resolved(configs.load(DEMO, scripted.small(bandit)), DEMO.parent)
    new_run(config, folder, 1, parts)
    _check(asyncio.run(host_run(config, folder, parts, Watcher(), resume=False)))


def _check(state: RunState) -> None:
    if state.finished != ALL_ROUNDS_DONE:
        raise RuntimeError(f"the run ended otherwise: {state.finished or state.paused}")


def over_kafka(capacity: int, latency_s: float = 0.1) -> Measured:
    """Five services in processes of their own, on a broker."""
    return asyncio.run(_over_kafka(capacity, latency_s))


async def _over_kafka(capacity: int, latency_s: float) -> Measured:
    run_id = f"whole-{secrets.token_hex(4)}"
    folder = (kafka_there.WORK / run_id).absolute()
    async with cluster(kafka_there.broker(), folder, told(capacity, latency_s), topics=False) as services:
        warm = await services.submit(f"{run_id}-warm", 1, bandit=_WARM)
        _check(await services.ended(warm, _RUN_S))
        place = await services.submit(run_id, 1, bandit=size(capacity))
        _check(await services.ended(place, _RUN_S))
    readers = [KafkaReader(kafka_there.settings(), number) for number in range(max(t.partitions for t in _TOPICS))]
    try:
        return measured([event for event in _events(readers) if event.run_id == run_id], capacity, latency_s)
    finally:
        for reader in readers:
            reader.close_reading()


def size(capacity: int) -> dict[str, int]:
    """Of a run that takes seconds."""
    return {"rounds": 2, "steps": 2, "slots": _SLOTS[capacity], "rehearsal_questions": _SLOTS[capacity]}


def told(capacity: int, latency_s: float) -> dict[str, str]:
    """What the scripted models are told."""
    return {scripted.LATENCY: str(latency_s), scripted.FIXED: "1", scripted.IN_FLIGHT: str(capacity)}


def measured(events: Iterable[Event], capacity: int, latency_s: float) -> Measured:
    """From all events of a run."""
    events = list(events)
    nodes = schedule.graph(causes_first(events), _SOURCES)
    took_s = (_last(events, "run_finished") - _first(events, "paths_drawn")) / 1e6
    ideal_s = schedule.makespan_s(nodes, capacity, latency_s)
    least_s = schedule.least_s(nodes, capacity, latency_s)
    lockstep_s = schedule.lockstep_s(nodes, capacity, latency_s)
    calls = sum(schedule.calls(nodes).values())
    against = f"schedule {ideal_s:.1f}; {calls} calls: work / capacity {least_s:.1f}, lock step {lockstep_s:.1f}"
    return Measured(took_s, "s", against, ideal_s / took_s)


def _first(events: list[Event], kind: str) -> int:
    return min(event.time_us for event in events if codec.kind_of(event) == kind)


def _last(events: list[Event], kind: str) -> int:
    return max(event.time_us for event in events if codec.kind_of(event) == kind)


def _events(logs: Iterable[LogReader]) -> list[Event]:
    """Every event of every topic once, each topic in its order."""
    found: dict[str, Event] = {}
    for log in logs:
        for topic in _TOPICS:
            for stored in log.read(topic.name):
                event = codec.decode(stored.value)
                found.setdefault(event.event_id, event)
    return list(found.values())


def causes_first(events: list[Event]) -> list[Event]:
    """The feedback log's events in its order, each behind what had to be there before it."""
    by_id = {event.event_id: event for event in events}
    ordered: dict[str, Event] = {}
    for event in (event for event in events if codec.topic_of(event) is FEEDBACK):
        chain = [event]
        while (cause := by_id.get(chain[-1].cause_id)) is not None and cause.event_id not in ordered:
            chain.append(cause)
        ordered |= {link.event_id: link for link in reversed(chain)}
    return list(ordered.values())
