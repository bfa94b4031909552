"""A broker that demands TLS and SCRAM is reached by every client with one set of variables; a secret stays one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from bohdi.cli import Exit
from bohdi_common.log.kafka_reader import KafkaReader
from bohdi_common.log.kafka_settings import KafkaSettings
from bohdi_common.log.kafka_writer import KafkaWriter
from bohdi_common.log.port import LogError, Record
from devbroker.broker import Broker
from devbroker.security import PASSWORD, Certificates

BOUND_S = 60


@pytest.fixture(scope="module")
def secure(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    with Broker(tmp_path_factory.mktemp("secure"), secure=True) as broker:
        yield broker


def bohdi(environment: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-W", "ignore", "-c", "from bohdi.cli import main; main()", *arguments]
    told = {name: value for name, value in os.environ.items() if not name.startswith("BOHDI")} | environment
    return subprocess.run(command, capture_output=True, text=True, timeout=BOUND_S, check=False, env=told)


def test_topics_are_made_and_records_written_and_read(secure: Broker) -> None:
    made = bohdi(secure.environment, "topics", "create")
    assert made.returncode == Exit.DONE, made.stderr
    assert bohdi(secure.environment, "topics", "check").returncode == Exit.DONE


async def test_the_log_is_written_and_read(secure: Broker) -> None:
    bohdi(secure.environment, "topics", "create")
    settings = KafkaSettings.from_environment(environment=secure.environment)
    writer = KafkaWriter(settings)
    await writer.append([Record("bohdi.dead", "key", "id", b"value")])
    await writer.close()
    assert "value" in [stored.value.decode() for stored in KafkaReader(settings).read("bohdi.dead")]


def test_a_service_becomes_ready_and_shows_its_password_nowhere(secure: Broker, tmp_path: Path) -> None:
    bohdi(secure.environment, "topics", "create")
    with (tmp_path / "log").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, "-W", "ignore", "-m", "tests.scripted.tree_expansion"],
            env={**os.environ, **secure.environment, "BOHDI_LOG": "DEBUG"}, stdout=log, stderr=log,
        )  # fmt: skip
    try:
        ready = until_ready(tmp_path / "log")
        assert (ready["ok"], ready["assigned_partitions"]) == (True, 8)
        assert PASSWORD.encode() not in Path(f"/proc/{process.pid}/cmdline").read_bytes()
    finally:
        process.terminate()
        assert process.wait(BOUND_S) == 0
    assert PASSWORD not in (tmp_path / "log").read_text()


def until_ready(log: Path) -> dict[str, object]:
    """What `/ready` says once it is, or at the end of the bound."""
    deadline_s, said = time.monotonic() + BOUND_S, {"ok": False, "assigned_partitions": None}
    while time.monotonic() < deadline_s and not said["ok"]:
        time.sleep(0.5)
        if "health on " in log.read_text():
            address = log.read_text().split("health on ")[1].split()[0]
            try:
                said = json.load(urllib.request.urlopen(f"http://{address}/ready", timeout=5))
            except urllib.error.HTTPError as error:
                said = json.load(error)
    return said


def test_a_wrong_password_a_wrong_authority_and_no_tls_are_one_line_each_in_time(
    secure: Broker, tmp_path: Path
) -> None:
    other = Certificates.make(tmp_path / "other")
    plain = {"BOHDI_KAFKA": secure.bootstrap}
    wrong = {"BOHDI_KAFKA_PASSWORD": "wrong-but-secret-too"}
    for environment in (secure.environment | wrong, secure.environment | {"BOHDI_KAFKA_CA": str(other.ca)}, plain):
        started_s = time.monotonic()
        ended = bohdi(environment, "topics", "check")
        assert (ended.returncode, len(ended.stderr.splitlines())) == (Exit.LOG, 1), ended.stderr
        assert secure.bootstrap in ended.stderr
        assert "secret" not in ended.stderr and PASSWORD not in ended.stderr
        assert time.monotonic() - started_s < 30


async def test_a_writer_that_is_not_let_in_says_so(secure: Broker) -> None:
    wrong = secure.environment | {"BOHDI_KAFKA_PASSWORD": "wrong"}
    writer = KafkaWriter(KafkaSettings.from_environment(environment=wrong))
    with pytest.raises(LogError) as raised:
        await writer.append([Record("bohdi.dead", "key", "id", b"value")])
    await writer.close()
    assert "wrong" not in str(raised.value) and "\n" not in str(raised.value)
