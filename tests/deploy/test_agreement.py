"""The manifests agree with each other and with the code, in every overlay and every combination of components."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import yaml

from bohdi_common.runtime.config import load
from tests.deploy import checks, code_facts, monitoring, network
from tests.deploy.pods import of_kind, pods
from tests.deploy.rendered import K8S, ROOT, Objects, everything, overlay

SKAFFOLD = yaml.safe_load((ROOT / "skaffold.yaml").read_text(encoding="utf-8"))
VERSION = next(
    line.split('"')[1] for line in (ROOT / "pyproject.toml").read_text().splitlines() if line.startswith("version")
)

Check = Callable[[Objects], list[str]]
CHECKS: dict[str, Check] = {
    "selectors take the pods they mean": checks.selectors,
    "objects that are named are there": checks.references,
    "ports are listened on": checks.ports,
    "variables are read": partial(checks.environment, read=code_facts.variables()),
    "commands start, and end in time": checks.commands,
    "rights on topics are the registry's": checks.topics,
    "images are built by skaffold": partial(checks.images, built=set(checks.built_by(SKAFFOLD)), version=VERSION),
    "pods keep to the restricted profile": checks.privileges,
    "the store is written by its writers": checks.store,
    "metrics are exported": partial(checks.metrics, exported=code_facts.metrics()),
    "edges are the flow table's": network.edges,
    "nothing is open to anybody": network.closed,
}


@pytest.mark.parametrize("what", CHECKS)
def test_in_every_rendering(what: str) -> None:
    found = {name: CHECKS[what](objects) for name, objects in everything().items()}
    assert {name: lines for name, lines in found.items() if lines} == {}


def test_every_service_has_a_pod_that_runs_it() -> None:
    lines = {" ".join(c.get("command", [])) for pod in pods(overlay("production")) for c in pod.containers}
    assert {f"python -m services.{name}" for name in code_facts.SERVICES} <= lines


def test_the_bandit_is_one_and_is_replaced_before_the_next_begins() -> None:
    for objects in everything().values():
        (bandit,) = [it for it in of_kind(objects, "Deployment") if it["metadata"]["name"] == "bandit"]
        assert (bandit["spec"]["replicas"], bandit["spec"]["strategy"]) == (1, {"type": "Recreate"})
        assert not [it for it in of_kind(objects, "ScaledObject") if it["spec"]["scaleTargetRef"]["name"] == "bandit"]


def test_every_image_is_built_from_a_dockerfile_that_is_there_and_runs_somewhere() -> None:
    built = checks.built_by(SKAFFOLD)
    assert all(file.is_file() for file in built.values())
    used = {c["image"].rpartition(":")[0] for it in everything().values() for p in pods(it) for c in p.containers
            if "image" in c}  # fmt: skip
    assert set(built) <= used


def test_every_profile_of_skaffold_renders_the_overlay_of_its_name() -> None:
    profiles = {it["name"]: it.get("manifests", SKAFFOLD["manifests"])["kustomize"] for it in SKAFFOLD["profiles"]}
    assert {name: told["paths"] for name, told in profiles.items()} == {
        folder.name: [str(folder.relative_to(ROOT))] for folder in (K8S / "overlays").iterdir()
    }


def test_every_profile_that_the_readme_names_is_there_and_the_other_way_round() -> None:
    named = set(re.findall(r"-p ([a-z-]+)`", (ROOT / "README.md").read_text(encoding="utf-8")))
    assert named == {it["name"] for it in SKAFFOLD["profiles"]}


def test_what_skaffold_forwards_is_there() -> None:
    for profile in SKAFFOLD["profiles"]:
        objects = overlay(profile["name"])
        for told in profile.get("portForward", SKAFFOLD["portForward"]):
            there = [it for it in of_kind(objects, told["resourceType"])
                     if it["metadata"]["name"] == told["resourceName"]
                     and it["metadata"]["namespace"] == told["namespace"]]  # fmt: skip
            assert there, (profile["name"], told)


def test_the_run_of_the_dev_overlay_is_the_demo() -> None:
    assert (K8S / "overlays/dev/run.yaml").read_bytes() == (ROOT / "configs/demo.yaml").read_bytes()


def test_the_shipped_run_on_model_servers_asks_servers_that_are_there() -> None:
    run = load(ROOT / "configs/kubernetes.yaml")
    asked = {url.removeprefix("http://").removesuffix("/v1") for m in (*run.sources, run.target) for url in m.urls}
    services = checks.addresses(overlay("production"))
    replicas = {f"vllm-target-{number}.{address}" for number in range(1) for address in services if "target" in address}
    assert asked <= services | replicas
    names = {
        entry["value"] for pod in pods(overlay("production")) for container in pod.containers
        for entry in container.get("env", []) if entry["name"] == "MODEL"
    }  # fmt: skip
    assert names == {model.served_name or model.name for model in (*run.sources, run.target)}


def test_the_rules_and_dashboards_that_are_applied_are_those_that_are_tested() -> None:
    there = {name: (monitoring.FOLDER / name).read_text(encoding="utf-8") for name in monitoring.made()}
    assert there == monitoring.made()


def test_rules_and_dashboards_are_wrapped_for_the_cluster(tmp_path: Path) -> None:
    (tmp_path / "dashboards").mkdir()
    (tmp_path / "dashboards/fusion.json").write_text("{}")
    (tmp_path / "rules.yaml").write_text("groups: [{name: a, rules: [{alert: A, expr: up == 0}]}]")
    made = {name: yaml.safe_load(text) for name, text in monitoring.made(tmp_path).items()}
    assert made["prometheus-rule.yaml"]["spec"]["groups"][0]["rules"] == [{"alert": "A", "expr": "up == 0"}]
    assert made["kustomization.yaml"]["resources"] == ["presence.yaml", "prometheus-rule.yaml"]
    assert made["kustomization.yaml"]["configMapGenerator"] == [
        {
            "name": "fusion",
            "files": ["dashboards/fusion.json"],
            "options": {"labels": {"grafana_dashboard": "1"}, "disableNameSuffixHash": True},
        }
    ]
