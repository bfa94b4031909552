"""What Prometheus' and Grafana's own tools read, wrapped for a cluster: k8s/monitoring/kustomization.yaml and
prometheus-rule.yaml are made from rules.yaml and dashboards/ beside them, by `python -m tests.deploy.monitoring`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from tests.deploy.rendered import K8S

FOLDER = K8S / "monitoring"
_MADE = "# Made by `python -m tests.deploy.monitoring`.\n"
_RULES, _WRAPPED = "rules.yaml", "prometheus-rule.yaml"


def made(folder: Path = FOLDER) -> dict[str, str]:
    """The files that are made, by their names in `folder`."""
    rules, dashboards = folder / _RULES, sorted((folder / "dashboards").glob("*.json"))
    files = {}
    kustomization: dict[str, Any] = {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "resources": ["presence.yaml"],
    }
    if rules.is_file():
        kustomization["resources"] = ["presence.yaml", _WRAPPED]
        files[_WRAPPED] = _text(
            {
                "apiVersion": "monitoring.coreos.com/v1",
                "kind": "PrometheusRule",
                "metadata": {"name": "bohdi"},
                "spec": yaml.safe_load(rules.read_text(encoding="utf-8")),
            }
        )
    if dashboards:  # each in a ConfigMap of its own, which Grafana's sidecar finds by its label
        options = {"labels": {"grafana_dashboard": "1"}, "disableNameSuffixHash": True}
        kustomization |= {
            "configMapGenerator": [
                {"name": file.stem, "files": [f"dashboards/{file.name}"], "options": options} for file in dashboards
            ]
        }
    return files | {"kustomization.yaml": _text(kustomization)}


def _text(whole: object) -> str:
    text: str = yaml.dump(whole, Dumper=_Plain, sort_keys=False, width=1000)
    return _MADE + text


class _Plain(yaml.SafeDumper):
    """Writes everything out where it stands."""

    def ignore_aliases(self, data: object) -> bool:
        return True


if __name__ == "__main__":
    for name, text in made().items():
        (FOLDER / name).write_text(text, encoding="utf-8")
