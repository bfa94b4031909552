"""One Kafka node (KRaft) from the jars in .kafka/libs: on loopback, ready in seconds, ended by its own pid."""

from __future__ import annotations

import os
import random
import shutil
import signal
import socket
import ssl
import struct
import subprocess
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType

from bohdi_common.core.limits import OVERHEAD_BYTES_MAX, RECORD_BYTES_MAX
from devbroker.security import PASSWORD, USER, Certificates

ROOT = Path(__file__).parents[1]
LIBS = ROOT / ".kafka" / "libs"
# From prepare.py; a broker starts without them too, in thrice the time.
CLASSES = ROOT / ".kafka" / "classes.jsa"  # as a JVM maps them
FORMATTED = ROOT / ".kafka" / "formatted"  # what a new data folder holds
READY_S = 180.0  # on a machine that others load, two cores and thirty that want them: 95
STOP_S = 20.0
_POLL_S = 0.1
_PORTS = range(20_000, 32_000)  # below the first that Linux gives to clients, 32768 by default
_HEAP = "512m"
_CLUSTER = "Ym9oZGktZGV2YnJva2VyMA"  # any 16 bytes in base64
# ApiVersions, the request with which every client begins: length, api key 18, version 0, correlation id 1, no name.
_API_VERSIONS = struct.pack(">ihhih", 10, 18, 0, 1, -1)
_MESSAGE_BYTES = RECORD_BYTES_MAX + OVERHEAD_BYTES_MAX


class BrokerFailed(RuntimeError):
    """The broker did not start. The message says where its log is."""


def free_port(other_than: int = 0) -> int:
    """A port on loopback that nobody listens on now; `other_than` is never given, for a broker whose two listeners have
    one port does not start. Drawn from those that the kernel gives to no client: a port of those may be taken by a
    client's connection, even to this very port, before the broker listens or while it is down."""
    while True:
        port = random.SystemRandom().choice(_PORTS)
        if port != other_than and not _taken(port):
            return port


def _taken(port: int) -> OSError | None:
    """Why nobody can listen there now; None when one can."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as the broker: a port just left is free
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            return error
    return None


@dataclass
class Broker:
    """A broker that keeps its data in `folder`. `secure`: it demands TLS and SASL/SCRAM-SHA-512. `options`: of its
    JVM."""

    folder: Path
    port: int = field(default_factory=free_port)
    secure: bool = False
    options: Sequence[str] = (f"-XX:SharedArchiveFile={CLASSES}",)
    _process: subprocess.Popen[bytes] | None = field(default=None, init=False)
    _controller_port: int = field(default=0, init=False)
    certificates: Certificates | None = field(default=None, init=False)

    @property
    def bootstrap(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        assert self._process is not None, "the broker was not started"
        return self._process.pid

    @property
    def environment(self) -> dict[str, str]:
        """The variables by which Bohdi's processes reach this broker."""
        if self.certificates is None:
            return {"BOHDI_KAFKA": self.bootstrap}
        return {
            "BOHDI_KAFKA": self.bootstrap,
            "BOHDI_KAFKA_SECURITY": "sasl_tls",
            "BOHDI_KAFKA_CA": str(self.certificates.ca),
            "BOHDI_KAFKA_USER": USER,
            "BOHDI_KAFKA_PASSWORD": PASSWORD,
        }

    def __enter__(self) -> Broker:
        self.start()
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.stop()

    def start(self) -> None:
        """Returns once it answers; the first time it makes its data folder. Raises BrokerFailed."""
        self._check()
        self._controller_port = free_port(self.port)
        properties = self.prepared()
        with (self.folder / "broker.log").open("ab") as log:
            self._process = subprocess.Popen(
                _java(*self.options, "kafka.Kafka", str(properties)),
                stdout=log, stderr=log, cwd=self.folder, start_new_session=True,
            )  # fmt: skip
        try:
            self._wait_until_ready()
        except BaseException:  # Ctrl-C too: nothing else would end it
            self.kill()
            raise

    def stop(self) -> None:
        """Ends it in order; hard if that takes too long."""
        if self._process is None or self._process.poll() is not None:
            return
        self._process.terminate()
        try:
            self._process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self.kill()

    def kill(self) -> None:
        """SIGKILL: what it had not told the disk of is lost with the machine's memory, not with the process."""
        if self._process is not None and self._process.poll() is None:
            os.kill(self._process.pid, signal.SIGKILL)
            self._process.wait()

    def restart(self) -> None:
        """Again on the same port and data."""
        self.stop()
        self.start()

    def _check(self) -> None:
        """Raises BrokerFailed for what would keep it from starting, or let another's answer pass for its own."""
        if not LIBS.is_dir():
            raise BrokerFailed(f"no Kafka in {LIBS}: run devbroker/install.sh (make does)")
        if shutil.which("java") is None:
            raise BrokerFailed("no java on the PATH: install Java 17 or newer (Debian: openjdk-17-jre-headless)")
        if error := _taken(self.port):
            reason = f"cannot be listened on ({error.strerror}): end what is there or give another --port"
            raise BrokerFailed(f"{self.bootstrap} {reason}")

    def prepared(self) -> Path:
        """The file of its properties, written anew: a kept folder may start on other ports. A new one is formatted."""
        self.folder.mkdir(parents=True, exist_ok=True)
        if self.secure and self.certificates is None:
            self.certificates = Certificates.make(self.folder / "tls")
        properties = self.folder / "server.properties"
        properties.write_text("\n".join(f"{k}={v}" for k, v in self._properties().items()) + "\n")
        if not (self.folder / "formatted").exists():
            self._format(properties)
            (self.folder / "formatted").touch()
        return properties

    def _wait_until_ready(self) -> None:
        deadline_s = time.monotonic() + READY_S
        log = self.folder / "broker.log"
        while time.monotonic() < deadline_s:
            if self._process is not None and self._process.poll() is not None:
                raise BrokerFailed(f"the broker ended with {self._process.returncode}: see {log}")
            if self._answers():
                return
            time.sleep(_POLL_S)
        raise BrokerFailed(f"the broker was not ready within {READY_S:.0f} s: see {log}")

    def _answers(self) -> bool:
        """Whether it answers a client's first request, or, if it is secure, shakes hands."""
        with suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1.0) as connection:
            if self.certificates is not None:
                context = ssl.create_default_context(cafile=str(self.certificates.ca))
                return context.wrap_socket(connection, server_hostname="127.0.0.1").version() is not None
            connection.sendall(_API_VERSIONS)
            return len(connection.recv(4)) == 4
        return False

    def _format(self, properties: Path) -> None:
        data = self.folder / "data"
        shutil.rmtree(data, ignore_errors=True)
        if FORMATTED.is_dir() and not self.secure:
            shutil.copytree(FORMATTED, data)
            return
        scram = ["--add-scram", f"SCRAM-SHA-512=[name={USER},password={PASSWORD}]"] if self.secure else []
        format = _java("kafka.tools.StorageTool", "format", "-t", _CLUSTER, "-c", str(properties), *scram)
        made = subprocess.run(format, capture_output=True, text=True, check=False)
        if made.returncode:
            said = (made.stderr.strip() or made.stdout.strip() or f"exit {made.returncode}").splitlines()[0]
            raise BrokerFailed(f"{self.folder}: the broker's data folder cannot be made: {said}")

    def _properties(self) -> dict[str, object]:
        client = "SASL_SSL" if self.secure else "PLAINTEXT"
        plain = {
            "process.roles": "broker,controller",
            "node.id": 1,
            "controller.quorum.voters": f"1@127.0.0.1:{self._controller_port}",
            "listeners": f"CLIENT://127.0.0.1:{self.port},CONTROLLER://127.0.0.1:{self._controller_port}",
            "advertised.listeners": f"CLIENT://127.0.0.1:{self.port}",
            "listener.security.protocol.map": f"CLIENT:{client},CONTROLLER:PLAINTEXT",
            "inter.broker.listener.name": "CLIENT",
            "controller.listener.names": "CONTROLLER",
            "log.dirs": self.folder / "data",
            "offsets.topic.num.partitions": 4,
            "offsets.topic.replication.factor": 1,
            "transaction.state.log.replication.factor": 1,
            "transaction.state.log.min.isr": 1,
            "share.coordinator.state.topic.replication.factor": 1,
            "share.coordinator.state.topic.min.isr": 1,
            "group.initial.rebalance.delay.ms": 0,
            "auto.create.topics.enable": "false",
            "message.max.bytes": _MESSAGE_BYTES,
            "replica.fetch.max.bytes": _MESSAGE_BYTES,
            "log.retention.ms": -1,
        }
        if self.certificates is None:
            return plain
        return plain | {
            "sasl.enabled.mechanisms": "SCRAM-SHA-512",
            "sasl.mechanism.inter.broker.protocol": "SCRAM-SHA-512",
            "listener.name.client.scram-sha-512.sasl.jaas.config": (
                "org.apache.kafka.common.security.scram.ScramLoginModule required "
                f'username="{USER}" password="{PASSWORD}";'
            ),
            "ssl.keystore.type": "PEM",
            "ssl.keystore.location": self.certificates.server,
            "ssl.truststore.type": "PEM",
            "ssl.truststore.location": self.certificates.ca,
        }


def _java(*arguments: str) -> Sequence[str]:
    return ["java", f"-Xmx{_HEAP}", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-cp", f"{LIBS}/*", *arguments]
