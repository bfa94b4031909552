"""The broker of the tests is a real one: killed and started again it has what it acknowledged."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from bohdi_common.log.kafka_reader import KafkaReader
from bohdi_common.log.kafka_settings import KafkaSettings
from bohdi_common.log.kafka_writer import KafkaWriter
from bohdi_common.log.port import Record
from devbroker import broker
from devbroker.broker import Broker, BrokerFailed, free_port
from tests.conftest import make_topics

BOUND_S = 60


async def test_what_it_acknowledged_is_there_after_kill_9(own_broker: Broker) -> None:
    settings = KafkaSettings.from_environment(own_broker.bootstrap)
    make_topics(settings, ["facts"])
    writer = KafkaWriter(settings)
    await writer.append([Record("facts", "key", str(n), b"value") for n in range(100)])
    await writer.close()
    before = own_broker.pid
    own_broker.kill()
    own_broker.start()
    assert own_broker.pid != before
    assert [stored.event_id for stored in KafkaReader(settings).read("facts")] == [str(n) for n in range(100)]


def test_it_ends_with_its_block(own_broker: Broker) -> None:
    pid = own_broker.pid
    own_broker.stop()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_a_port_that_is_taken_is_one_line_and_not_taken_for_its_own(own_broker: Broker, tmp_path: Path) -> None:
    with pytest.raises(BrokerFailed, match=rf"127.0.0.1:{own_broker.port} cannot be listened on") as raised:
        Broker(tmp_path / "second", own_broker.port).start()
    assert "\n" not in str(raised.value)


def test_a_free_port_is_none_that_is_taken_or_a_client_may_be_given_or_the_other_of_two(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ports = sorted({free_port() for _ in range(9)})[:3]
    assert max(ports) < int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    monkeypatch.setattr(broker, "_PORTS", ports)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", ports[0]))
        taken.listen()
        assert {free_port(ports[1]) for _ in range(20)} == set(ports[2:])


def test_a_kept_folder_starts_on_another_port_with_its_records(own_broker: Broker) -> None:
    make_topics(KafkaSettings.from_environment(own_broker.bootstrap), ["facts"])
    own_broker.stop()
    with Broker(own_broker.folder) as again:
        assert again.port != own_broker.port
        assert KafkaReader(KafkaSettings.from_environment(again.bootstrap)).end("facts") == 0


def test_without_java_it_says_what_to_install(tmp_path: Path) -> None:
    ended = devbroker(tmp_path, {"PATH": str(tmp_path)})
    out, err = ended.communicate(timeout=BOUND_S)
    assert (ended.returncode, out) == (1, "")
    assert err.startswith("bohdi: no java on the PATH: install Java 17") and err.count("\n") == 1


def test_a_signal_while_it_starts_leaves_nothing_behind(tmp_path: Path) -> None:
    starting = devbroker(tmp_path, dict(os.environ))
    java = child_of(starting)
    starting.send_signal(signal.SIGTERM)
    starting.communicate(timeout=BOUND_S)
    assert starting.returncode == 0
    assert not Path(f"/proc/{java}").exists()


def devbroker(folder: Path, environment: dict[str, str]) -> subprocess.Popen[str]:
    """`python -m devbroker` on a free port, begun."""
    command = [sys.executable, "-m", "devbroker", "--port", str(free_port()), "--folder", str(folder / "data")]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, env=environment)


def child_of(process: subprocess.Popen[str]) -> int:
    """The pid of the broker that `process` has started: the process that runs kafka.Kafka."""
    deadline_s = time.monotonic() + BOUND_S
    while time.monotonic() < deadline_s:
        for pid in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split():
            if b"kafka.Kafka" in Path(f"/proc/{pid}/cmdline").read_bytes():
                return int(pid)
        time.sleep(0.05)
    raise TimeoutError(f"no broker was started within {BOUND_S} s")
