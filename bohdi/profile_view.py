"""A profile for people to read."""

from __future__ import annotations

from collections.abc import Iterator

from rich.markup import escape
from rich.table import Table

from bohdi.domain_text import CONFIDENT, Validation
from bohdi.profiles import INTERVAL, Gain, Profile, Rate, best_at


def table(profile: Profile) -> Table:
    """One row a domain, below each other as in the tree; the best model's rate in bold."""
    shown = Table(title=f"win rates in {profile.run_id}: shrunk rate [{INTERVAL:.0%} interval] wins/harvests")
    shown.add_column("domain", no_wrap=True)
    for model in profile.models:
        shown.add_column(escape(model), justify="right", no_wrap=True)
    for path, rates in profile.rates.items():
        best = best_at(rates)
        cells = (_cell(rates[model], model == best) for model in profile.models)
        shown.add_row("  " * len(path) + escape(path[-1] if path else "Root"), *cells)
    return shown


def _cell(rate: Rate, best: bool) -> str:
    mean = f"[bold]{rate.rate:.2f}[/bold]" if best else f"{rate.rate:.2f}"
    return f"{mean} [dim]{escape(f'[{rate.low:.2f}, {rate.high:.2f}]')} {rate.wins:.3g}/{rate.harvests}[/dim]"


def lines(profile: Profile, validation: Validation | None, why_not: str, gain: Gain | None) -> Iterator[str]:
    """What the table does not say: what it counts, and what was measured on questions held out."""
    yield (
        "a win: the best answer of a counted harvest, shared by those who said the same. Of the target all versions up "
        f"to {profile.target_version} count, so the last is better than its rate (--from-round leaves out the first)"
    )
    if gain is not None:
        yield (
            f"on {gain.held_out} harvests held out the best model of the domain has {gain.routed:.3f} of the wins, the "
            f"best single model {gain.single:.3f}"
        )
    if validation is None:
        return (yield f"how well a question's text tells its domain was not measured: {why_not}")
    main, secondary, leaf = validation.right
    yield (
        f"the domain by its text, of {validation.held_out} questions held out (learnt from {validation.learnt}): main "
        f"{main:.3f}, secondary {secondary:.3f}, leaf {leaf:.3f} right (always the commonest leaf: "
        f"{validation.commonest:.3f}); with probability {CONFIDENT} or more, where routing goes by it: "
        f"{validation.confident:.3f} told to a leaf, {validation.confident_right:.3f} of them right"
    )
