"""A training as a TrainJob of Kubeflow Trainer v2: submitted through the cluster's API, watched until it is done.

The job's name follows from the request, so that a service that was started again finds the job that is there. What the
cluster's owner decides (image, the store's volume, GPUs, queue) stands in the TrainingRuntime that the job names; the
store is mounted there where it is mounted here.
"""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import urllib3
from kubernetes import client, config, watch

from bohdi_common.core.ids import derived_id
from bohdi_common.events import events_pb2 as pb
from bohdi_common.models.port import ModelUnavailable
from services.training.job import LaunchFailed, TrainingStopped
from services.training.job_files import JobFolder

_log = logging.getLogger("bohdi")
NAMESPACE, RUNTIME = "BOHDI_TRAINJOB_NAMESPACE", "BOHDI_TRAINJOB_RUNTIME"
_DEFAULT_RUNTIME = "bohdi"
_OWN_NAMESPACE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")
_GROUP, _VERSION, _PLURAL = "trainer.kubeflow.org", "v1alpha1", "trainjobs"
_REQUEST = "bohdi/request"  # annotation: whose job it is
_NAME_DIGITS = 20
_WINDOW_S = 10  # of one watch: as long may a stop take
_CALL_S = 30.0
_PAUSE_S = 2.0
_AWAY_S = 300.0  # after so long without an answer the API is away
_SEEN_S = 60.0  # a result that another machine wrote is to be seen here by then
_LATE_S = 600.0  # the processes know the bound too; this is for those that never began
_REASON_CHARS = 400
_BOUND = {"_request_timeout": _CALL_S}

OnStep = Callable[[int, float], None]


@dataclass(frozen=True)
class Place:
    """Where jobs are made."""

    namespace: str
    runtime: str


def run(folder: JobFolder, settings: pb.TrainingSettings, stop: Callable[[], bool], on_step: OnStep) -> None:
    """Has a TrainJob do the job in `folder`, and removes it once it has ended. When `stop` says so it goes on without
    this process, which raises TrainingStopped: whoever is asked next finds it. Raises LaunchFailed, with the job's own
    reason, when it leaves no result, and ModelUnavailable when the API is away."""
    api, place = _reached()
    job = trainjob(folder, settings, place.runtime)
    jobs = _Jobs(api, place.namespace, job["metadata"]["name"], stop)
    _Watched(jobs, folder, stop, on_step, settings.timeout_s).until_done(job)


def trainjob(folder: JobFolder, settings: pb.TrainingSettings, runtime: str) -> dict[str, Any]:
    """The object to submit. Its runtime, of kind TrainingRuntime and in its namespace, gives image, volumes and
    resources; Kubeflow's torch policy tells torchrun by its variables (PET_*) of nodes and processes."""
    path = folder.path.absolute()
    request = path.name
    return {
        "apiVersion": f"{_GROUP}/{_VERSION}",
        "kind": "TrainJob",
        "metadata": {
            "name": f"bohdi-{derived_id(*path.parts[-3:])[:_NAME_DIGITS]}",  # run, versions, request
            "labels": {"app.kubernetes.io/part-of": "bohdi", "app.kubernetes.io/component": "training"},
            "annotations": {_REQUEST: request},
        },
        "spec": {
            "runtimeRef": {"apiGroup": _GROUP, "kind": "TrainingRuntime", "name": runtime},
            "trainer": {
                "command": ["python", "-W", "ignore", "-m", "torch.distributed.run"],
                "args": ["-m", "services.training.launched", str(path)],
                "numNodes": max(1, settings.nodes),
                "numProcPerNode": max(1, settings.processes),
            },
        },
    }


def _reached() -> tuple[client.CustomObjectsApi, Place]:
    """The API of the cluster that this process runs in, or of the kubeconfig's current context."""
    named = os.environ.get(NAMESPACE, "")
    try:
        if _OWN_NAMESPACE.is_file():
            config.load_incluster_config()
            namespace = named or _OWN_NAMESPACE.read_text(encoding="utf-8").strip()
        else:
            config.load_kube_config()
            context = config.list_kube_config_contexts()[1]["context"]
            namespace = named or context.get("namespace", "default")
    except config.ConfigException as error:
        raise LaunchFailed(f"launcher trainjob: no cluster: {error}: run it in one, or set KUBECONFIG") from None
    return client.CustomObjectsApi(), Place(namespace, os.environ.get(RUNTIME, _DEFAULT_RUNTIME))


class _Jobs:
    """One TrainJob behind the API, which may be away for a while: every call is repeated within a bound."""

    def __init__(self, api: client.CustomObjectsApi, namespace: str, name: str, stop: Callable[[], bool]) -> None:
        self._api = api
        self._where = {"group": _GROUP, "version": _VERSION, "namespace": namespace, "plural": _PLURAL}
        self.name = name
        self._stop = stop

    def get(self) -> dict[str, Any] | None:
        """The job as it is now; None when there is none."""
        try:
            return self._asked(lambda: self._api.get_namespaced_custom_object(**self._where, name=self.name, **_BOUND))
        except _NotThere:
            return None

    def create(self, job: dict[str, Any]) -> dict[str, Any] | None:
        """The job as it was made; None when there is one of that name."""
        try:
            return self._asked(lambda: self._api.create_namespaced_custom_object(**self._where, body=job, **_BOUND))
        except _Taken:
            return None
        except _NotThere as error:
            raise LaunchFailed(f"the cluster does not take the TrainJob: {error}") from None

    def delete(self) -> None:
        """Also what belongs to it, and however often."""
        with suppress(_NotThere):
            self._asked(
                lambda: self._api.delete_namespaced_custom_object(
                    **self._where, name=self.name, propagation_policy="Background", **_BOUND
                )
            )

    def changes(self, version: str) -> dict[str, Any] | None:
        """The job at the next change after `version`; None when nothing came of one watch, which may be cut."""
        try:
            events = watch.Watch().stream(
                self._api.list_namespaced_custom_object,
                **self._where,
                field_selector=f"metadata.name={self.name}",
                resource_version=version,
                timeout_seconds=_WINDOW_S,
                _request_timeout=_CALL_S,
            )
            for event in events:
                if event["type"] in ("ADDED", "MODIFIED"):
                    return dict(event["object"])
                return None  # deleted, or an error: the next look tells
        except (client.ApiException, urllib3.exceptions.HTTPError, OSError, ValueError, KeyError) as error:
            _log.warning("the watch of %s was cut: %s", self.name, " ".join(str(error).split())[:_REASON_CHARS])
            time.sleep(_PAUSE_S)
        return None

    def _asked(self, call: Callable[[], Any]) -> dict[str, Any]:
        """The API's answer, for which it may be asked many times. Raises what _refusal gives, and ModelUnavailable."""
        until_s = time.monotonic() + _AWAY_S
        while True:
            try:
                return dict(call())
            except client.ApiException as error:
                if refused := _refusal(error):
                    raise refused from None
                said = f"{error.status} {error.reason}"
            except (urllib3.exceptions.HTTPError, OSError) as error:
                said = " ".join(str(error).split())[:_REASON_CHARS]
            if self._stop():
                raise TrainingStopped("stopped while the cluster's API did not answer")
            if time.monotonic() > until_s:
                raise ModelUnavailable(f"the cluster's API has not answered for {_AWAY_S:.0f} s: {said}")
            time.sleep(_PAUSE_S)


class _Taken(Exception):
    """There is one of that name."""


class _NotThere(Exception):
    """There is no such one; says of what."""


def _refusal(error: client.ApiException) -> Exception | None:
    """What it means for good; None when the same may be asked again."""
    try:
        told = dict(json.loads(error.body or ""))
    except ValueError:  # no Status object: not the API's own word
        told = {}
    said = str(told.get("message", error.reason))[:_REASON_CHARS]
    match error.status:
        case 409:
            return _Taken(said)
        case 404 if told.get("details", {}).get("name"):
            return _NotThere(said)
        case 404:
            return LaunchFailed(f"the cluster knows no {_PLURAL}.{_GROUP}: install Kubeflow Trainer v2 there")
        case 401 | 403:
            return LaunchFailed(f"the cluster refuses: {said}: allow get, list, watch, create and delete of {_PLURAL}")
        case 400 | 422:
            return LaunchFailed(f"the cluster does not take the TrainJob: {said}")
    return None


class _Watched:
    """One training's job, from submission to removal."""

    def __init__(
        self, jobs: _Jobs, folder: JobFolder, stop: Callable[[], bool], on_step: OnStep, timeout_s: float
    ) -> None:
        self._jobs, self._folder, self._stop, self._on_step = jobs, folder, stop, on_step
        self._timeout_s = timeout_s
        self._until_s = time.monotonic() + timeout_s + _LATE_S if timeout_s else float("inf")
        self._read_to = 0

    def until_done(self, job: dict[str, Any]) -> None:
        standing = self._submitted(job)
        while not (ended := _ended(standing)):
            self._look()
            changed = self._jobs.changes(standing["metadata"]["resourceVersion"]) or self._jobs.get()
            if changed is None:
                if self._folder.is_there():
                    return
                raise LaunchFailed(f"TrainJob {self._jobs.name} was deleted before it was done")
            standing = changed
        self._look()
        self._settled(ended)

    def _submitted(self, job: dict[str, Any]) -> dict[str, Any]:
        """The job of this request, which may be there from before; one that is on its way out is waited for."""
        wanted = job["metadata"]["annotations"][_REQUEST]
        while True:
            standing = self._jobs.get()
            if standing is None:
                self._folder.forget()
                standing = self._jobs.create(job) or self._jobs.get()
            if standing and not standing["metadata"].get("deletionTimestamp"):
                if standing["metadata"].get("annotations", {}).get(_REQUEST) != wanted:
                    raise LaunchFailed(f"TrainJob {self._jobs.name} is of another request: delete it")
                return standing
            self._look()
            time.sleep(_PAUSE_S)

    def _look(self) -> None:
        steps, self._read_to = self._folder.progress(self._read_to)
        for step, loss in steps:
            self._on_step(step, loss)
        if self._stop():
            raise TrainingStopped("stopped while its TrainJob runs on")
        if time.monotonic() > self._until_s:
            self._jobs.delete()
            late = f"was not done within {self._timeout_s:.0f} s; raise training.timeout_s"
            raise LaunchFailed(f"TrainJob {self._jobs.name} {late}")

    def _settled(self, ended: dict[str, Any]) -> None:
        """Removes the job, whose result, if it left one, is on the store."""
        seen_s = time.monotonic() + (_SEEN_S if ended["type"] == "Complete" else 0.0)
        while not self._folder.is_there() and time.monotonic() < seen_s:
            time.sleep(_PAUSE_S)
        self._jobs.delete()
        if not self._folder.is_there():
            said = self._folder.crash() or f"{ended.get('reason', '')}: {ended.get('message', '')}"
            raise LaunchFailed(
                f"TrainJob {self._jobs.name} is {ended['type']} and left no result in {self._folder.path}: "
                f"{' '.join(said.split())[-_REASON_CHARS:]}"
            )


def _ended(job: dict[str, Any]) -> dict[str, Any] | None:
    """The condition that ended it, if one has."""
    conditions = job.get("status", {}).get("conditions", [])
    return next((c for c in conditions if c["type"] in ("Complete", "Failed") and c["status"] == "True"), None)
