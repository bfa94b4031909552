"""What is shown of monitoring, with a real Prometheus over a real Kafka: panels that have data, alerts that fire.

The same for services on scripted models (in `make test`) and for those of the micro-world (`make watch-check`).
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bohdi.kafka_places import KafkaPlace
from bohdi.kafka_runs import submit
from bohdi.supervisor import SERVICES, Supervisor
from bohdi_common.core.ids import derived_id
from bohdi_common.events.topics import HARVEST_REQUESTS
from bohdi_common.log.kafka_settings import KafkaSettings
from bohdi_common.log.kafka_writer import KafkaWriter
from bohdi_common.log.port import Record
from bohdi_common.models.places import RunStores
from bohdi_common.runtime.config import Config
from bohdi_common.runtime.kafka_topics import Cluster
from devbroker.broker import Broker, free_port
from tests.monitoring.prometheus import Prometheus, RecordedVllm, asked, panels

Print = Callable[[str], None]


@dataclass
class Watched:
    """Services at work under a Prometheus. `stop_bandit` ends the bandit, for good."""

    kafka: KafkaSettings
    folder: Path
    prometheus: Prometheus
    lines: list[str]
    stop_bandit: asyncio.Event = field(default_factory=asyncio.Event)

    async def begin(self, run_id: str, config: Config, seed: int) -> None:
        """Starts a run."""
        place = KafkaPlace(self.kafka, run_id)
        place.stores = RunStores(self.folder / "store")
        await asyncio.to_thread(submit, place, config, seed)

    async def until(self, expr: str, within_s: float) -> float:
        """Waits until the expression gives something; for how many seconds it did."""
        holds = lambda: bool(self.prometheus.query(expr))  # noqa: E731
        return await asyncio.to_thread(self.prometheus.until, holds, within_s, f"{expr} gives nothing")

    async def has_data(self, within_s: float) -> None:
        """Waits until every panel's queries gave something: a rate wants two scrapes, a quick run is soon over. Raises
        TimeoutError."""
        holds = lambda: not without_data(results(self.prometheus))  # noqa: E731
        await asyncio.to_thread(self.prometheus.until, holds, within_s, "some panels have no data")

    async def fires(self, alert: str, fault: Callable[[], Awaitable[None]], within_s: float) -> float:
        """Makes the fault; for how many seconds the alert, which did not fire before, was waited for."""
        assert alert not in await asyncio.to_thread(self.prometheus.firing), f"{alert} fires before its fault"
        await fault()
        holds = lambda: alert in self.prometheus.firing()  # noqa: E731
        return await asyncio.to_thread(self.prometheus.until, holds, within_s, f"{alert} does not fire")

    async def send_garbage(self) -> None:
        """The fault of a dead letter: bytes on a request topic that are no event."""
        writer = KafkaWriter(self.kafka)
        await writer.append([Record(HARVEST_REQUESTS.name, "k", derived_id("garbage"), b"\xff no event")])
        await writer.close()

    async def end_bandit(self) -> None:
        """The fault of an absent bandit."""
        self.stop_bandit.set()


@asynccontextmanager
async def watched(
    broker: Broker, folder: Path, module: str, environment: Mapping[str, str] | None = None
) -> AsyncIterator[Watched]:
    """The five services as `module` says, `services.{}` say, on `broker`, and a Prometheus that scrapes them."""
    kafka = KafkaSettings.from_environment(broker.bootstrap, broker.environment)
    await asyncio.to_thread(Cluster(kafka).create)
    health = {name: f"127.0.0.1:{free_port()}" for name in SERVICES}
    told = {**broker.environment, "BOHDI_STORE": str(folder / "store"), **(environment or {})}
    own = {name: {"BOHDI_HEALTH": at} for name, at in health.items()}
    lines: list[str] = []
    parts = [
        Supervisor(told, lines.append, module.format, services=names, own=own) for names in (SERVICES[:1], SERVICES[1:])
    ]
    with (
        RecordedVllm() as vllm,
        Prometheus(folder / "prometheus", health | {"vllm": vllm.address}) as there,
    ):
        here, stop = Watched(kafka, folder, there, lines), asyncio.Event()
        supervising = [asyncio.create_task(p.run(s)) for p, s in zip(parts, (here.stop_bandit, stop), strict=True)]
        try:
            yield here
        finally:
            here.stop_bandit.set()
            stop.set()
            await asyncio.gather(*supervising)


def results(prometheus: Prometheus) -> dict[tuple[str, str], list[dict[str, Any]]]:
    """What every panel's queries gave over the time so far: {panel: [{expr, legend, series}]}."""
    return {
        panel: [{"expr": q.expr, "legend": q.legend, "series": prometheus.over_time(asked(q.expr))} for q in queries]
        for panel, queries in panels().items()
    }


def without_data(found: Mapping[tuple[str, str], Sequence[Mapping[str, Any]]]) -> list[str]:
    """The queries that never gave a number."""
    return [
        f"{' / '.join(panel)}: {query['expr']}"
        for panel, queries in found.items()
        for query in queries
        if not any(math.isfinite(float(value)) for series in query["series"] for _, value in series["values"])
    ]
