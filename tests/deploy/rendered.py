"""The manifests as they would be applied: overlays, and every combination of components, rendered by kustomize."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from itertools import combinations
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
K8S = ROOT / "k8s"
TOOLS = ROOT / ".kube-tools"
OVERLAYS = tuple(sorted(folder.name for folder in (K8S / "overlays").iterdir()))
# In the order in which they must be named: the latter add to what the former bring.
_FREE = ("run", "vllm", "trainjob", "monitoring", "networkpolicies")
_RUN = {"name": "run-config", "literals": ["run.yaml=name: any"]}
_SETTINGS = {"name": "bohdi", "behavior": "merge", "literals": ["RUN=any"]}

Object = dict[str, Any]
Objects = list[Object]


def choices() -> Iterator[tuple[str, ...]]:
    """Every combination of components that makes sense: one Kafka of two, KEDA on Strimzi, the rest freely."""
    for count in range(len(_FREE) + 1):
        for free in combinations(_FREE, count):
            for kafka in (("kafka-dev",), ("kafka-strimzi",), ("kafka-strimzi", "keda")):
                yield (*free, *kafka)
            if "vllm" in free:
                yield (*free, "kafka-strimzi", "keda", "keda-vllm")


@cache
def overlay(name: str) -> Objects:
    """The objects of an overlay. Not to be changed."""
    return _objects(K8S / "overlays" / name)


@cache
def everything() -> dict[str, Objects]:
    """The objects of each overlay by its name, and of the base with each combination of components by theirs."""
    chosen = list(choices())
    with ThreadPoolExecutor(2) as two:
        combined = list(two.map(combination, chosen))
    named = zip(map("+".join, chosen), combined, strict=True)
    return {name: overlay(name) for name in OVERLAYS} | dict(named)


@cache
def combination(components: tuple[str, ...]) -> Objects:
    """The objects of the base with these components. Not to be changed."""
    folder = TOOLS / "combinations" / "+".join(components)  # paths in it are relative, so it stands in the project
    folder.mkdir(parents=True, exist_ok=True)
    told: Object = {
        "resources": [os.path.relpath(K8S / "base", folder)],
        "components": [os.path.relpath(K8S / "components" / component, folder) for component in components],
        "namespace": "bohdi",
        "configMapGenerator": [_RUN, _SETTINGS] if "run" in components else [],
    }
    (folder / "kustomization.yaml").write_text(yaml.safe_dump(told), encoding="utf-8")
    return _objects(folder)


def _objects(folder: Path) -> Objects:
    done = subprocess.run(
        [TOOLS / "bin" / "kustomize", "build", str(folder)], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise AssertionError(f"{folder}: {done.stderr.strip()}")
    return [found for found in yaml.load_all(done.stdout, yaml.CSafeLoader) if found]
