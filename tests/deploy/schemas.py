"""JSON schemas for kubeconform: Kubernetes' own, from a package, and those of custom resources, from their definitions.

`python -m tests.deploy.schemas FOLDER` makes FOLDER/schemas of FOLDER/packages and FOLDER/crds. An unknown field is an
error everywhere: a server would drop it without a word.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import yaml

KUBERNETES = "1.33.0"
_DEFINITIONS = "/api/_definitions.json"  # how the package's schemas name their neighbour


class _Loader(yaml.SafeLoader):
    """Reads a bare `=` as text, as YAML 1.2 does: some definitions list it among the operators."""


_Loader.add_constructor("tag:yaml.org,2002:value", lambda _, node: str(node.value))


def copy_kubernetes(packages: Path, to: Path) -> None:
    """Kubernetes' schemas without their absolute ids, so that references are found beside them."""
    version = f"v{KUBERNETES}"
    to = to / f"{version}-standalone-strict"
    to.mkdir(parents=True)
    shipped = packages / "kubernetes_validate" / "kubernetes-json-schema" / f"{version}-local-strict"
    for file in shipped.glob("*.json"):
        schema = json.loads(file.read_text(encoding="utf-8"))
        schema.pop("$id", None)
        text = json.dumps(schema).replace(_DEFINITIONS, Path(_DEFINITIONS).name)
        (to / file.name).write_text(text, encoding="utf-8")


def write_custom(definitions: Path, to: Path) -> None:
    """A schema for each version of each custom resource, named KIND-GROUP-VERSION.json."""
    to.mkdir(parents=True)
    for file in sorted(definitions.glob("*.yaml")):
        with file.open(encoding="utf-8") as text:
            for document in yaml.load_all(text, _Loader):
                if document and document.get("kind") == "CustomResourceDefinition":
                    _write(document["spec"], to)


def _write(spec: dict[str, Any], to: Path) -> None:
    for version in spec["versions"]:
        schema = version["schema"]["openAPIV3Schema"]
        schema.setdefault("properties", {}).update(
            apiVersion={"type": "string"}, kind={"type": "string"}, metadata={"type": "object"}
        )
        name = f"{spec['names']['kind'].lower()}-{spec['group']}-{version['name']}.json"
        (to / name).write_text(json.dumps(_strict(schema, root=True)), encoding="utf-8")


def _strict(schema: dict[str, Any], root: bool = False) -> dict[str, Any]:
    """Refuses fields that are not named, which the API server drops; what may be integer or text may be both."""
    if schema.pop("x-kubernetes-int-or-string", False):
        schema.pop("type", None)
        schema.setdefault("anyOf", [{"type": "integer"}, {"type": "string"}])
    kept = schema.get("x-kubernetes-preserve-unknown-fields", False)
    if "properties" in schema and "additionalProperties" not in schema and not kept:
        schema["additionalProperties"] = False
    for name, below in schema.get("properties", {}).items():
        if not (root and name == "metadata"):
            _strict(below)
    for name in ("items", "additionalProperties"):
        if isinstance(schema.get(name), dict):
            _strict(schema[name])
    return schema


if __name__ == "__main__":
    tools = Path(sys.argv[1])
    copy_kubernetes(tools / "packages", tools / "schemas")
    write_custom(tools / "crds", tools / "schemas" / "custom")
