"""Events through one service whose handler does nothing, over a real broker: our host against what it is built on.

A ratio of 1 is as many events a second as the other program (benchmarks/bare_services.py) on the same broker with the
same input; above 1 ours is faster. Ours keeps up to its capacity of events in flight and makes their outputs durable
together; the bare ones wait for each output before they take the next event.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

from benchmarks import kafka_there
from benchmarks.rows import Measured
from bohdi_common.events import codec
from bohdi_common.events.events_pb2 import SproutRequested
from bohdi_common.events.topics import FEEDBACK, SPROUT_REQUESTS
from bohdi_common.log.kafka_reader import KafkaReader
from bohdi_common.log.kafka_records import partition_of
from bohdi_common.log.kafka_writer import KafkaWriter
from bohdi_common.log.port import Record
from bohdi_common.runtime.shell import record_of

EVENTS = 5_000
_FILLED_AT_ONCE = 500
_POLL_S = 0.02
_SETTLE_S = 5.0  # until all processes have joined and filled their buffers
_LIMIT_S = 120.0
_WARM = 0.2  # share of the events that are not timed


def per_second(against: str, partitions: int = 1, workers: int = 1) -> Measured:
    """`against`: faust or aiokafka. Both ran in turns; the best turn of each counts."""
    ours = best("ours", partitions, workers)
    bare = best(against, partitions, workers)
    what = "a bare faust agent" if against == "faust" else "a bare aiokafka loop"
    return Measured(ours, "events/s", f"{what}, {bare:,.0f}", ours / bare)


def best(which: str, partitions: int, workers: int) -> float:
    """Events a second in the best turn."""
    return turns(partitions, workers)[which]


@cache
def turns(partitions: int, workers: int) -> dict[str, float]:
    """Every program's best of the turns, which they take one after the other."""
    kinds = ("ours", "faust", "aiokafka") if (partitions, workers) == (1, 1) else ("ours", "faust")
    # Several shapes are compared with the same program each: the plain one is timed with more care.
    rates = [{kind: once(kind, partitions, workers) for kind in kinds} for _ in range(2 if len(kinds) > 2 else 1)]
    return {kind: max(rate[kind] for rate in rates) for kind in kinds}


def once(which: str, partitions: int, workers: int) -> float:
    """Events a second of one run, from a fifth of the way on until the last output stands in the feedback topic."""
    kafka, run_id = kafka_there.settings(), f"bench-{secrets.token_hex(4)}"
    kafka_there.make_topics(kafka, {run_id: partitions})
    asyncio.run(_fill(run_id, partitions))
    reader = KafkaReader(kafka, partition_of(run_id, FEEDBACK.partitions))
    gate = kafka_there.WORK / f"{run_id}.gate"
    try:
        start = reader.end(FEEDBACK.name)
        with _started(which, run_id, gate, workers) as processes:
            time.sleep(_SETTLE_S)
            gate.touch()
            first_s, first = _reached(reader, start + round(_WARM * EVENTS), processes)
            last_s, last = _reached(reader, start + EVENTS, processes)
    finally:
        reader.close_reading()
    return (last - first) / (last_s - first_s)


async def _fill(run_id: str, partitions: int) -> None:
    """Sprout requests, evenly over the partitions of the topic that is named as the run."""
    for partition in range(partitions):
        writer = KafkaWriter(kafka_there.settings(), partition=partition)
        try:
            for start in range(0, EVENTS // partitions, _FILLED_AT_ONCE):
                numbers = range(start, min(start + _FILLED_AT_ONCE, EVENTS // partitions))
                await writer.append([_request(run_id, f"{partition}-{number}") for number in numbers])
        finally:
            await writer.close()


def _request(run_id: str, name: str) -> Record:
    body = SproutRequested(request_hash=name, path=["a", "b"], want=3)
    record = record_of(codec.by_hand(run_id, name, 1, "sprout_requested", body))
    assert record.topic == SPROUT_REQUESTS.name
    return Record(run_id, record.key, record.event_id, record.value)


@contextmanager
def _started(which: str, topic: str, gate: Path, workers: int) -> Iterator[list[subprocess.Popen[bytes]]]:
    command = [sys.executable, "-W", "ignore", "-m", "benchmarks.bare_services", which, topic, topic, str(gate)]
    environment = {**os.environ, **kafka_there.broker().environment}
    with (kafka_there.WORK / f"{topic}.log").open("wb") as log:
        processes = [
            subprocess.Popen(command, env=environment, stdout=log, stderr=log, start_new_session=True)
            for _ in range(workers)
        ]
        try:
            yield processes
        finally:
            for process in processes:
                process.kill()
                process.wait()


def _reached(reader: KafkaReader, end: int, processes: list[subprocess.Popen[bytes]]) -> tuple[float, int]:
    """When the feedback topic had so many records, and how many it had."""
    deadline_s = time.perf_counter() + _LIMIT_S
    while time.perf_counter() < deadline_s:
        now, now_s = reader.end(FEEDBACK.name), time.perf_counter()
        if now >= end:
            return now_s, now
        if any(process.poll() is not None for process in processes):
            raise RuntimeError(f"a service ended: see the last .log in {kafka_there.WORK}")
        time.sleep(_POLL_S)
    raise TimeoutError(f"{now} records of {end} after {_LIMIT_S:.0f} s: see the last .log in {kafka_there.WORK}")
