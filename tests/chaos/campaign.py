"""The adversary: kills services and the broker while runs go through them, at moments that a seed chooses."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bohdi.kafka_places import KafkaPlace
from bohdi.supervisor import SERVICES
from bohdi.verify_run import verify_on_kafka
from bohdi_common.log.port import LogError
from bohdi_common.runtime.config import BadConfig
from devbroker.broker import Broker
from tests.kafka_runs.cluster import SETTLE_S, Cluster, cluster

LATENCY_S = "0.08"
RUN_S = 420.0
AT_ONCE = 3
BROKER_AWAY_S = (0.5, 6.0)
BETWEEN_S = (2.0, 7.0)
SECOND_WORKER_S = 20.0
BANDIT = {"rounds": 2, "steps": 2, "slots": 20, "rehearsal_questions": 20}


@dataclass
class Campaign:
    """`kills` of services and `broker_kills`, over as many runs as that takes."""

    folder: Path
    seed: int
    kills: int
    broker_kills: int
    done: dict[str, int] = field(default_factory=lambda: {"kills": 0, "broker_kills": 0, "rebalances": 0})
    places: list[KafkaPlace] = field(default_factory=list)

    async def run(self) -> dict[str, Any]:
        """The summary; `problems` are lines of what is wrong."""
        started_s = time.monotonic()
        rng = random.Random(self.seed)
        broker = Broker(self.folder / "broker")
        broker.start()
        try:
            async with cluster(broker, self.folder, {"SCRIPTED_LATENCY_S": LATENCY_S}) as services:
                services.supervisor.longest_pause_s = 2.0
                adversary = asyncio.create_task(self._adversary(services, rng))
                states = await self._runs(services, adversary)
                account = await services.accounted(self.places)
            unclean = [p for place in self.places for p in verify_on_kafka(place)["problems"]]
        finally:
            broker.stop()
        ended = sum(bool(state.finished) for state in states)
        problems = [*account.lost, *account.double_counted, *(f"{p['where']}: {p['what']}" for p in unclean)]
        problems += [
            f"{p.run_id} did not end: {s.paused}" for p, s in zip(self.places, states, strict=True) if not s.finished
        ]
        return {
            "seed": self.seed, **self.done, "runs": len(self.places), "runs_ended": ended, "lost": len(account.lost),
            "double_counted": len(account.double_counted), "duplicates": account.duplicates,
            "dead_letters": account.dead_letters, "records": account.records, "settled": account.settled,
            "verify_problems": len(unclean), "seconds": round(time.monotonic() - started_s), "problems": problems[:50],
        }  # fmt: skip

    async def _runs(self, services: Cluster, adversary: asyncio.Task[None]) -> list[Any]:
        """Keeps some runs going until the adversary is through, and then waits for them."""
        going: list[asyncio.Task[Any]] = []
        while not adversary.done():
            while sum(not task.done() for task in going) < AT_ONCE:
                name = f"chaos-{self.seed}-{len(going)}"
                place = await _submitted(services, name, seed=len(going))
                self.places.append(place)
                going.append(asyncio.create_task(services.ended(place, RUN_S)))
            await asyncio.sleep(1.0)
        adversary.result()
        return list(await asyncio.gather(*going))

    async def _adversary(self, services: Cluster, rng: random.Random) -> None:
        while len(services.supervisor.pids) < len(SERVICES):
            await asyncio.sleep(0.5)
        second = asyncio.create_task(self._second_worker(services))
        deeds = ["broker"] * self.broker_kills + ["service"] * self.kills
        rng.shuffle(deeds)
        while deeds:
            await asyncio.sleep(rng.uniform(*BETWEEN_S))
            if deeds.pop() == "broker":
                services.broker.kill()
                self.done["broker_kills"] += 1
                await asyncio.sleep(rng.uniform(*BROKER_AWAY_S))
                await asyncio.to_thread(services.broker.start)
                continue
            several = 1 if rng.random() < 0.7 else rng.randint(2, 4)
            for name in rng.sample(sorted(services.supervisor.pids), min(several, len(services.supervisor.pids))):
                os.kill(services.supervisor.pids[name], signal.SIGKILL)
                self.done["kills"] += 1
        await second

    async def _second_worker(self, services: Cluster) -> None:
        """A second generation worker joins under load and leaves in order: two rebalances."""
        await asyncio.sleep(10.0)
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-W", "ignore", "-m", "tests.scripted.generation",
            env={**os.environ, **services.supervisor.environment}, stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
        )  # fmt: skip
        await asyncio.sleep(SECOND_WORKER_S)
        process.terminate()
        await asyncio.wait_for(process.wait(), SETTLE_S)
        self.done["rebalances"] += 2


async def _submitted(services: Cluster, name: str, seed: int) -> KafkaPlace:
    """Starts a run, whether the broker is there now or a little later."""
    deadline_s = time.monotonic() + SETTLE_S
    while True:
        try:
            return await services.submit(name, seed=seed, bandit=BANDIT)
        except BadConfig:  # it was appended, and the broker went before it said so
            return services.place(name)
        except LogError:
            if time.monotonic() > deadline_s:
                raise
            await asyncio.sleep(1.0)
