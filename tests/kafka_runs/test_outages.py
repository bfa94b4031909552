"""What a run needs is away for two minutes: at the start, in the middle; the services wait, say so, and go on.

The absences are lived through side by side, each on a cluster of its own, and begin with the first test.
"""

from __future__ import annotations

import asyncio
import json
import re
import time
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path

import pytest
import pytest_asyncio

from bohdi.cli import Exit
from bohdi.kafka_places import KafkaPlace
from bohdi.supervisor import SERVICES
from bohdi.verify_run import verify_on_kafka
from bohdi_common.core.state import ALL_ROUNDS_DONE
from bohdi_common.runtime.kafka_topics import Cluster as Topics
from devbroker.broker import Broker
from tests import scripted
from tests.kafka_runs.cluster import Cluster, cluster
from tests.kafka_runs.test_cli import bohdi

AWAY_S = 120.0
TOLD_S = 45.0  # until every service says what is the matter
STARTED_S = 90.0
RUN_S = 240.0
_POLL_S = 2.0
_SLOW = {scripted.LATENCY: "0.15"}

Scenario = Callable[[Path], Coroutine[None, None, None]]
pytestmark = pytest.mark.asyncio(loop_scope="module")


async def the_broker_away_at_the_start(folder: Path) -> None:
    broker = Broker(folder / "broker")
    try:
        async with cluster(broker, folder, topics=False) as services:
            await waited_for(services, f"{broker.bootstrap}: no broker answers")
            await asyncio.to_thread(broker.start)
            await told(services, "no topic")
            await asyncio.to_thread(Topics(services.kafka).create)
            await told(services, "")
            await ends_clean(services, await services.submit("run"))
    finally:
        broker.stop()


async def the_broker_killed_in_the_middle(folder: Path) -> None:
    with Broker(folder / "broker") as broker:
        async with cluster(broker, folder, _SLOW) as services:
            places = [await services.submit(name, seed) for seed, name in enumerate(("one", "other"))]
            await told(services, "")
            for place in places:
                await harvested(services, place, 5)
            broker.kill()
            await waited_for(services, "broker")
            await asyncio.to_thread(broker.start)
            await ends_clean(services, *places)


async def the_models_away(folder: Path) -> None:
    away = folder / "away"
    with Broker(folder / "broker") as broker:
        async with cluster(broker, folder, {**_SLOW, scripted.AWAY: str(away)}) as services:
            place = await services.submit("run")
            await harvested(services, place, 5)
            away.touch()
            await alive_for(services, AWAY_S)
            away.unlink()
            state = await services.ended(place, RUN_S)
            assert "models were unavailable" in state.paused, "it was not paused: the absence was too short"
            assert (await bohdi(broker, "resume", "--run", "run")).returncode == Exit.DONE
            await ends_clean(services, place)


SCENARIOS: tuple[Scenario, ...] = (
    the_broker_away_at_the_start,
    the_broker_killed_in_the_middle,
    the_models_away,
)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def begun(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[dict[Scenario, asyncio.Task[None]]]:
    """All absences, under way at once: each is two minutes of waiting."""
    under_way = {s: asyncio.create_task(s(tmp_path_factory.mktemp("outage"))) for s in SCENARIOS}
    yield under_way
    for task in under_way.values():
        task.cancel()
    await asyncio.gather(*under_way.values(), return_exceptions=True)


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.__name__)
async def test_who_is_away_for_two_minutes_is_waited_for(
    begun: dict[Scenario, asyncio.Task[None]], scenario: Scenario
) -> None:
    await begun[scenario]


async def ends_clean(services: Cluster, *places: KafkaPlace) -> None:
    """No service was started twice, the runs are at their end, nothing is wrong with them, every slot settled once."""
    for place in places:
        state = await services.ended(place, RUN_S)
        assert state.finished == ALL_ROUNDS_DONE, state.paused
        assert (await asyncio.to_thread(verify_on_kafka, place))["problems"] == []
    account = await services.accounted(places)
    assert (account.lost, account.double_counted) == ([], [])
    assert account.settled > 0
    assert services.supervisor.starts == dict.fromkeys(SERVICES, 1)


async def harvested(services: Cluster, place: KafkaPlace, count: int) -> None:
    async with asyncio.timeout(RUN_S):
        while (await asyncio.to_thread(services.state, place)).counts.get("harvests", 0) < count:
            await asyncio.sleep(0.5)


# ---- what the services say of themselves -------------------------------------------------------------------------


async def waited_for(services: Cluster, why: str) -> None:
    """Through the whole absence every service is alive, and soon not ready for the reason `why`."""
    since_s = time.monotonic()
    await told(services, why)
    while time.monotonic() < since_s + AWAY_S:
        for name, url in (await urls(services)).items():
            assert await said(url, "/live") == (200, ""), name
            status, reason = await said(url, "/ready")
            assert (status, why in reason) == (503, True), (name, reason)
        await asyncio.sleep(_POLL_S)


async def alive_for(services: Cluster, seconds: float) -> None:
    until_s = time.monotonic() + seconds
    while time.monotonic() < until_s:
        for name, url in (await urls(services)).items():
            assert await said(url, "/live") == (200, ""), name
        await asyncio.sleep(_POLL_S)


async def told(services: Cluster, why: str) -> None:
    """Every service says within a bound that it is not ready for the reason `why`, or with "" that it is."""
    reasons: dict[str, str] = {}
    deadline_s = time.monotonic() + TOLD_S
    for name, url in (await urls(services)).items():
        while True:
            _, reasons[name] = await said(url, "/ready")
            if bool(why) == bool(reasons[name]) and why in reasons[name]:
                break
            assert time.monotonic() < deadline_s, reasons
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


async def said(url: str, path: str) -> tuple[int, str]:
    """The status and the reason that a service answers."""
    return await asyncio.to_thread(_said, url + path)


def _said(url: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(url, timeout=10) as answer:
            return answer.status, json.load(answer)["reason"]
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)["reason"]
