"""Every overlay and every combination of components renders, is what Kubernetes and the operators take, and pleases
kube-score."""

from __future__ import annotations

import json
import subprocess
from typing import Any

import pytest
import yaml

from tests.deploy.rendered import OVERLAYS, TOOLS, Objects, choices, everything, overlay
from tests.deploy.schemas import KUBERNETES

_SCHEMAS = (
    f"{TOOLS}/schemas/v{KUBERNETES}-standalone-strict/{{{{.ResourceKind}}}}{{{{.KindSuffix}}}}.json",
    f"{TOOLS}/schemas/custom/{{{{.ResourceKind}}}}-{{{{.Group}}}}-{{{{.ResourceAPIVersion}}}}.json",
)


def invalid(objects: Objects) -> list[str]:
    """What kubeconform has against them. One process for all: it reads every schema once."""
    locations = [part for schema in _SCHEMAS for part in ("-schema-location", schema)]
    text = yaml.dump_all(objects, Dumper=yaml.CSafeDumper)
    done = subprocess.run(
        [TOOLS / "bin" / "kubeconform", "-strict", "-output", "json", *locations],
        input=text, capture_output=True, text=True, check=False,
    )  # fmt: skip
    told = json.loads(done.stdout)["resources"]
    return [f"{it['kind']}/{it['name']}: {it['msg']}" for it in told if it["status"] != "statusSkipped"]


def bad_marks(objects: Objects) -> list[str]:
    """What kube-score criticises or warns of."""
    done = subprocess.run(
        [TOOLS / "bin" / "kube-score", "score", "--output-format", "ci", "-"],
        input=yaml.dump_all(objects, Dumper=yaml.CSafeDumper), capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.stdout, done.stderr
    return [line for line in done.stdout.splitlines() if not line.startswith(("[OK]", "[SKIPPED]"))]


def test_every_overlay_and_every_combination_of_components_renders() -> None:
    assert len(everything()) == len(OVERLAYS) + len(set(choices()))
    assert all(len(objects) > 25 for objects in everything().values())


def test_every_object_of_every_rendering_is_valid_strictly() -> None:
    different = {json.dumps(it, sort_keys=True): it for objects in everything().values() for it in objects}
    assert invalid(list(different.values())) == []


@pytest.mark.parametrize(
    ("kind", "broken"),
    [
        ("Deployment", {"replica": 1}),
        ("NetworkPolicy", {"egres": []}),
        ("Kafka", {"kafka": {"listener": []}}),
        ("KafkaNodePool", {"replicas": "three"}),
        ("KafkaUser", {"authorization": {"type": "simple", "acls": [{"operations": ["Reed"]}]}}),
        ("PodMonitor", {"podMetricsEndpoint": []}),
        ("PrometheusRule", {"groups": [{"rules": []}]}),
    ],
)
def test_a_field_that_no_schema_has_is_found_in_every_kind(kind: str, broken: dict[str, Any]) -> None:
    whole = next(it for it in overlay("production") if it["kind"] == kind)
    found = invalid([whole, whole | {"spec": whole["spec"] | broken}])
    assert len(found) == 1
    assert found[0].startswith(kind)


@pytest.mark.parametrize("name", OVERLAYS)
def test_kube_score_has_nothing_against_an_overlay(name: str) -> None:
    assert bad_marks(overlay(name)) == []


def test_kube_score_has_nothing_against_all_components_together() -> None:
    whole = max(everything().values(), key=len)
    assert bad_marks(whole) == []
