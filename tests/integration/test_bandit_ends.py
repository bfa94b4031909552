"""The bandit's process ends in order and in time wherever a signal meets it."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from bohdi_common.core.state import canonical
from bohdi_common.events.topics import FEEDBACK
from bohdi_common.log.kafka_reader import KafkaReader
from bohdi_common.log.kafka_records import partition_of
from bohdi_common.log.kafka_settings import KafkaSettings
from bohdi_common.log.kafka_writer import KafkaWriter
from bohdi_common.runtime.feedback import feedback_events
from bohdi_common.runtime.kafka_topics import Cluster
from bohdi_common.runtime.shell import record_of
from devbroker.broker import Broker
from services.bandit.runs import Runs
from services.bandit.snapshots import Snapshots
from tests.recorded_run import RecordedRun

START_S = 60
SOON_S = 12  # below the bound at which it ends itself hard
SLOW_S, AT_ONCE_S = 0.5, 0.0  # an event of the past; the recorded run takes some minutes, or no time
BANDIT = """
import runpy, sys, time
from services.bandit.runs import Runs
fold = Runs.fold
Runs.fold = lambda runs, event: (fold(runs, event), time.sleep(float(sys.argv[1])))
runpy.run_module("services.bandit", run_name="__main__")
"""


def ready(log: Path) -> Mapping[str, object]:
    """What `/ready` says; nothing before it is served."""
    if "health on " not in log.read_text():
        return {}
    address = log.read_text().split("health on ")[1].split()[0]
    try:
        return json.load(urllib.request.urlopen(f"http://{address}/ready", timeout=5))
    except urllib.error.HTTPError as error:
        return json.load(error)


def ended(broker: Broker, folder: Path, fold_s: float, before_signal: Callable[[], None] = lambda: None) -> int:
    """Exit code of the bandit, told to end while it folds the past with `fold_s` for an event, or follows."""
    log = folder / "log"
    with log.open("w") as out:
        told = {**os.environ, **broker.environment, "BOHDI_STORE": str(folder / "store")}
        bandit = subprocess.Popen(
            [sys.executable, "-W", "ignore", "-c", BANDIT, str(fold_s)], env=told, stdout=out, stderr=out
        )
    try:
        deadline_s = time.monotonic() + START_S
        while ready(log).get("phase") != "running" and time.monotonic() < deadline_s:
            time.sleep(0.1)
        time.sleep(3.0)  # some of the past is folded
        before_signal()
        bandit.terminate()
        return bandit.wait(SOON_S)
    finally:
        bandit.kill()
        bandit.wait()


@pytest.fixture
async def with_a_run(own_broker: Broker) -> RecordedRun:
    """A run on the broker that is not over."""
    kafka = KafkaSettings.from_environment(own_broker.bootstrap)
    run = RecordedRun()

    await asyncio.to_thread(run.run)
    Cluster(kafka).create()
    writer = KafkaWriter(kafka)
    await writer.append([record_of(event) for event in run.feedback[:-1]])
    await writer.close()
    return run


def test_a_signal_while_it_folds_ends_it_with_0_and_its_snapshot_is_what_it_has_folded(
    own_broker: Broker, with_a_run: RecordedRun, tmp_path: Path
) -> None:
    assert ended(own_broker, tmp_path, SLOW_S) == 0, (tmp_path / "log").read_text()
    partition = partition_of(with_a_run.run_id, FEEDBACK.partitions)
    reader = KafkaReader(KafkaSettings.from_environment(own_broker.bootstrap), partition)
    kept = tmp_path / "store" / ".snapshots" / f"bandit-{partition}.snapshot"
    records = list(feedback_events(reader))
    offset, runs = Snapshots(kept).load(lambda at: records[at][1].event_id)
    again = Runs()
    for _, event in records[:offset]:
        again.fold(event)
    assert 0 < offset < len(records)
    assert canonical(runs.going["run"].state) == canonical(again.going["run"].state)


@pytest.mark.parametrize("fold_s", [SLOW_S, AT_ONCE_S], ids=["folding", "following"])
def test_a_signal_while_the_broker_is_away_ends_it_with_0(
    own_broker: Broker, with_a_run: RecordedRun, tmp_path: Path, fold_s: float
) -> None:
    assert ended(own_broker, tmp_path, fold_s, own_broker.kill) == 0, (tmp_path / "log").read_text()
