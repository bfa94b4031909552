"""What a simulation supposes of the domains: a file of YAML, or what a run's log says (`calibration`)."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from bohdi_common.core import names
from bohdi_common.core.tree import LEAF_LEVEL
from bohdi_common.runtime.config import BadConfig, complaint

LEAVES_MAX = 1_000_000

Share = Annotated[float, Field(ge=0, le=1)]
Width = Annotated[int, Field(ge=1, le=10_000)]
Spread = Annotated[float, Field(ge=0, le=10)]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Leaf(_Section):
    """A domain that is known beforehand, and the chance that the target loses there at the start."""

    path: tuple[str, str, str]
    weakness: Share


class DomainModel(_Section):
    """The domains and how the target fares in them. Weakness is the chance that the target loses a question of a leaf.

    At the start its logit is that of `weakness` plus an effect of the main domain, one of the secondary domain and one
    of the leaf, normal with the standard deviations `spread`; where `leaves` are given they are the domains, and each
    says its own. A training with n samples of a leaf takes 1 - exp(-learns n) of what lies above `floor`; the rest of
    the leaf drifts to `ceiling`, by 1 - exp(-forgets N / 1000) of the way in a training of N samples.
    """

    width: tuple[Width, Width, Width] = (4, 3, 3)  # children of Root, of a main domain, of a secondary domain
    leaves: tuple[Leaf, ...] = ()  # these in the place of `width`
    given: bool = False  # the tree is known and does not grow; else it grows from Root
    weakness: Annotated[float, Field(gt=0, lt=1)] = 0.5
    spread: tuple[Spread, Spread, Spread] = (1.5, 0.7, 0.7)
    learns: Annotated[float, Field(ge=0, le=10)] = 0.03
    forgets: Annotated[float, Field(ge=0, le=100)] = 0.02
    floor: Share = 0.02
    ceiling: Share = 0.95
    judge_error: Annotated[float, Field(ge=0, lt=0.5)] = 0.05
    no_verdict: Annotated[float, Field(ge=0, lt=1)] = 0.05
    sprout_finds: Annotated[float, Field(gt=0, le=1)] = 0.9

    @field_validator("leaves")
    @classmethod
    def _can_be_domains(cls, value: tuple[Leaf, ...]) -> tuple[Leaf, ...]:
        for name in {name for leaf in value for name in leaf.path}:
            if (why := names.why_refused(name)) or names.tidy(name) != name:
                raise ValueError(f"{name!r} cannot name a domain: {why or 'write it as ' + repr(names.tidy(name))}")
        if len({tuple(map(names.key, leaf.path)) for leaf in value}) < len(value):
            raise ValueError("two leaves have one path: remove one")
        return value

    @field_validator("width")
    @classmethod
    def _is_bounded(cls, value: tuple[int, int, int]) -> tuple[int, int, int]:
        if (leaves := value[0] * value[1] * value[2]) > LEAVES_MAX:
            raise ValueError(f"{leaves} leaves: at most {LEAVES_MAX} can be simulated")
        return value

    @property
    def paths(self) -> list[tuple[str, ...]]:
        """Of all leaves there are, in the order in which they are found."""
        if self.leaves:
            return [leaf.path for leaf in self.leaves]
        a, b, c = self.width
        return [(f"m{i}", f"m{i}s{j}", f"m{i}s{j}l{k}") for i in range(a) for j in range(b) for k in range(c)]


def load(file: Path) -> DomainModel:
    """The model in a file of YAML. Raises BadConfig."""
    try:
        raw = yaml.safe_load(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise BadConfig(f"{file}: no such file: give a YAML file of domains, or none for the default") from None
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise BadConfig(f"{file}: cannot be read: {' '.join(str(error).split())}") from None
    if not isinstance(raw, dict):
        raise BadConfig(f"{file}: not a mapping: docs/simulator.md has an example")
    return parse(raw, str(file))


def parse(raw: dict[str, Any], where: str) -> DomainModel:
    """The model in a mapping; `where` stands before each complaint. Raises BadConfig."""
    try:
        return DomainModel.model_validate(raw)
    except ValidationError as error:
        raise BadConfig("\n".join(f"{where}: {complaint(e)}" for e in error.errors())) from None


assert LEAF_LEVEL == 3, "a leaf's path has three names"
