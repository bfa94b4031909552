"""What the code says of itself and the manifests must agree with: variables, metrics, who asks models."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path

from bohdi_common.events.topics import TOPICS
from bohdi_common.log.kafka_settings import BadSetting, KafkaSettings
from tests.deploy.rendered import ROOT

_PACKAGES = ("bohdi", "bohdi_common", "services")
_VARIABLE = re.compile(r"BOHDI_[A-Z]+(_[A-Z]+)*")
_METRIC = re.compile(r"bohdi_[a-z0-9_]+")
# What a metric of each kind adds to its name, by prometheus-client.
_ENDINGS = {
    "Counter": ("_total", "_created"),
    "Histogram": ("_bucket", "_sum", "_count", "_created"),
    "Summary": ("_sum", "_count", "_created"),
    "Info": ("_info",),
}
SERVICES = ("bandit", "tree_expansion", "generation", "judging", "training")


class _Asked(Mapping[str, str]):
    """An environment that remembers what it was asked for."""

    def __init__(self, **there: str) -> None:
        self.names: set[str] = set()
        self._there = there

    def __getitem__(self, name: str) -> str:
        self.names.add(name)
        return self._there[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._there)

    def __len__(self) -> int:
        return len(self._there)


def variables() -> set[str]:
    """The environment variables that the code reads: those that stand in it as a text, and those of Kafka."""
    kafka = _Asked(BOHDI_KAFKA="broker:9092")
    with suppress(BadSetting):
        KafkaSettings.from_environment(environment=kafka)
    return kafka.names | {text for text in _texts() if _VARIABLE.fullmatch(text)}


def metrics() -> set[str]:
    """The names of the series that the code exports: the first argument of what makes a metric, with its endings."""
    found: set[str] = set()
    for call in (node for tree in _trees() for node in ast.walk(tree) if isinstance(node, ast.Call)):
        name = call.args[0].value if call.args and isinstance(call.args[0], ast.Constant) else ""
        if isinstance(name, str) and _METRIC.fullmatch(name):
            kind = ast.unparse(call.func).rpartition(".")[2].removesuffix("MetricFamily").strip("_").capitalize()
            found |= {name.removesuffix("_total") + ending for ending in _ENDINGS.get(kind, ())} | {name}
    return found


def kafka_users() -> set[str]:
    """The services that write or read a topic."""
    return {name for topic in TOPICS for name in (*topic.producers, *topic.consumers)} & set(SERVICES)


def model_users() -> set[str]:
    """The services that are made with models."""
    return {name for name in SERVICES if "around.models" in (ROOT / "services" / name / "__main__.py").read_text()}


def _texts() -> Iterator[str]:
    for tree in _trees():
        for node in ast.walk(tree):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                yield node.value


def _trees() -> Iterator[ast.Module]:
    for package in _PACKAGES:
        for file in sorted(Path(ROOT / package).rglob("*.py")):
            if not file.name.endswith("_pb2.py"):
                yield ast.parse(file.read_text(encoding="utf-8"))
