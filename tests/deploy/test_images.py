"""What the services' images are made of, as far as it can be told without building them."""

from __future__ import annotations

import re
import subprocess
import tomllib
from pathlib import Path

import pytest

from tests.deploy.code_facts import SERVICES, model_users
from tests.deploy.pods import of_kind
from tests.deploy.rendered import ROOT, TOOLS, overlay

_PIN = re.compile(r"^([A-Za-z0-9._-]+)==([^ ;\\]+)", re.MULTILINE)


def dockerfile(service: str) -> str:
    return (ROOT / "services" / service / "Dockerfile").read_text(encoding="utf-8")


def pins(name: str) -> set[tuple[str, str]]:
    """(package, version) of a lock. The same package may stand there twice, for two Pythons."""
    return set(_PIN.findall((ROOT / "requirements" / f"{name}.txt").read_text(encoding="utf-8")))


def test_hadolint_has_nothing_against_a_dockerfile() -> None:
    files = [ROOT / "services" / name / "Dockerfile" for name in SERVICES]
    done = subprocess.run([TOOLS / "packages/bin/hadolint", *files], capture_output=True, text=True, check=False)
    assert (done.stdout, done.returncode) == ("", 0)


def test_hadolint_finds_what_is_wrong(tmp_path: Path) -> None:
    bad = tmp_path / "Dockerfile"
    bad.write_text(dockerfile("bandit").replace("USER 10001:10001", "USER root"))
    done = subprocess.run([TOOLS / "packages/bin/hadolint", bad], capture_output=True, text=True, check=False)
    assert "DL3002" in done.stdout


@pytest.mark.parametrize("service", SERVICES)
def test_an_image_has_the_versions_that_the_tests_run_with(service: str) -> None:
    assert pins(service)
    assert pins(service) <= pins("dev")


@pytest.mark.parametrize("service", sorted(set(SERVICES) - {"training"}))
def test_only_the_image_of_training_has_torch(service: str) -> None:
    has = {name for name, _ in pins(service)}
    assert not has & {"torch", "transformers", "trl", "triton"}
    assert ("openai" in has) == (service in model_users())


def test_the_image_of_training_has_torch() -> None:
    assert "torch" in {name for name, _ in pins("training")}


@pytest.mark.parametrize("service", SERVICES)
def test_an_image_is_made_of_hashed_packages_and_runs_its_service_as_the_user_of_the_manifests(service: str) -> None:
    text = dockerfile(service)
    installs = [line for line in text.splitlines() if "pip install" in line and "--no-deps" not in line]
    assert installs
    assert all(part.count("pip install") == part.count("--require-hashes") for part in installs)
    assert f"requirements/{service}.txt" in installs[-1]
    assert f'CMD ["python", "-m", "services.{service}"]' in text
    pod = next(it for it in of_kind(overlay("production"), "Deployment")
               if it["metadata"]["name"] == service.replace("_", "-"))["spec"]["template"]["spec"]  # fmt: skip
    assert f"USER {pod['securityContext']['runAsUser']}:{pod['securityContext']['runAsGroup']}" in text


def test_the_images_differ_in_what_they_must_alone() -> None:
    def neutral(service: str) -> list[str]:
        lines = dockerfile(service).splitlines()[1:]
        return [
            line.replace(service, "NAME").replace(service.replace("_", "-"), "NAME")
            for line in lines
            if "description" not in line
        ]

    assert all(neutral(name) == neutral("bandit") for name in SERVICES)


@pytest.mark.parametrize("service", SERVICES)
def test_a_lock_has_all_that_the_project_says_it_needs(service: str) -> None:
    told = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = {"kafka", *(("http",) if service in model_users() else ())}
    extras |= {"generation": {"gates"}, "training": {"gates", "local", "kubernetes"}}.get(service, set())
    needed = [*told["dependencies"], *(each for extra in extras for each in told["optional-dependencies"][extra])]
    assert {re.split(r"[>\[]", each)[0] for each in needed} <= {name for name, _ in pins(service)}
