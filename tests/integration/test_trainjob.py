"""A training as a TrainJob: one job for a request, watched to its end whatever the API does, and removed."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from bohdi_common.events import events_pb2 as pb
from bohdi_common.models.port import ModelUnavailable
from services.training import launchers, trainjob
from services.training.job import (
    FineTuned,
    FineTuning,
    LaunchFailed,
    TrainingDiverged,
    TrainingStopped,
)
from services.training.job_files import JobFolder
from tests.kube_api import CUT, GONE, Cluster, serving

SETTINGS = pb.TrainingSettings(launcher=pb.LAUNCHER_TRAINJOB, nodes=2, processes=4, timeout_s=100)
DONE = FineTuned(steps=2, first_loss=2.0, last_loss=1.0, tokens=9, too_long=0, seconds=0.5, processes=8)


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    cluster = Cluster()
    with serving(cluster, tmp_path) as kubeconfig:
        monkeypatch.setenv("KUBECONFIG", str(kubeconfig))
        monkeypatch.setattr("kubernetes.config.kube_config.KUBE_CONFIG_DEFAULT_LOCATION", str(kubeconfig))
        monkeypatch.setattr(trainjob, "_PAUSE_S", 0.05)
        monkeypatch.setattr(trainjob, "_WINDOW_S", 1)
        yield cluster


@pytest.fixture
def folder(tmp_path: Path) -> JobFolder:
    folder = JobFolder(tmp_path / "run-1" / "versions" / ".job-r1-ab")
    folder.write(FineTuning(tmp_path, tmp_path, folder.out, [], [0], batch=8, learning_rate=0.1, max_tokens=9), 100)
    return folder


def trains(cluster: Cluster, folder: JobFolder, train: Callable[[FineTuning], FineTuned]) -> None:
    """The controller and its pods: they do what stands in the job's own arguments."""

    def work(name: str) -> None:
        told = JobFolder(Path(cluster.created[-1]["spec"]["trainer"]["args"][-1]))
        assert told == folder
        told.perform(train, lambda: False, lambda step, loss: None)
        cluster.ends(name, "Complete")

    cluster.on_create = work


def good(job: FineTuning) -> FineTuned:
    (job.out / "weights").write_text("w")
    job.on_step(1, 2.0)
    job.on_step(2, 1.0)
    return DONE


def never(job: FineTuning) -> FineTuned:
    raise AssertionError("trained here")


def run(folder: JobFolder, steps: list[Any] | None = None, stop: Callable[[], bool] = lambda: False) -> FineTuned:
    seen = [] if steps is None else steps
    return launchers.run(folder, SETTINGS, never, stop, lambda step, loss: seen.append((step, loss)))


def test_the_job_trains_says_its_steps_and_is_removed(cluster: Cluster, folder: JobFolder) -> None:
    trains(cluster, folder, good)
    steps: list[Any] = []
    assert run(folder, steps) == DONE
    assert steps == [(1, 2.0), (2, 1.0)]
    assert cluster.jobs == {}
    trainer = cluster.created[0]["spec"]["trainer"]
    assert (trainer["numNodes"], trainer["numProcPerNode"]) == (2, 4)


def test_a_request_asked_again_finds_the_job_that_is_there(cluster: Cluster, folder: JobFolder) -> None:
    begun = threading.Event()
    cluster.on_create = lambda name: begun.set()
    with pytest.raises(TrainingStopped):
        run(folder, stop=begun.is_set)
    (name,) = cluster.jobs
    folder.perform(good, lambda: False, lambda step, loss: None)
    cluster.ends(name, "Complete")
    assert run(folder) == DONE and len(cluster.created) == 1


def test_a_job_that_is_there_and_ran_on_is_watched_to_its_end(cluster: Cluster, folder: JobFolder) -> None:
    job = trainjob.trainjob(folder, SETTINGS, "r")
    name = job["metadata"]["name"]
    cluster.put(job)

    def later() -> None:
        folder.perform(good, lambda: False, lambda step, loss: None)
        cluster.ends(name, "Complete")

    cluster.faults["get"] = [404]  # as it is when another made it between the look and the creation
    threading.Timer(0.3, later).start()
    assert run(folder) == DONE and cluster.created == [] and "create" in cluster.seen


def test_other_requests_have_other_jobs(folder: JobFolder) -> None:
    other = JobFolder(folder.path.with_name(".job-r1-cd"))
    elsewhere = JobFolder(Path("/mnt/run-1/versions") / folder.path.name)
    names = [trainjob.trainjob(f, SETTINGS, "r")["metadata"]["name"] for f in (folder, other, elsewhere)]
    assert names[0] != names[1] and names[0] == names[2]


@pytest.mark.parametrize(
    "faults",
    [{"watch": [CUT, GONE, 500, CUT]}, {"get": [503, CUT, 429]}, {"create": [500]}, {"delete": [CUT, 503]}],
    ids=str,
)
def test_what_the_api_drops_is_asked_again(cluster: Cluster, folder: JobFolder, faults: dict[str, list[int]]) -> None:
    cluster.faults = {verb: list(codes) for verb, codes in faults.items()}
    trains(cluster, folder, good)
    assert run(folder) == DONE
    assert len(cluster.created) == 1 and cluster.jobs == {}


def test_an_api_that_stays_away_is_a_model_that_is_away(
    cluster: Cluster, folder: JobFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trainjob, "_AWAY_S", 0.3)
    cluster.faults["get"] = [503] * 1000
    with pytest.raises(ModelUnavailable, match="has not answered for 0 s: 503"):
        run(folder)


def test_a_failed_job_fails_with_its_own_reason_and_is_removed(cluster: Cluster, folder: JobFolder) -> None:
    cluster.on_create = lambda name: cluster.ends(name, "Failed", "JobsFailed", "node-0 was evicted")
    with pytest.raises(LaunchFailed, match=r"is Failed and left no result in .*: JobsFailed: node-0 was evicted"):
        run(folder)
    assert cluster.jobs == {}


def test_what_the_training_itself_found_is_raised_here(cluster: Cluster, folder: JobFolder) -> None:
    def diverges(job: FineTuning) -> FineTuned:
        raise TrainingDiverged("the loss is nan at step 3")

    trains(cluster, folder, diverges)
    with pytest.raises(TrainingDiverged, match="the loss is nan at step 3"):
        run(folder)


def test_a_job_that_somebody_deleted_is_said_to_be_so(cluster: Cluster, folder: JobFolder) -> None:
    cluster.on_create = cluster.drop
    with pytest.raises(LaunchFailed, match="was deleted before it was done"):
        run(folder)


def test_a_job_that_does_not_end_in_time_is_removed(
    cluster: Cluster, folder: JobFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trainjob, "_LATE_S", -99.5)
    with pytest.raises(LaunchFailed, match=r"was not done within 100 s; raise training\.timeout_s"):
        run(folder)
    assert cluster.jobs == {}


@pytest.mark.parametrize(
    ("code", "why"),
    [(403, "refuses: fault 403: allow get, list"), (422, "take the TrainJob: fault 422"), (404, "take the TrainJob")],
)
def test_what_the_cluster_refuses_is_one_clear_line(cluster: Cluster, folder: JobFolder, code: int, why: str) -> None:
    cluster.faults["create"] = [code]
    with pytest.raises(LaunchFailed, match=why):
        run(folder)
