"""A Prometheus of one's own: on loopback, with the rules of k8s/monitoring made quicker, ended by its own pid."""

from __future__ import annotations

import json
import subprocess
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any

import yaml

from bohdi_monitoring.panels import BOARDS, Query
from devbroker.broker import free_port

ROOT = Path(__file__).parents[2]
BINARIES = ROOT / ".prometheus"
MONITORING = ROOT / "k8s" / "monitoring"
RECORDED = tuple(Path(__file__).with_name(f"vllm-{n}.prom") for n in (1, 2))
_SCRAPE_S = 1
_SOON_S = 2
_READY_S = 60.0
_POLL_S = 0.5
_POINTS = 150
_SWITCH_SCRAPES = 20  # of the first recording, before the second: rates are of something


def quicker(rules: str) -> str:
    """The rules with every `for` cut to seconds, and windows of five minutes to half a minute: what went well before a
    fault would be seen beside it for so long."""
    read = yaml.safe_load(rules.replace("[5m]", "[30s]"))
    for group in read["groups"]:
        for rule in group["rules"]:
            if "for" in rule:
                rule["for"] = f"{_SOON_S}s"
    return yaml.safe_dump(read)


def asked(expr: str) -> str:
    """A panel's expression with the dashboard's variables filled in: everything, and a short window."""
    for variable in ("run", "service", "model"):
        expr = expr.replace(f"${variable}", ".*")
    return expr.replace("$__rate_interval", "15s")


def panels() -> dict[tuple[str, str], tuple[Query, ...]]:
    """The queries of every panel, by the titles of dashboard and panel."""
    return {(b.title, f"{row}: {p.title}"): p.queries for b in BOARDS for row, there in b.rows for p in there}


@dataclass
class Prometheus:
    """Scrapes `targets`, HOST:PORT each, every second; keeps its data in `folder`."""

    folder: Path
    targets: Mapping[str, str]  # job -> HOST:PORT
    port: int = field(default_factory=free_port)
    started_s: float = field(default=0.0, init=False)
    _process: subprocess.Popen[bytes] | None = field(default=None, init=False)

    def __enter__(self) -> Prometheus:
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / "rules.yaml").write_text(quicker((MONITORING / "rules.yaml").read_text()))
        jobs = [{"job_name": job, "static_configs": [{"targets": [at]}]} for job, at in self.targets.items()]
        every = f"{_SCRAPE_S}s"
        config = {
            "global": {"scrape_interval": every, "scrape_timeout": every, "evaluation_interval": every},
            "rule_files": ["rules.yaml"],
            "scrape_configs": jobs,
        }
        (self.folder / "prometheus.yaml").write_text(yaml.safe_dump(config))
        command = [str(BINARIES / "prometheus"), "--config.file=prometheus.yaml", "--storage.tsdb.path=data"]
        command += [f"--web.listen-address=127.0.0.1:{self.port}"]
        with (self.folder / "prometheus.log").open("wb") as log:
            self._process = subprocess.Popen(command, cwd=self.folder, stdout=log, stderr=log)
        self.started_s = time.time()
        try:
            self.until(lambda: bool(self.query("vector(1)")), _READY_S, "Prometheus does not answer")
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        assert self._process is not None
        self._process.terminate()
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def query(self, expr: str) -> list[dict[str, Any]]:
        """What the expression gives now."""
        return list(self._get("query", query=expr)["result"])

    def over_time(self, expr: str, until_s: float | None = None) -> list[dict[str, Any]]:
        """What the expression gave from the start until now, or then."""
        end_s = until_s or time.time()
        step_s = max(1.0, (end_s - self.started_s) / _POINTS)
        found = self._get("query_range", query=expr, start=self.started_s, end=end_s, step=step_s)
        return list(found["result"])

    def firing(self) -> set[str]:
        """Names of the alerts that fire now."""
        return {a["labels"]["alertname"] for a in self._get("alerts")["alerts"] if a["state"] == "firing"}

    def until(self, holds: Callable[[], bool], within_s: float, else_says: str) -> float:
        """Waits until it holds, and says for how many seconds it did. Raises TimeoutError."""
        began_s = time.monotonic()
        while time.monotonic() - began_s < within_s:
            with suppress(urllib.error.URLError, OSError):
                if holds():
                    return time.monotonic() - began_s
            time.sleep(_POLL_S)
        raise TimeoutError(f"after {within_s:.0f} s: {else_says}")

    def _get(self, what: str, **asked: Any) -> dict[str, Any]:
        url = f"http://127.0.0.1:{self.port}/api/v1/{what}?{urllib.parse.urlencode(asked)}"
        with urllib.request.urlopen(url, timeout=30) as answer:
            return dict(json.load(answer)["data"])


@dataclass
class RecordedVllm:
    """Serves the first recording of vLLM's metrics for a while, and then the second."""

    address: str = ""
    _scrapes: int = field(default=0, init=False)

    def __enter__(self) -> RecordedVllm:
        recorded = self

        class Answer(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                recorded._scrapes += 1
                body = RECORDED[recorded._scrapes > _SWITCH_SCRAPES].read_bytes()
                self.send_response(200)
                self.send_header("Content-Type", "text/plain; version=0.0.4")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *arguments: Any) -> None: ...

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Answer)
        self.address = f"127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
