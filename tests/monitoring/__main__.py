"""`make watch-check`: a micro-world run over Kafka under a real Prometheus: panels, three alerts, pictures for docs.

One source is behind a server of its own (`tests.stub_server`), which is ended to see the alert for it. What the queries
of every panel gave goes to runs/watch/panels.json. Ends with 1 where a query never gave a number.
"""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bohdi.run_folder import resolved
from bohdi_common.runtime import config as configs
from bohdi_common.runtime.config import Config
from devbroker.broker import Broker
from tests.monitoring import pictures
from tests.monitoring.show import results, watched, without_data

FOLDER = Path("runs/watch").absolute()
DEMO = Path("configs/demo.yaml")
SERVED = "qwen"
RUN_S, SOON_S = 1800.0, 240.0


def small(url: str) -> Config:
    """The demo's configuration small, with a budget, prices, and SERVED behind `url`."""
    told = configs.load(DEMO)
    sources: list[dict[str, Any]] = [source.model_dump(mode="json", exclude_defaults=True) for source in told.sources]
    served = next(source for source in sources if source["name"] == SERVED)
    del served["path"]
    served |= {"adapter": "http", "urls": [url], "price_prompt": 0.5, "price_completion": 1.5}
    overrides = {
        "sources": sources,
        "bandit": {"rounds": 3, "steps": 2, "slots": 24, "rehearsal_questions": 48},
        "training": {"passes": 3.0},
        "evaluation": None,
        "budget": {"tokens": 5_000_000, "harvests": 400},
    }
    return resolved(configs.load(DEMO, overrides), DEMO.parent)


@contextmanager
def served() -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """The source's server and its base URL."""
    command = [sys.executable, "-W", "ignore", "-m", "tests.stub_server", f"{SERVED}=microworld:{SERVED}"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield process.stdout.readline().strip(), process
        finally:
            process.terminate()


async def main() -> int:
    shutil.rmtree(FOLDER, ignore_errors=True)
    with Broker(FOLDER / "broker") as broker, served() as (url, server):
        async with watched(broker, FOLDER, "services.{}") as here:
            began_s = time.monotonic()
            await here.begin("one", small(url), seed=1)
            await here.until('bohdi_run_promotions_total{run="one"} > 0', RUN_S)
            await here.until('absent(bohdi_run_events_total{run="one"})', RUN_S)
            print(f"run one over after {time.monotonic() - began_s:.0f} s; its series are gone", flush=True)
            found = await asyncio.to_thread(results, here.prometheus)
            told = [{"dashboard": d, "panel": p, "queries": queries} for (d, p), queries in found.items()]
            (FOLDER / "panels.json").write_text(json.dumps(told))
            missing = without_data(found)
            queries = sum(map(len, found.values()))
            print(
                f"{len(found)} panels, {queries} queries, {len(missing)} without data", *missing, sep="\n  ", flush=True
            )
            pictures.draw(found)

            async def server_ends() -> None:
                server.terminate()
                await here.begin("two", small(url), seed=2)

            faults = {
                "BohdiDeadLetters": here.send_garbage,
                "BohdiModelErrors": server_ends,
                "BohdiBanditAbsent": here.end_bandit,
            }
            for alert, fault in faults.items():
                print(f"{alert} fires {await here.fires(alert, fault, SOON_S):.1f} s after its fault", flush=True)
    return bool(missing)


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
