"""Which style a question is asked for in. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from bohdi_common.core.ids import derived_id


def drawn(styles: Sequence[str], seed: int, round: int, step: int, slot: int, path: Sequence[str]) -> str:
    """The style of a request's question, each with equal chance, by the run's seed and the request's place alone; empty
    without any. A style that stands there twice is drawn twice as often."""
    return styles[int(derived_id("style", seed, round, step, slot, *path), 16) % len(styles)] if styles else ""
