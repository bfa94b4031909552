"""What a run needs is away for two minutes: at the start, in the middle; the services wait, say so, and go on.

`make outages`. The broker's and the models' absences are lived through side by side, each on a cluster of its own.
"""

from __future__ import annotations

import asyncio
import json
import re
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

from bohdi.kafka_places import KafkaPlace
from bohdi.kafka_runs import by_hand
from bohdi.supervisor import SERVICES
from bohdi.verify_run import verify_on_kafka
from bohdi_common.core.state import ALL_ROUNDS_DONE
from bohdi_common.runtime.kafka_topics import Cluster as Topics
from devbroker.broker import Broker
from tests import scripted
from tests.kafka_runs.cluster import Cluster, cluster

AWAY_S = 120.0
TOLD_S = 45.0  # until every service says what is the matter
STARTED_S = 90.0
RUN_S = 240.0
_POLL_S = 2.0


async def test_who_is_away_for_two_minutes_is_waited_for(tmp_path: Path) -> None:
    await asyncio.gather(the_broker_away(tmp_path / "broker_away"), the_models_away(tmp_path / "models_away"))


async def the_broker_away(folder: Path) -> None:
    broker = Broker(folder / "broker")
    try:
        async with cluster(broker, folder, {scripted.LATENCY: "0.15"}, topics=False) as services:
            await waited_for(services, "no broker answers")
            await asyncio.to_thread(broker.start)
            await told(services, "no topic")
            await asyncio.to_thread(Topics(services.kafka).create)
            await told(services, "")
            place = await services.submit("run")
            await harvested(services, place, 5)
            broker.kill()
            await waited_for(services, "broker")
            await asyncio.to_thread(broker.start)
            await ends_clean(services, place)
    finally:
        broker.stop()


async def the_models_away(folder: Path) -> None:
    away = folder / "away"
    with Broker(folder / "broker") as broker:
        async with cluster(broker, folder, {scripted.LATENCY: "0.15", scripted.AWAY: str(away)}) as services:
            place = await services.submit("run")
            await harvested(services, place, 5)
            away.touch()
            await asyncio.sleep(AWAY_S)
            assert {(await health(url, "/live"))["ok"] for url in (await urls(services)).values()} == {True}
            away.unlink()
            state = await services.ended(place, RUN_S)
            if state.paused:
                assert "unavailable" in state.paused
                await asyncio.to_thread(by_hand, place, "run_resumed", {})
            await ends_clean(services, place)


async def ends_clean(services: Cluster, place: KafkaPlace) -> None:
    """No service was started twice, the run is at its end, and nothing is wrong with it."""
    state = await services.ended(place, RUN_S)
    assert state.finished == ALL_ROUNDS_DONE, state.paused
    assert services.supervisor.starts == dict.fromkeys(SERVICES, 1)
    assert verify_on_kafka(place)["problems"] == []


async def harvested(services: Cluster, place: KafkaPlace, count: int) -> None:
    async with asyncio.timeout(RUN_S):
        while (await asyncio.to_thread(services.state, place)).counts.get("harvests", 0) < count:
            await asyncio.sleep(0.5)


async def waited_for(services: Cluster, why: str) -> None:
    """Through the whole absence every service is alive, and soon not ready for the reason `why`."""
    since_s = time.monotonic()
    await told(services, why)
    while time.monotonic() < since_s + AWAY_S:
        for name, url in (await urls(services)).items():
            assert (await health(url, "/live"))["ok"], name
            ready = await health(url, "/ready")
            assert not ready["ok"], name
            assert why in ready["reason"], name
        await asyncio.sleep(_POLL_S)


async def told(services: Cluster, why: str) -> None:
    """Every service says within a bound that it is not ready for the reason `why`, or with "" that it is."""
    said: dict[str, str] = {}
    deadline_s = time.monotonic() + TOLD_S
    for name, url in (await urls(services)).items():
        while True:
            said[name] = (await health(url, "/ready"))["reason"]
            if bool(why) == bool(said[name]) and why in said[name]:
                break
            assert time.monotonic() < deadline_s, said
            await asyncio.sleep(0.5)


async def urls(services: Cluster) -> dict[str, str]:
    """Where each service says how it is: its first line tells."""
    found: dict[str, str] = {}
    async with asyncio.timeout(STARTED_S):
        while len(found) < len(SERVICES):
            lines = [re.search(r"(\w+): health on (\S+:\d+)", line) for line in services.lines]
            found = {line[1]: f"http://{line[2]}" for line in lines if line}
            await asyncio.sleep(0.1)
    return found


async def health(url: str, path: str) -> dict[str, Any]:
    return await asyncio.to_thread(_health, url + path)


def _health(url: str) -> dict[str, Any]:
    try:
        with urllib.request.urlopen(url, timeout=10) as answer:
            return dict(json.load(answer))
    except urllib.error.HTTPError as error:
        return dict(json.load(error))
