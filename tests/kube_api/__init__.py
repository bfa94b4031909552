"""A test's tool: as much of a Kubernetes API server as one TrainJob's life needs, on a free port of loopback.

Objects have resource versions, a name is taken once (409), a watch sends what changes after a version and ends when
its time is over, and what is not as it should be is answered by a Status object. `faults` are the next answers by verb.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import yaml

NAMESPACE = "fusion"
JOBS = f"/apis/trainer.kubeflow.org/v1alpha1/namespaces/{NAMESPACE}/trainjobs"
CUT, GONE = 0, 410  # faults: the connection ends without an answer; a watch tells that its version is too old


class Cluster:
    """`jobs` by name. `on_create` is the controller: it is called with a new job, in a thread of its own."""

    def __init__(self) -> None:
        self.jobs: dict[str, dict[str, Any]] = {}
        self.faults: dict[str, list[int]] = {}  # by verb: create, get, watch, delete
        self.seen: list[str] = []
        self.created: list[dict[str, Any]] = []
        self.on_create: Callable[[str], None] = lambda name: None
        self._version = 100
        self._changed = threading.Condition()
        self._log: list[tuple[int, str, dict[str, Any]]] = []

    def put(self, job: dict[str, Any], change: str = "MODIFIED") -> dict[str, Any]:
        with self._changed:
            self._version += 1
            stored = json.loads(json.dumps(job))
            stored["metadata"] |= {"resourceVersion": str(self._version), "namespace": NAMESPACE, "uid": "u"}
            self.jobs[stored["metadata"]["name"]] = stored
            self._log.append((self._version, change, stored))
            self._changed.notify_all()
            return stored

    def ends(self, name: str, kind: str, reason: str = "", message: str = "") -> None:
        """The controller's last word on a job."""
        condition = {"type": kind, "status": "True", "reason": reason, "message": message}
        self.put({**self.jobs[name], "status": {"conditions": [condition]}})

    def drop(self, name: str) -> None:
        with self._changed:
            self._version += 1
            self._log.append((self._version, "DELETED", self.jobs.pop(name)))
            self._changed.notify_all()

    def after(self, version: int, until_s: float) -> Iterator[tuple[str, dict[str, Any]]]:
        while True:
            with self._changed:
                new = [(v, change, job) for v, change, job in self._log if v > version]
                if not new and not self._changed.wait(max(0.0, until_s - time.monotonic())):
                    return
            for number, change, job in new:
                yield change, job
                version = number


def _status(code: int, message: str, name: str = "") -> dict[str, Any]:
    details = {"name": name, "kind": "trainjobs"} if name else {}
    what = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "details": details}
    return what | {"message": message, "code": code, "reason": message}


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    cluster: Cluster

    def log_message(self, *_: Any) -> None:
        """Not a word."""

    def _answer(self, code: int, body: Any) -> None:
        text = json.dumps(body).encode()
        self.send_response(code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def _faulty(self, verb: str) -> bool:
        self.cluster.seen.append(verb)
        faults = self.cluster.faults.get(verb, [])
        if not faults:
            return False
        code = faults.pop(0)
        if code == CUT:
            self.close_connection = True
            self.connection.close()
        elif code == GONE:
            self._stream([("ERROR", _status(GONE, "Expired"))])
        else:
            self._answer(code, _status(code, f"fault {code}", "it"))
        return True

    def _stream(self, events: Any) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for kind, job in events:
            line = json.dumps({"type": kind, "object": job}).encode() + b"\n"
            self.wfile.write(f"{len(line):x}\r\n".encode() + line + b"\r\n")
        self.wfile.write(b"0\r\n\r\n")

    def do_POST(self) -> None:
        job = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self._faulty("create"):
            return
        name = job["metadata"]["name"]
        if name in self.cluster.jobs:
            return self._answer(409, _status(409, "AlreadyExists", name))
        self.cluster.created.append(job)
        self._answer(201, self.cluster.put(job, "ADDED"))
        threading.Thread(target=self.cluster.on_create, args=(name,), daemon=True).start()

    def do_GET(self) -> None:
        asked = urlsplit(self.path)
        query = {key: values[0] for key, values in parse_qs(asked.query).items()}
        if query.get("watch", "").lower() == "true":
            if self._faulty("watch"):
                return
            until_s = time.monotonic() + float(query["timeoutSeconds"])
            name = query["fieldSelector"].removeprefix("metadata.name=")
            changes = self.cluster.after(int(query["resourceVersion"]), until_s)
            return self._stream((kind, job) for kind, job in changes if job["metadata"]["name"] == name)
        if self._faulty("get"):
            return
        name = asked.path.removeprefix(f"{JOBS}/")
        job = self.cluster.jobs.get(name)
        self._answer(200, job) if job else self._answer(404, _status(404, f"trainjobs {name!r} not found", name))

    def do_DELETE(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", "0")))
        if self._faulty("delete"):
            return
        name = urlsplit(self.path).path.removeprefix(f"{JOBS}/")
        if name not in self.cluster.jobs:
            return self._answer(404, _status(404, "not found", name))
        self.cluster.drop(name)
        self._answer(200, {"kind": "Status", "apiVersion": "v1", "status": "Success"})


@contextmanager
def serving(cluster: Cluster, folder: Path) -> Iterator[Path]:
    """Serves it; gives the kubeconfig with which it is reached."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"cluster": cluster}))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    kubeconfig = folder / "kubeconfig"
    kubeconfig.write_text(
        yaml.safe_dump(
            {
                "apiVersion": "v1",
                "kind": "Config",
                "clusters": [{"name": "c", "cluster": {"server": f"http://127.0.0.1:{server.server_port}"}}],
                "users": [{"name": "u", "user": {"token": "none"}}],
                "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u", "namespace": NAMESPACE}}],
                "current-context": "x",
            }
        )
    )
    try:
        yield kubeconfig
    finally:
        server.shutdown()
        server.server_close()
