"""The configuration of a simulated run: three sources and a target that are nobody, under a preset's rules."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import yaml

from bohdi.simulator.engine import Heard, Simulation
from bohdi.simulator.model import DomainModel
from bohdi.simulator.policies import policy
from bohdi.simulator.world import World
from bohdi_common.core.state import Rules
from bohdi_common.events.events_pb2 import Settings
from bohdi_common.runtime import config as configs
from bohdi_common.runtime.config import BadConfig, Config

SOURCES = ("a", "b", "c")
TARGET = "target"
_LEAVES_AT_ONCE = 500_000  # in all trees together: about half a GiB
# A training sees e x M samples, as published, whatever is in store: a run may be long. Nothing is rehearsed first.
_BANDIT = {"rehearsal_questions": 0}
_TRAINING = {"passes": 0.0, "examples": 180}


def configuration(model: DomainModel, preset: str, harvests: int, sets: Sequence[str] = ()) -> Config:
    """A run of `harvests` harvests at least, in whole rounds. `sets`: bandit.NAME=VALUE or training.NAME=VALUE over the
    preset. Raises BadConfig."""
    overrides: dict[str, dict[str, Any]] = {"bandit": {}, "training": {}}
    for said in sets:
        section, name, value = _setting(said)
        overrides[section][name] = value
    raw: dict[str, Any] = {
        "name": "simulated",
        "preset": preset,
        "sources": [{"name": name, "path": name} for name in SOURCES],
        "target": {"name": TARGET, "path": TARGET},
        "domains": model.paths if model.given else [],
        "bandit": _BANDIT | {"grow": not model.given} | overrides["bandit"],
        "training": _TRAINING | overrides["training"],
    }
    given = configs.parse(raw, "simulate")
    rounds = math.ceil(harvests / (given.bandit.steps * given.bandit.slots))
    return given.model_copy(update={"bandit": given.bandit.model_copy(update={"rounds": rounds})})


def _setting(said: str) -> tuple[str, str, Any]:
    where, equals, text = said.partition("=")
    section, dot, name = where.partition(".")
    if not equals or not dot or section not in ("bandit", "training") or where == "bandit.rounds":
        raise BadConfig(f"--set {said}: give bandit.NAME=VALUE or training.NAME=VALUE; rounds follow from --harvests")
    try:
        return section, name, float(text) if text == "inf" else yaml.safe_load(text)
    except yaml.YAMLError:
        raise BadConfig(f"--set {said}: the value is not one of YAML") from None


def settings(config: Config, seed: int) -> Settings:
    """For the RunStarted of such a run."""
    return config.settings(seed, dict.fromkeys((*SOURCES, TARGET), ""))


def simulations(
    model: DomainModel,
    name: str,
    seeds: Sequence[int],
    harvests: int,
    sets: Sequence[str] = (),
    heard: Heard | None = None,
) -> Iterator[Simulation]:
    """Runs of a policy by its name, one for each seed, as many side by side as memory has room for. Raises
    BadConfig."""
    config = configuration(model, "paper" if name == "paper" else "default", harvests, sets)
    rules = Rules.of(settings(config, 0))
    chosen = policy(name, rules)
    at_once = max(1, _LEAVES_AT_ONCE // len(model.paths))
    for start in range(0, len(seeds), at_once):
        yield Simulation(World.of(model, seeds[start : start + at_once]), rules, chosen, heard)
