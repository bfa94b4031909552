"""What a check says."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Level = Literal["ok", "warn", "fail"]
_GIB = 2**30


@dataclass(frozen=True)
class Finding:
    """One line. `warn`: the run may go well or not; `fail`: it will not. `told`: the figures, or what is wrong and what
    to do about it."""

    level: Level
    what: str
    told: str


def gib(count: float) -> str:
    """Bytes for people."""
    return f"{count / _GIB:.3g} GiB" if count >= _GIB / 10 else f"{count / 2**20:.3g} MiB"
