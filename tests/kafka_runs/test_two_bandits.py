"""Two bandits at once, by accident, through whole runs: what both decide counts once, and both are of one mind.

The bandit is in no consumer group: each of the two folds all runs and decides in all of them, none is idle.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import islice
from pathlib import Path

from bohdi.kafka_places import KafkaPlace
from bohdi.kafka_runs import by_hand
from bohdi.verify_run import verify_on_kafka
from bohdi_common.core.state import ALL_ROUNDS_DONE, RunState, state_sha256
from bohdi_common.events import codec
from bohdi_common.events.topics import FEEDBACK, HARVEST_REQUESTS
from bohdi_common.log.port import Stored
from bohdi_common.runtime.feedback import events_of
from bohdi_common.runtime.service_main import SNAPSHOTS
from devbroker.broker import Broker
from services.bandit.handler import folded
from services.bandit.snapshots import Snapshots
from tests.kafka_runs.cluster import Cluster, cluster

RUN_S = 200
DECISIONS = ("paths_drawn", "slot_continued", "training_drawn", "run_finished")


async def test_two_bandits_through_whole_runs_do_no_harm(own_broker: Broker, tmp_path: Path) -> None:
    async with cluster(own_broker, tmp_path, {"SCRIPTED_LATENCY_S": "0.05"}) as services:
        async with second_bandit(services, tmp_path / "second"):
            places = [await services.submit(name, seed) for seed, name in enumerate(("one", "other"))]
            states = await asyncio.gather(*(services.ended(place, RUN_S) for place in places))
            account = await services.accounted(places)
            paused = await services.submit("paused")
            while services.state(paused).counts.get("harvests", 0) < 5:
                await asyncio.sleep(0.2)
            await asyncio.to_thread(by_hand, paused, "run_paused", {"reason": "to be looked at"})
            assert (await services.ended(paused, RUN_S)).paused
        assert services.supervisor.starts["bandit"] == 1
    for place, state in zip(places, states, strict=True):
        assert state.finished == ALL_ROUNDS_DONE, state.paused
        assert verify_on_kafka(place)["problems"] == []
        # Up to where it was seen to be over: the second bandit may say so too, later, which counts as late.
        until_then = islice(events_of(place.reader(), place.run_id), state.sequence)
        assert state_sha256(folded(until_then, place.run_id)) == state_sha256(state)
    assert (account.lost, account.double_counted) == ([], [])
    assert account.settled > 0
    twice_decided = [kind for place in places for kind in twice(list(place.reader().read(FEEDBACK.name)))]
    assert set(twice_decided) >= set(DECISIONS), "the second bandit decided too little: this shows nothing"
    asked = [stored for place in places for stored in place.records(HARVEST_REQUESTS.name)]
    assert twice(asked), "nothing was asked twice: this shows nothing"
    for store in (tmp_path / "store", tmp_path / "second"):
        offset, said = as_kept(store, paused)
        assert said.counts["harvests"] > 0
        assert state_sha256(said) == state_sha256(replayed(paused, offset)), store


@asynccontextmanager
async def second_bandit(services: Cluster, store: Path) -> AsyncIterator[None]:
    """Another bandit on the same log, alive all the time; ended in order it leaves in `store` what it made of it."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-W", "ignore", "-m", "tests.scripted.bandit",
        env={**os.environ, **services.supervisor.environment, "BOHDI_STORE": str(store)},
        stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    try:
        yield
        assert process.returncode is None
    finally:
        if process.returncode is None:
            process.terminate()
        assert await asyncio.wait_for(process.wait(), 30) == 0


def twice(records: list[Stored]) -> list[str]:
    """Kinds of the events that stand there a second time."""
    seen: set[str] = set()
    found = []
    for stored in records:
        if stored.event_id in seen:
            found.append(codec.kind_of(codec.decode(stored.value)))
        seen.add(stored.event_id)
    return found


def as_kept(store: Path, place: KafkaPlace) -> tuple[int, RunState]:
    """What a bandit that ended says of the run, and of which offset of the log."""
    snapshots = Snapshots(store / SNAPSHOTS / f"bandit-{place.partition}.snapshot")
    ids = {stored.offset: stored.event_id for stored in place.reader().read(FEEDBACK.name)}
    offset, runs = snapshots.load(ids.get)
    return offset, runs.going[place.run_id].state


def replayed(place: KafkaPlace, stop: int) -> RunState:
    """The run folded from nothing, up to an offset."""
    return folded(events_of(place.reader(), place.run_id, stop), place.run_id)
