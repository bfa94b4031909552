"""A broker that demands TLS and SCRAM is reached by every client with one set of variables; a secret stays one."""

from __future__ import annotations

import asyncio
import json
import os
import re
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from bohdi.cli import Exit
from bohdi_common.log.kafka_reader import KafkaReader
from bohdi_common.log.kafka_settings import KafkaSettings
from bohdi_common.log.kafka_writer import KafkaWriter
from bohdi_common.log.port import LogError, LogUnavailable, Record
from devbroker.broker import Broker
from devbroker.security import PASSWORD, Certificates
from tests import forked

BOUND_S = 60
bohdi = partial(forked.bohdi, timeout=BOUND_S)
SOON_S = 12  # with what Python needs to start


@pytest.fixture(scope="module")
def secure(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    with Broker(tmp_path_factory.mktemp("secure"), secure=True) as broker:
        yield broker


def started(environment: dict[str, str], *command: str) -> subprocess.CompletedProcess[str]:
    told = {name: value for name, value in os.environ.items() if not name.startswith("BOHDI")} | environment
    return subprocess.run(command, capture_output=True, text=True, timeout=BOUND_S, check=False, env=told)


def test_topics_are_made_and_records_written_and_read(secure: Broker) -> None:
    made = bohdi("topics", "create", **secure.environment)
    assert made.returncode == Exit.DONE, made.stderr
    assert bohdi("topics", "check", **secure.environment).returncode == Exit.DONE


async def test_the_log_is_written_and_read(secure: Broker) -> None:
    bohdi("topics", "create", **secure.environment)
    settings = KafkaSettings.from_environment(environment=secure.environment)
    writer = KafkaWriter(settings)
    await writer.append([Record("bohdi.dead", "key", "id", b"value")])
    await writer.close()
    assert "value" in [stored.value.decode() for stored in KafkaReader(settings).read("bohdi.dead")]


@pytest.mark.parametrize("name", ["tree_expansion", "bandit"])
def test_a_service_becomes_ready_and_shows_its_password_nowhere(secure: Broker, tmp_path: Path, name: str) -> None:
    bohdi("topics", "create", **secure.environment)
    told = {**os.environ, **secure.environment, "BOHDI_LOG": "DEBUG", "BOHDI_STORE": str(tmp_path / "store")}
    with (tmp_path / "log").open("w") as log:
        command = [sys.executable, "-W", "ignore", "-m", f"services.{name}"]
        process = subprocess.Popen(command, env=told, stdout=log, stderr=log)
    try:
        ready = until_ready(tmp_path / "log")
        assert (ready["ok"], ready["assigned_partitions"]) == (True, 8), (tmp_path / "log").read_text()
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


@pytest.fixture
def not_let_in(secure: Broker, tmp_path: Path) -> dict[str, tuple[dict[str, str], str]]:
    """Environments of clients that the broker never lets in, and what they are told."""
    other = Certificates.make(tmp_path / "other")
    return {
        "password": ({"BOHDI_KAFKA_PASSWORD": "wrong-but-secret-too"}, "not let in: check user, password"),
        "authority": ({"BOHDI_KAFKA_CA": str(other.ca)}, "certificate is not trusted: .*; check BOHDI_KAFKA_CA"),
    }


@pytest.mark.parametrize("what", ["password", "authority"])
def test_a_wrong_password_and_a_wrong_authority_are_told_as_such_and_at_once(
    secure: Broker, not_let_in: dict[str, tuple[dict[str, str], str]], what: str
) -> None:
    wrong, line = not_let_in[what]
    service = [sys.executable, "-W", "ignore", "-m", "services.bandit"]
    for command, code in ((["topics", "check"], Exit.LOG), (["status", "--run", "r"], Exit.LOG), (service, 2)):
        started_s = time.monotonic()
        told = secure.environment | wrong
        ended = started(told, *command) if command is service else bohdi(*command, **told)
        said = [told for told in ended.stderr.splitlines() if told.startswith("bohdi: ")]
        assert (ended.returncode, len(said)) == (code, 1), ended.stderr
        assert re.fullmatch(f"bohdi: {secure.bootstrap}: .*{line}.*", said[0])
        assert "secret" not in ended.stderr and PASSWORD not in ended.stderr
        assert time.monotonic() - started_s < SOON_S


def test_no_tls_is_one_line_in_time(secure: Broker) -> None:
    started_s = time.monotonic()
    ended = bohdi("topics", "check", BOHDI_KAFKA=secure.bootstrap)
    assert (ended.returncode, len(ended.stderr.splitlines())) == (Exit.LOG, 1), ended.stderr
    assert f"{secure.bootstrap}: no broker answers: check address and security settings" in ended.stderr
    assert time.monotonic() - started_s < BOUND_S / 2


@pytest.mark.parametrize("what", ["password", "authority"])
async def test_a_writer_and_a_follower_that_are_not_let_in_say_so_and_do_not_wait(
    secure: Broker, not_let_in: dict[str, tuple[dict[str, str], str]], what: str
) -> None:
    wrong, line = not_let_in[what]
    settings = KafkaSettings.from_environment(environment=secure.environment | wrong)
    writer = KafkaWriter(settings)
    for trying in (writer.append([Record("bohdi.dead", "key", "id", b"value")]),
                   anext(KafkaReader(settings).follow("bohdi.dead", 0))):  # fmt: skip
        with pytest.raises(LogError, match=line) as raised:
            await asyncio.wait_for(trying, SOON_S)
        assert not isinstance(raised.value, LogUnavailable)
        assert "secret" not in str(raised.value) and "\n" not in str(raised.value)
    await writer.close()
