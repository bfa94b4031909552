"""The command line over Kafka: a run is started, paused, resumed, looked at, cancelled, copied."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

from bohdi.cli import Exit
from devbroker.broker import Broker
from tests import forked, scripted
from tests.kafka_runs.cluster import DEMO, cluster

COMMAND_S = 120
RUN_S = 150


async def bohdi(broker: Broker, *arguments: str | Path, **told: str) -> subprocess.CompletedProcess[str]:
    return await asyncio.to_thread(forked.bohdi, *arguments, timeout=COMMAND_S, **(broker.environment | told))


def small_config(folder: Path, **bandit: Any) -> Path:
    raw = yaml.safe_load(DEMO.read_text())
    overrides = scripted.small(bandit)
    raw["bandit"] |= overrides["bandit"]
    raw["evaluation"] = None
    raw["training"] |= overrides["training"]
    file = folder / "small.yaml"
    file.write_text(yaml.safe_dump(raw))
    return file


async def test_a_run_is_started_paused_resumed_looked_at_and_copied(own_broker: Broker, tmp_path: Path) -> None:
    config, store = small_config(tmp_path), {"BOHDI_STORE": str(tmp_path / "store")}
    async with cluster(own_broker, tmp_path, {"SCRIPTED_LATENCY_S": "0.2"}) as services:
        running = asyncio.create_task(bohdi(own_broker, "run", config, "--run", "one", "--seed", "1", **store))
        place = services.place("one")
        while not await asyncio.to_thread(place.exists):
            await asyncio.sleep(0.5)
        assert (await bohdi(own_broker, "pause", "--run", "one")).stdout.startswith("asked")
        ended = await running
        assert ended.returncode == Exit.PAUSED, ended.stderr
        assert f"bohdi resume --kafka {own_broker.bootstrap} --run one" in ended.stderr
        status = json.loads((await bohdi(own_broker, "status", "--run", "one", "--json")).stdout)
        assert status["phase"] == "paused: asked for by hand"
        again = await bohdi(own_broker, "run", config, "--run", "one", **store)
        assert (again.returncode, "exists already" in again.stderr) == (Exit.MISTAKE, True)
        assert (await bohdi(own_broker, "resume", "--run", "one")).returncode == Exit.DONE
        assert (await services.ended(place, RUN_S)).finished
    watched = await bohdi(own_broker, "watch", "--run", "one", "--json", **store)
    assert watched.returncode == Exit.DONE, watched.stderr
    replayed = json.loads((await bohdi(own_broker, "replay", "--run", "one", "--json")).stdout)
    assert replayed["state_sha256"] == json.loads(watched.stdout)["state_sha256"]
    then = json.loads((await bohdi(own_broker, "replay", "--run", "one", "--at", "round:1", "--json", **store)).stdout)
    assert then["state_sha256"] == then["recorded_sha256"]
    same = json.loads((await bohdi(own_broker, "what-if", "--run", "one", "--json")).stdout)["variants"][0]
    assert same["state_sha256"] == replayed["state_sha256"]
    between = json.loads((await bohdi(own_broker, "diff", "run:one@round:1", "@", "--json")).stdout)
    assert between["b"]["state_sha256"] == replayed["state_sha256"]
    version = json.loads((await bohdi(own_broker, "why", "version", "last", "--run", "one", "--json")).stdout)
    assert version["result"]["outcome"] == "promoted"
    exported = await bohdi(own_broker, "export", "--run", "one", "--to", tmp_path / "tables", "--json", **store)
    assert json.loads(exported.stdout)["state_sha256"] == replayed["state_sha256"]
    counted = await bohdi(own_broker, "sql", "SELECT count(*) AS n FROM events", "--run", "one", "--json")
    assert json.loads(counted.stdout)["rows"] == [{"n": replayed["events"]}]
    verified = await bohdi(own_broker, "verify", "--run", "one", **store)
    assert verified.returncode == Exit.DONE, verified.stdout + verified.stderr
    tree = json.loads((await bohdi(own_broker, "tree", "--run", "one", "--json")).stdout)
    assert len(tree) == replayed["nodes"]
    log = (await bohdi(own_broker, "log", "--run", "one")).stdout.splitlines()
    assert len(log) == replayed["events"]
    copied = await bohdi(own_broker, "copy", "--run", "one", "--to", tmp_path / "copy", **store)
    assert copied.returncode == Exit.DONE, copied.stderr
    assert json.loads((await bohdi(own_broker, "replay", tmp_path / "copy", "--json")).stdout) == replayed
    assert (await bohdi(own_broker, "verify", tmp_path / "copy")).returncode == Exit.DONE
    reports = {tmp_path / "here.html": ["--run", "one"], tmp_path / "there.html": [tmp_path / "copy"]}
    for file, which in reports.items():
        reported = await bohdi(own_broker, "report", *which, "--out", file, **store)
        assert reported.returncode == Exit.DONE, reported.stderr
    here, there = (file.read_bytes() for file in reports)
    assert here == there
    assert "the run is over" in (await bohdi(own_broker, "cancel", "--run", "one")).stdout
    unknown = await bohdi(own_broker, "status", "--run", "two")
    assert (unknown.returncode, "no event of run two" in unknown.stderr) == (Exit.MISTAKE, True)


async def test_a_run_is_cancelled_and_its_services_go_on_with_others(own_broker: Broker, tmp_path: Path) -> None:
    async with cluster(own_broker, tmp_path, {"SCRIPTED_LATENCY_S": "0.3"}) as services:
        doomed = await services.submit("doomed", bandit={**scripted.small()["bandit"], "rounds": 6})
        other = await services.submit("other")
        while services.state(doomed).counts.get("harvests", 0) < 5:
            await asyncio.sleep(0.5)
        assert (await bohdi(own_broker, "cancel", "--run", "doomed")).returncode == Exit.DONE
        assert (await services.ended(doomed, RUN_S)).finished == "cancelled by hand"
        assert (await services.ended(other, RUN_S)).finished == "all rounds done"
    for name in ("doomed", "other"):
        store = str(tmp_path / "store")
        verified = await bohdi(own_broker, "verify", "--run", name, BOHDI_STORE=store)
        assert verified.returncode == Exit.DONE, verified.stdout + verified.stderr


async def test_up_makes_the_topics_of_a_new_cluster_before_it_starts_its_run(
    own_broker: Broker, tmp_path: Path
) -> None:
    command = [sys.executable, "-W", "ignore", "-m", "bohdi", "up", small_config(tmp_path)]
    process = await asyncio.create_subprocess_exec(
        *command, "--run", "first", "--store", tmp_path / "store", env={**os.environ, **own_broker.environment},
        stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    try:
        async with asyncio.timeout(COMMAND_S):
            while (await bohdi(own_broker, "status", "--run", "first")).returncode != Exit.DONE:
                assert process.returncode is None, (await process.communicate())[1].decode()
                await asyncio.sleep(0.5)
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGINT)
        await asyncio.wait_for(process.communicate(), COMMAND_S)
