"""The pods that a set of objects makes, and what selects them. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from tests.deploy.rendered import Object, Objects

_WORKLOADS = ("Deployment", "StatefulSet", "Job")


@dataclass(frozen=True)
class Pod:
    """A pod template. `name`: of the object that it belongs to; `by_operator`: an operator makes its containers."""

    name: str
    kind: str
    labels: dict[str, str]
    spec: Object
    by_operator: bool = False

    @property
    def containers(self) -> list[Object]:
        return [*self.spec.get("initContainers", []), *self.spec.get("containers", [])]

    def port(self, told: str | int) -> int | None:
        """The number of a port, by its name or number; None where no container has it."""
        for container in self.containers:
            for port in container.get("ports", []):
                if told in (port.get("name"), port["containerPort"]):
                    return int(port["containerPort"])
        return None


def pods(objects: Objects) -> list[Pod]:
    """All pod templates, with those that the operators of Strimzi and Kubeflow make."""
    return [*_plain(objects), *_brokers(objects), *_training_jobs(objects)]


def _plain(objects: Objects) -> Iterator[Pod]:
    for it in of_kind(objects, *_WORKLOADS):
        template = it["spec"]["template"]
        claims = [{"name": name_of(claim)} for claim in it["spec"].get("volumeClaimTemplates", [])]
        spec = template["spec"] | {"volumes": template["spec"].get("volumes", []) + claims}
        yield Pod(name_of(it), it["kind"], template["metadata"].get("labels", {}), spec)


def _brokers(objects: Objects) -> Iterator[Pod]:
    ports = [
        {"name": listener["name"], "containerPort": listener["port"]}
        for kafka in of_kind(objects, "Kafka")
        for listener in kafka["spec"]["kafka"]["listeners"]
    ]
    for pool in of_kind(objects, "KafkaNodePool"):
        own = pool["spec"].get("template", {}).get("pod", {}).get("metadata", {}).get("labels", {})
        labels = pool["metadata"]["labels"] | {"strimzi.io/pool-name": name_of(pool)} | own
        spec = {"containers": [{"name": "kafka", "ports": ports}]}
        yield Pod(name_of(pool), "KafkaNodePool", labels, spec, by_operator=True)


def _training_jobs(objects: Objects) -> Iterator[Pod]:
    for runtime in of_kind(objects, "TrainingRuntime"):
        for job in runtime["spec"]["template"]["spec"]["replicatedJobs"]:
            template = job["template"]["spec"]["template"]
            yield Pod("trainjob", "TrainingRuntime", template["metadata"]["labels"], template["spec"])


def of_kind(objects: Objects, *kinds: str) -> list[Object]:
    return [it for it in objects if it["kind"] in kinds]


def name_of(it: Object) -> str:
    return str(it["metadata"]["name"])


def title(it: Object) -> str:
    """How a complaint names an object."""
    return f"{it['kind']}/{name_of(it)}"


def selects(selector: dict[str, Any], labels: dict[str, str]) -> bool:
    """Whether a label selector (or a Service's plain one) takes a pod of these labels. An empty one takes all."""
    if not selector.keys() & {"matchLabels", "matchExpressions"}:
        return selector.items() <= labels.items()
    if not selector.get("matchLabels", {}).items() <= labels.items():
        return False
    return all(_holds(term, labels) for term in selector.get("matchExpressions", []))


def _holds(term: dict[str, Any], labels: dict[str, str]) -> bool:
    assert term["operator"] == "In", f"not understood here: {term}"
    return labels.get(term["key"]) in term["values"]
