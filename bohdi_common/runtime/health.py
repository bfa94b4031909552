"""Health over HTTP: `/live` (start me again if this fails) and `/ready` (send me work), each with its reasons as JSON;
and `/metrics`, for Prometheus.

Served from a thread of its own, so that it also tells the truth about an event loop that no longer turns.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from bohdi_common.runtime import metrics

_LOOP_SILENT_MAX_S = 120.0
_BROKER_SILENT_MAX_S = 15.0


@dataclass
class Health:
    """What a process knows of itself; set from its event loop, read from the server's thread.

    `stuck_after_s`: an input that is older is a reason to be started again."""

    service: str
    stuck_after_s: float
    phase: str = "starting"
    problem: str = ""  # why no work can be taken now, if something else says so than the numbers below
    assigned: int | None = None  # partitions; None while it belongs to no group
    oldest_input_age_s: Callable[[], float] = field(default=lambda: 0.0)
    in_flight: Callable[[], int] = field(default=lambda: 0)
    lag: Mapping[tuple[str, int], int] = field(default_factory=dict)  # events not settled, by topic and partition
    loop_turned_s: float = field(default_factory=time.monotonic)
    broker_seen_s: float = field(default=-1e9)

    def not_live(self) -> str:
        """Why the process must be started again; empty while it need not."""
        silent_s = time.monotonic() - self.loop_turned_s
        if silent_s > _LOOP_SILENT_MAX_S:
            return f"the event loop has not turned for {silent_s:.0f} s"
        if self.oldest_input_age_s() > self.stuck_after_s:
            return f"an input has been in hand for {self.oldest_input_age_s():.0f} s"
        return ""

    def not_ready(self) -> str:
        """Why the process takes no work now; empty when it does."""
        if self.phase != "running":
            return self.problem or self.phase
        silent_s = time.monotonic() - self.broker_seen_s
        if silent_s > _BROKER_SILENT_MAX_S:
            return f"the broker has not answered for {min(silent_s, 1e6):.0f} s"
        if self.assigned is None:  # without a broker there are none: that was said above
            return self.problem or "waiting for its partitions"
        return self.problem or self.not_live()

    def facts(self) -> dict[str, Any]:
        return {
            "service": self.service,
            "phase": self.phase,
            "assigned_partitions": self.assigned,
            "in_flight": self.in_flight(),
            "oldest_input_age_s": round(self.oldest_input_age_s(), 3),
            "broker_silent_s": round(min(time.monotonic() - self.broker_seen_s, 1e6), 1),
        }


def serve(health: Health, host: str, port: int) -> int:
    """Answers in a daemon thread for as long as the process lives; returns the port (of its own choice for 0).
    Raises OSError when the address is taken."""

    class Answer(BaseHTTPRequestHandler):
        timeout = 5

        def do_GET(self) -> None:
            if self.path == "/metrics":
                return self._answer(200, *metrics.exposition(self.headers.get("Accept", "")))
            reasons = {"/live": health.not_live, "/ready": health.not_ready}
            if self.path not in reasons:
                return self.send_error(404)
            reason = reasons[self.path]()
            body = json.dumps({"ok": not reason, "reason": reason, **health.facts()}).encode()
            return self._answer(503 if reason else 200, body, "application/json")

        def _answer(self, status: int, body: bytes, content_type: str) -> None:
            self.send_response(status)
            self.send_header("Content-Type", content_type)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *arguments: Any) -> None: ...

    server = ThreadingHTTPServer((host, port), Answer)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, name="health", daemon=True).start()
    return int(server.server_address[1])
