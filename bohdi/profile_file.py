"""A profile as a file: made from a run, written as JSON, read back by `bohdi route`."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from bohdi import domain_text, profiles
from bohdi.domain_text import NoScikitLearn, Validation
from bohdi.profiles import INTERVAL, Gain, Profile, Rate, Reading
from bohdi_common.core.state import RunState
from bohdi_common.core.tree import ROOT
from bohdi_common.events.events_pb2 import Event
from bohdi_common.runtime.config import BadConfig
from services.bandit.handler import Bandit


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class _Rate(_Part):
    wins: float = Field(ge=0)
    harvests: int = Field(ge=0)
    rate: float = Field(ge=0, le=1)
    low: float = Field(ge=0, le=1)
    high: float = Field(ge=0, le=1)


class _Domain(_Part):
    path: tuple[str, ...]
    models: dict[str, _Rate]


class _Questions(_Part):
    path: tuple[str, ...]
    questions: tuple[str, ...]


class _File(_Part):
    """What is in the file. `interval`: the probability of the interval from `low` to `high`."""

    kind: Literal["bohdi profile"] = "bohdi profile"
    version: Literal[1] = 1
    run_id: str
    target: str
    target_version: str
    sources: tuple[str, ...]
    strength: float
    interval: float = INTERVAL
    domains: tuple[_Domain, ...] = Field(min_length=1)
    classifier: dict[str, Any] | None = None
    gain: dict[str, Any] | None = None
    questions: tuple[_Questions, ...] = ()


def read_run(
    run_id: str, events: Iterable[Event], strength: float = profiles.STRENGTH, from_round: int = 0
) -> tuple[Profile, Reading]:
    """The profile of the run whose events these are, and what was read. Raises BadConfig where nothing was judged."""
    bandit, reading, target, sources = Bandit(run_id), Reading(from_round), "", []
    for event in events:
        bandit.fold(event)
        reading.add(event)
        if event.HasField("run_started") and not target:
            settings = event.run_started.settings
            target, sources = settings.target.name, [source.name for source in settings.sources]
    if not reading.contests:
        since = f" from round {from_round} on" if from_round else ""
        raise BadConfig(f"{run_id}: no harvest was judged{since}: there is nothing to make a profile of yet")
    state = bandit.state
    given = profiles.rates(reading.tally, [target, *sources], _domains(state), strength)
    pairs = domain_text.bounded([(contest.question, contest.path) for contest in reading.contests])
    return Profile(run_id, target, state.target_version, tuple(sources), strength, given, pairs), reading


def _domains(state: RunState) -> Iterator[profiles.Path]:
    """Every node of the run's tree, with harvests or without."""
    tree = state.tree
    return (tuple(tree.path_names(n)) for n in range(len(tree)) if n != ROOT and not tree.is_unk[n])


def checked(profile: Profile, reading: Reading) -> tuple[Validation | None, str, Gain | None]:
    """How well the classifier tells domains, and why that is not known if it is not; what routing gains."""
    gain = profiles.gain(reading.contests, profile.models, profile.strength)
    try:
        validation = domain_text.validated(profile.pairs)
    except NoScikitLearn as error:
        return None, str(error), gain
    return validation, "" if validation else "too few questions", gain


def as_json(profile: Profile, validation: Validation | None = None, gain: Gain | None = None) -> dict[str, Any]:
    """The profile as what stands in the file."""
    of: dict[profiles.Path, list[str]] = {}
    for question, path in profile.pairs:
        of.setdefault(path, []).append(question)
    return {
        "kind": "bohdi profile",
        "version": 1,
        "run_id": profile.run_id,
        "target": profile.target,
        "target_version": profile.target_version,
        "sources": list(profile.sources),
        "strength": profile.strength,
        "interval": INTERVAL,
        "classifier": None if validation is None else asdict(validation),
        "gain": None if gain is None else asdict(gain),
        "domains": [
            {"path": list(path), "models": {model: asdict(rate) for model, rate in models.items()}}
            for path, models in profile.rates.items()
        ],
        "questions": [{"path": list(path), "questions": questions} for path, questions in of.items()],
    }


def load(file: Path) -> Profile:
    """The profile in a file that `as_json` made. Raises BadConfig."""
    try:
        raw = json.loads(file.read_text(encoding="utf-8"))
        given = _File.model_validate(raw)
    except FileNotFoundError:
        raise BadConfig(f"{file}: no such file: make it with `bohdi profile DIR --out {file}`") from None
    except (OSError, UnicodeDecodeError, RecursionError) as error:
        raise BadConfig(f"{file}: cannot be read: {error}") from None
    except json.JSONDecodeError as error:
        raise BadConfig(f"{file}: not JSON: {error}") from None
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "the file"
        raise BadConfig(f"{file}: no profile: {where}: {first['msg']}: make it with `bohdi profile`") from None
    profile = _of(given)
    for path, models in profile.rates.items():
        if set(models) != set(profile.models):
            raise BadConfig(f"{file}: no profile: {list(path)} does not have the run's models: make it anew")
    if () not in profile.rates:
        raise BadConfig(f"{file}: no profile: Root, the empty path, is not in it: make it anew")
    return profile


def _of(given: _File) -> Profile:
    rates = {
        domain.path: {model: Rate(**rate.model_dump()) for model, rate in domain.models.items()}
        for domain in given.domains
    }
    pairs = [(question, of.path) for of in given.questions for question in of.questions]
    return Profile(given.run_id, given.target, given.target_version, given.sources, given.strength, rates, tuple(pairs))
