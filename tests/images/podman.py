"""Images and containers by podman, which needs no daemon. As root: their user must be able to write the store."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.request import urlopen

import yaml

BASE = "localhost/bohdi-base:bookworm"
_PACKAGES = "python3,python3-pip,python3-venv,ca-certificates"
_BUILD_S, _QUICK_S, _POLL_S = 3600.0, 120.0, 0.5
_MOUNTS = "print(next(row.split()[3] for row in open('/proc/self/mounts') if row.split()[1] == '/').split(',')[0])"


class PodmanFailed(RuntimeError):
    """A command of podman's failed. The message has its last lines."""


def podman(*arguments: str, within_s: float = _QUICK_S) -> str:
    """What it prints. Raises PodmanFailed."""
    done = _ran(*arguments, within_s=within_s)
    if done.returncode:
        said = "\n".join((done.stderr.strip() or done.stdout.strip()).splitlines()[-12:])
        raise PodmanFailed(f"podman {' '.join(arguments[:2])}: exit code {done.returncode}: {said}")
    return done.stdout.strip()


def _ran(*arguments: str, within_s: float = _QUICK_S) -> subprocess.CompletedProcess[str]:
    told = ["podman", "--runtime", "runc", *arguments]
    quiet = os.environ | {"DISABLE_HC_SYSTEMD": "true"}  # health is asked here; podman's own timers want systemd
    return subprocess.run(told, capture_output=True, text=True, timeout=within_s, env=quiet, check=False)


def bootstrapped() -> str:
    """A base image of Debian's own packages, made here unless it is there already; for where no registry of images
    can be reached. Needs mmdebstrap."""
    if BASE not in podman("images", "--format", "{{.Repository}}:{{.Tag}}").splitlines():
        with tempfile.TemporaryDirectory() as folder:
            tar = str(Path(folder) / "base.tar")
            told = ["mmdebstrap", "--quiet", "--variant=minbase", f"--include={_PACKAGES}", "bookworm", tar]
            subprocess.run(told, timeout=_BUILD_S, check=True)
            podman("import", tar, BASE, within_s=_BUILD_S)
    return BASE


def build(service: str, image: str, base: str, secrets: Mapping[str, Path]) -> None:
    """The service's image from its Dockerfile, `base` in the place of the Dockerfile's own unless empty. `secrets`:
    files by the names that the Dockerfile mounts them under; they come into no layer."""
    told = ["--isolation", "chroot", "--network", "host", "--format", "docker"]  # OCI's format has no HEALTHCHECK
    told += [part for name, file in secrets.items() for part in ("--secret", f"id={name},src={file}")]
    told += ["--build-arg", f"BASE={base}"] if base else []
    podman("build", *told, "--tag", image, "--file", f"services/{service}/Dockerfile", ".", within_s=_BUILD_S)


def inspect(kind: str, name: str) -> dict[str, Any]:
    """What podman knows of an image or a container."""
    (found,) = json.loads(podman("inspect", "--type", kind, name))
    return dict(found)


@dataclass(frozen=True)
class Promised:
    """What a service's Deployment gives its container: seconds to end in, and memory as podman writes it."""

    grace_s: int
    memory: str

    @classmethod
    def of(cls, service: str) -> Promised:
        name = service.replace("_", "-")
        pod = yaml.safe_load(Path(f"k8s/base/{name}/deployment.yaml").read_text())["spec"]["template"]["spec"]
        memory = str(pod["containers"][0]["resources"]["limits"]["memory"])
        return cls(pod["terminationGracePeriodSeconds"], memory.lower().removesuffix("i"))


@dataclass
class Container:
    """A service's container as its pod would be: read-only root, no capabilities, the memory and the grace period of
    its Deployment; but on the host's network, with its health on a `port` of its own."""

    name: str
    image: str
    port: int
    promised: Promised
    began_s: float = 0.0

    def start(self, store: Path, environment: Mapping[str, str]) -> None:
        """Begins it; `store` is at the same place in it as here, so that others may be told of paths there."""
        told = {"BOHDI_STORE": str(store), "BOHDI_HEALTH": f"127.0.0.1:{self.port}", **environment}
        self.began_s = time.monotonic()
        podman(
            "run", "--detach", "--name", self.name, *CONFINED, "--memory", self.promised.memory,
            "--volume", f"{store}:{store}", *(f"--env={name}={value}" for name, value in told.items()), self.image,
        )  # fmt: skip

    def healthy_after_s(self, within_s: float) -> float:
        """Seconds from its start until its image's own health check passed. Raises PodmanFailed, TimeoutError."""
        return self._until(self._healthy, within_s, "not healthy")

    def ready_after_s(self, within_s: float) -> float:
        """Seconds from its start until it takes work, by what the readiness probe asks. Raises as `healthy_after_s`."""
        return self._until(self._ready, within_s, "not ready")

    def runs_as(self) -> tuple[str, str]:
        """`USER:GROUP` of its process, and how its root is mounted: `ro` or `rw`."""
        user = podman("exec", self.name, "sh", "-c", "echo $(id -u):$(id -g)")
        return user, podman("exec", self.name, "python", "-c", _MOUNTS)

    def stop(self) -> tuple[float, int]:
        """SIGTERM; returns the seconds until its process had ended, and its exit code, 137 if the grace period did not
        do. What podman takes longer, to clear up after it, is not the service's."""
        began = datetime.now(UTC)
        podman("stop", "--time", str(self.promised.grace_s), self.name)
        state = inspect("container", self.name)["State"]
        seconds, _, fraction = str(state["FinishedAt"]).partition(".")  # in nanoseconds, and local time
        zone = fraction.lstrip("0123456789")
        ended = datetime.fromisoformat(f"{seconds}.{fraction[:6]}{zone.replace('Z', '+00:00')}")
        return (ended - began).total_seconds(), int(state["ExitCode"])

    def logs(self) -> str:
        done = _ran("logs", self.name)
        return done.stdout + done.stderr

    def remove(self) -> None:
        _ran("rm", "--force", "--time", "0", self.name)

    def _healthy(self) -> bool:
        return _ran("healthcheck", "run", self.name).returncode == 0

    def _ready(self) -> bool:
        try:
            with urlopen(f"http://127.0.0.1:{self.port}/ready", timeout=5) as answer:
                return bool(answer.status == 200)
        except (URLError, OSError):
            return False

    def _until(self, holds: Any, within_s: float, otherwise: str) -> float:
        while not holds():
            state = inspect("container", self.name)["State"]
            if state["Status"] not in ("created", "running"):
                raise PodmanFailed(f"{self.name} ended with {state['ExitCode']}: {self.logs()[-2000:]}")
            if time.monotonic() - self.began_s > within_s:
                raise TimeoutError(f"{self.name}: {otherwise} after {within_s:.0f} s: {self.logs()[-2000:]}")
            time.sleep(_POLL_S)
        return time.monotonic() - self.began_s


# What the manifests say of every container, in podman's words. Its own limits of files and processes are more than a
# container in a container may set.
CONFINED: Sequence[str] = (
    "--network", "host", "--read-only", "--read-only-tmpfs=false", "--tmpfs", "/tmp:rw,exec,mode=1777",
    "--cap-drop", "all", "--security-opt", "no-new-privileges", "--ulimit", "nofile=4096:4096",
    "--ulimit", "nproc=4096:4096",
)  # fmt: skip


@contextmanager
def containers(told: Sequence[Container]) -> Iterator[Sequence[Container]]:
    """Of these names none is left from before, and none stays."""
    for each in told:
        each.remove()
    try:
        yield told
    finally:
        for each in told:
            each.remove()
