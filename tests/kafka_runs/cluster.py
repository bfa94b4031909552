"""A broker, the services on it, and runs that go through them: what tests, the chaos campaign and benchmarks share."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bohdi import figures
from bohdi.kafka_places import KafkaPlace
from bohdi.kafka_runs import submit
from bohdi.run_folder import resolved
from bohdi.supervisor import Supervisor
from bohdi_common.core.state import RunState
from bohdi_common.log.kafka_settings import KafkaSettings
from bohdi_common.log.port import LogUnavailable
from bohdi_common.models.places import RunStores
from bohdi_common.runtime import config as configs
from bohdi_common.runtime.feedback import feedback_events
from bohdi_common.runtime.kafka_topics import Cluster as Topics
from devbroker.broker import Broker
from services.bandit.handler import Bandit
from tests import scripted
from tests.chaos import checker

DEMO = Path("configs/demo.yaml")
SETTLE_S = 90.0
_POLL_S = 2.0


@dataclass
class Cluster:
    """`lines`: what the services printed."""

    broker: Broker
    kafka: KafkaSettings
    folder: Path
    supervisor: Supervisor
    lines: list[str] = field(default_factory=list)

    def place(self, run_id: str) -> KafkaPlace:
        place = KafkaPlace(self.kafka, run_id)
        place.stores = RunStores(self.folder / "store")
        return place

    async def submit(self, run_id: str, seed: int = 0, **overrides: Any) -> KafkaPlace:
        """Starts a run of the demo's configuration, small unless told otherwise."""
        config = resolved(configs.load(DEMO, scripted.small() | overrides), DEMO.parent)
        place = self.place(run_id)
        await asyncio.to_thread(submit, place, config, seed)
        return place

    async def ended(self, place: KafkaPlace, within_s: float) -> RunState:
        """The state of the run once it is finished or paused. Raises TimeoutError with where it stands."""
        deadline_s = time.monotonic() + within_s
        while True:
            try:
                state = await asyncio.to_thread(self.state, place)
            except LogUnavailable:  # the broker is away, on purpose
                state = RunState()
            if state.finished or state.paused:
                return state
            if time.monotonic() > deadline_s:
                counts = dict(state.counts)
                where = f"round {state.round}, step {state.step}, {state.open_slots} slots open, {counts}"
                raise TimeoutError(f"{place.run_id} is not over after {within_s:.0f} s: {where}")
            await asyncio.sleep(_POLL_S)

    def state(self, place: KafkaPlace) -> RunState:
        """The run folded from nothing."""
        bandit, reader = Bandit(place.run_id), place.reader()
        for _, event in feedback_events(reader):
            bandit.fold(event)
        reader.close_reading()
        return bandit.state

    async def accounted(self, places: Sequence[KafkaPlace]) -> checker.Account:
        """The account of every record, once what is still under way has had its time."""
        deadline_s = time.monotonic() + SETTLE_S
        while True:
            account = await asyncio.to_thread(self._account, places)
            if not account.lost or time.monotonic() > deadline_s:
                return account
            await asyncio.sleep(5.0)

    def _account(self, places: Sequence[KafkaPlace]) -> checker.Account:
        """Held against the numbers that `bohdi tree` shows."""
        trees = {
            place.run_id: [(tuple(r["path"]), r["alpha"], r["beta"]) for r in figures.tree_rows(self.state(place))]
            for place in places
        }
        return checker.account(checker.raw_topics(self.broker.bootstrap), trees)


@asynccontextmanager
async def cluster(
    broker: Broker, folder: Path, environment: Mapping[str, str] | None = None, start: bool = True, topics: bool = True
) -> AsyncIterator[Cluster]:
    """The five services with scripted models on `broker`, its topics made unless they are there (`topics` False);
    ended at the end."""
    kafka = KafkaSettings.from_environment(broker.bootstrap, broker.environment)
    if topics:
        Topics(kafka).create()
    told = {**broker.environment, "BOHDI_STORE": str(folder / "store"), **(environment or {})}
    lines: list[str] = []
    supervisor = Supervisor(told, lines.append, module="tests.scripted.{}".format)
    stop = asyncio.Event()
    supervising = asyncio.create_task(supervisor.run(stop)) if start else None
    try:
        yield Cluster(broker, kafka, folder, supervisor, lines)
    finally:
        stop.set()
        if supervising is not None:
            await supervising
