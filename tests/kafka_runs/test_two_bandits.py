"""Two bandits at once, by accident, through whole runs: what both decide counts once."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

from bohdi.verify_run import verify_on_kafka
from bohdi_common.core.state import ALL_ROUNDS_DONE
from bohdi_common.events import codec
from bohdi_common.events.topics import FEEDBACK
from devbroker.broker import Broker
from tests.kafka_runs.cluster import cluster

RUN_S = 200
DECISIONS = ("paths_drawn", "slot_continued", "training_drawn", "run_finished")


async def test_two_bandits_through_whole_runs_do_no_harm(own_broker: Broker, tmp_path: Path) -> None:
    async with cluster(own_broker, tmp_path, {"SCRIPTED_LATENCY_S": "0.05"}) as services:
        second = await asyncio.create_subprocess_exec(
            sys.executable, "-W", "ignore", "-m", "tests.scripted.bandit",
            env={**os.environ, **services.supervisor.environment},
            stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL,
        )  # fmt: skip
        try:
            places = [await services.submit(name, seed) for seed, name in enumerate(("one", "other"))]
            states = await asyncio.gather(*(services.ended(place, RUN_S) for place in places))
            assert second.returncode is None
            assert services.supervisor.starts["bandit"] == 1
        finally:
            second.terminate()
            await asyncio.wait_for(second.wait(), 30)
    for place, state in zip(places, states, strict=True):
        assert state.finished == ALL_ROUNDS_DONE, state.paused
        assert verify_on_kafka(place)["problems"] == []
    records = [stored.event_id for place in places for stored in place.reader().read(FEEDBACK.name)]
    kinds = [
        codec.kind_of(codec.decode(stored.value)) for place in places for stored in place.reader().read(FEEDBACK.name)
    ]
    drawn_twice = len(records) - len(set(records))
    assert drawn_twice > 0, "the second bandit decided nothing: this shows nothing"
    assert {kind for kind in kinds if kind in DECISIONS} == set(DECISIONS)
