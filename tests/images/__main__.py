"""`python -m tests.images [--base IMAGE|debian] [--built] [SERVICE ...]`: images, and a micro-world run through them.

Each is built from its Dockerfile (unless `--built`: they are there) and started as its pod would be, on a real broker
whose topics the bandit's image makes; its own health check must pass. Then a run goes through all five, its models
behind servers beside them, to its end; `bohdi verify` and an account of every record must find nothing. At last each
gets SIGTERM and must end in order within its grace period. `--base debian`: on a base that is made of Debian's own
packages here, where no registry of images can be reached. Of some services alone (default: all five), the others are
processes of this checkout. Ends with 1 when something is wrong.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import shutil
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from bohdi.kafka_runs import submit
from bohdi.run_folder import resolved
from bohdi.supervisor import Supervisor
from bohdi.verify_run import verify_on_kafka
from bohdi_common.core.state import ALL_ROUNDS_DONE
from bohdi_common.events import codec
from bohdi_common.events.events_pb2 import Event
from bohdi_common.events.topics import DEAD
from devbroker.broker import Broker, free_port
from tests import scripted
from tests.chaos.checker import raw_topics
from tests.demo_http import DEMO, SOURCES, WHOLE, behind, served
from tests.images.package_index import secrets
from tests.images.podman import CONFINED, Container, PodmanFailed, Promised, bootstrapped, build, containers, inspect
from tests.images.podman import podman as by_podman
from tests.kafka_runs.cluster import Cluster, cluster

# What goes into each service and what must come of it.
PASSES: Mapping[str, tuple[str, str]] = {
    "bandit": ("run_started", "paths_drawn"),
    "tree_expansion": ("sprout_requested", "domains_sprouted"),
    "generation": ("harvest_requested", "answers_written"),
    "judging": ("answers_written", "harvest_judged"),
    "training": ("training_requested", "target_promoted"),
}
FOLDER = Path("runs/images").absolute()
USER = 10001
_TOPICS_S, _START_S, _RUN_S = 600.0, 600.0, 1800.0
_RUN = "through-images"


@dataclass
class Seen:
    """What was seen of one image, and what was wrong with it."""

    service: str
    built_s: float = 0.0
    bytes: int = 0
    user: str = ""
    healthy_s: float = 0.0
    ready_s: float = 0.0
    passed: str = ""
    stopped_s: float = 0.0
    exit_code: int = -1
    problems: list[str] = field(default_factory=list)

    def line(self) -> str:
        return (
            f"{self.service:<15} {self.bytes / 1e6:6.0f} MB  user {self.user}, root read-only  healthy after "
            f"{self.healthy_s:.1f} s, ready after {self.ready_s:.1f} s  {self.passed}  "
            f"stopped after {self.stopped_s:.1f} s with {self.exit_code}"
        )


def image(service: str) -> str:
    """By the name that the manifests have."""
    return f"localhost/bohdi-{service.replace('_', '-')}:0.1.0"


def built(seen: Sequence[Seen], base: str) -> None:
    """Builds the images, one after the other."""
    with tempfile.TemporaryDirectory() as folder:
        given = secrets(Path(folder))
        for one in seen:
            began_s = time.monotonic()
            build(one.service, image(one.service), base, given)
            one.built_s = time.monotonic() - began_s
            print(f"built {image(one.service)} in {one.built_s:.0f} s", flush=True)


def make_topics(broker: Broker) -> None:
    """By the command of the cluster's Job, in the image that it uses."""
    (job,) = yaml.safe_load_all(Path("k8s/base/topics/job.yaml").read_text(encoding="utf-8"))
    command = job["spec"]["template"]["spec"]["containers"][0]["command"]
    told = [f"--env={name}={value}" for name, value in broker.environment.items()]
    by_podman("run", "--rm", "--no-healthcheck", *CONFINED, *told, image("bandit"), *command, within_s=_TOPICS_S)


def started(pods: Sequence[Container], seen: Sequence[Seen], broker: Broker, store: Path) -> None:
    """Starts the services one after the other, and notes how each container is."""
    for pod, one in zip(pods, seen, strict=True):
        pod.start(store, {**broker.environment, "OMP_NUM_THREADS": "1"})
        one.healthy_s = pod.healthy_after_s(_START_S)
        one.ready_s = pod.ready_after_s(_START_S)
        one.bytes = int(inspect("image", pod.image)["Size"])
        one.user, root = pod.runs_as()
        one.problems += [f"its process is {one.user}"] if one.user != f"{USER}:{USER}" else []
        one.problems += ["its root can be written"] if root != "ro" else []
        print(f"{one.service} is ready after {one.ready_s:.1f} s", flush=True)


@asynccontextmanager
async def processes(other_than: set[str], broker: Broker, store: Path) -> AsyncIterator[None]:
    """The services that are not in containers, as processes here."""
    told = {**broker.environment, "BOHDI_STORE": str(store)}
    lines: list[str] = []
    others = Supervisor(told, lines.append, services=[name for name in PASSES if name not in other_than])
    stop = asyncio.Event()
    supervising = asyncio.create_task(others.run(stop))
    try:
        yield
    finally:
        stop.set()
        await supervising
        (FOLDER / "processes.log").write_text("\n".join(lines))


async def through(services: Cluster) -> list[str]:
    """A run through the services that are up, to its end; returns what is wrong with it."""
    with served(*SOURCES, share=0.0) as sources, served("target", share=0.0, options=WHOLE) as target:
        place = services.place(_RUN)
        config = resolved(behind(sources.url, target.url, scripted.small()), DEMO.parent)
        await asyncio.to_thread(submit, place, config, 0)
        state = await services.ended(place, _RUN_S)
        account = await services.accounted([place])
    report = await asyncio.to_thread(verify_on_kafka, place)
    print(f"the run: {state.finished or state.paused}, {state.sequence} events, {account.settled} settled", flush=True)
    print(f"verify: {report['checked']}, {len(report['problems'])} problems", flush=True)
    wrong = [str(problem) for problem in report["problems"]] + account.lost + account.double_counted
    wrong += [f"{account.dead_letters} dead letters"] if account.dead_letters else []
    return wrong if state.finished == ALL_ROUNDS_DONE else [*wrong, f"not finished: {state.paused}"]


def caused(records: Mapping[str, Iterable[Any]]) -> dict[str, str]:
    """For each service, how many events of its kind went in, and how many came out that name one of them as cause."""
    told_of = [topic for name, topic in records.items() if name != DEAD.name]  # a dead letter may hold anything
    events: list[Event] = [codec.decode(record.value) for topic in told_of for record in topic]
    of_kind = {kind: [event for event in events if codec.kind_of(event) == kind] for kind in _kinds()}
    told = {}
    for service, (inward, outward) in PASSES.items():
        ids = {event.event_id for event in of_kind[inward]}
        came = [event for event in of_kind[outward] if event.cause_id in ids and event.producer == service]
        told[service] = f"{len(ids)} {inward} -> {len(came)} {outward}" if came else ""
    return told


def _kinds() -> set[str]:
    return {kind for pair in PASSES.values() for kind in pair}


def stopped(pods: Sequence[Container], seen: Sequence[Seen]) -> None:
    for pod, one in zip(pods, seen, strict=True):
        one.stopped_s, one.exit_code = pod.stop()
        if one.exit_code or one.stopped_s > pod.promised.grace_s:
            one.problems.append(f"ended with {one.exit_code} after {one.stopped_s:.1f} s: {pod.logs()[-500:]}")


async def checked(seen: Sequence[Seen]) -> list[str]:
    """The containers up, a run through them, the containers down. Returns what was wrong with the run."""
    store = FOLDER / "store"
    store.mkdir(parents=True)
    os.chown(store, USER, USER)
    pods = [
        Container(f"bohdi-check-{one.service}", image(one.service), free_port(), Promised.of(one.service))
        for one in seen
    ]
    with Broker(FOLDER / "broker") as broker, containers(pods):
        make_topics(broker)
        await asyncio.to_thread(started, pods, seen, broker, store)
        others = processes({one.service for one in seen}, broker, store)
        async with others, cluster(broker, FOLDER, start=False, topics=False) as services:
            wrong = await through(services)
        came = caused(raw_topics(broker.bootstrap))
        for one in seen:
            one.passed = came[one.service]
            one.problems += [] if one.passed else [f"nothing came of {PASSES[one.service][0]}"]
        await asyncio.to_thread(stopped, pods, seen)
        for pod in pods:
            (FOLDER / f"{pod.name}.log").write_text(pod.logs())
    return wrong


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base", default="", help="a base image, or `debian`; default: the Dockerfiles' own")
    parser.add_argument("services", nargs="*", metavar="SERVICE", help=f"of {', '.join(PASSES)}")
    parser.add_argument("--built", action="store_true", help="the images are there")
    told = parser.parse_args()
    if unknown := set(told.services) - set(PASSES):
        parser.error(f"no such service: {', '.join(sorted(unknown))}")
    wanted = {"podman", "runc"} | ({"mmdebstrap"} if told.base == "debian" else set())
    if missing := sorted(name for name in wanted if not shutil.which(name)):
        print(f"bohdi: not on the PATH: {', '.join(missing)}: install it (apt-get install)", file=sys.stderr)
        return 2
    shutil.rmtree(FOLDER, ignore_errors=True)
    seen = [Seen(service) for service in PASSES if service in (told.services or PASSES)]
    try:
        if not told.built:
            built(seen, bootstrapped() if told.base == "debian" else told.base)
        wrong = asyncio.run(checked(seen))
    except (PodmanFailed, TimeoutError) as error:
        print(f"bohdi: {error}", file=sys.stderr)
        return 1
    wrong += [f"{one.service}: {problem}" for one in seen for problem in one.problems]
    print(*(one.line() for one in seen), *(wrong or ["nothing is wrong"]), sep="\n")
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
