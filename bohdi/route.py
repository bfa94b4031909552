"""Which model to ask: the one with the highest win rate in the question's domain, by a run's profile.

profile = bohdi.profile_file.load(Path("profile.json"))
bohdi.route.choose(profile, ["Calendar", "Months"]).model
bohdi.route.choose(profile, "Month after each: May June").model
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from bohdi import domain_text
from bohdi.domain_text import Told
from bohdi.profiles import Path, Profile, Rate


@dataclass(frozen=True)
class Choice:
    """`models`: all that may be asked, the best first; of equals the target, then the sources in their order. `domain`:
    by whose rates; `rate`: the best one's there."""

    models: tuple[str, ...]
    domain: Path
    rate: Rate

    @property
    def model(self) -> str:
        return self.models[0]


def choose(
    profile: Profile, about: str | Sequence[str], told: Told | None = None, among: Collection[str] = ()
) -> Choice:
    """The best model for a domain (its names from the first level down, the nearest one above it that is known counts)
    or for a question. `told`: what tells a question's domain, to be learnt once by who asks often
    (`domain_text.learnt(profile.pairs)`). `among`: the models that may be asked; empty: all. Raises NoScikitLearn."""
    if isinstance(about, str):
        about = (told or domain_text.learnt(profile.pairs))(about)[0]
    domain = profile.nearest(about)
    rates = profile.rates[domain]
    allowed = [model for model in profile.models if not among or model in among]
    ordered = sorted(allowed, key=lambda model: -rates[model].rate)  # stable: of equals the first stays first
    return Choice(tuple(ordered), domain, rates[ordered[0]])
