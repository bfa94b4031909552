"""A grid of settings folded in one pass over a log, against single replays of it."""

from __future__ import annotations

from benchmarks.folds import AS_IN_THE_DEMO
from benchmarks.made_run import RUN_ID
from benchmarks.rows import Measured
from benchmarks.timing import best_seconds
from bohdi.analysis.tape import tape
from bohdi.analysis.variants import Variant, variants
from bohdi.analysis.what_if import Folds, fold
from bohdi_common.log.port import LogReader
from bohdi_common.log.sqlite_file import open_readonly
from bohdi_common.runtime.feedback import events_of
from services.bandit.handler import folded

_GRIDS = (
    "bandit.introspection=paper,two_sample",
    "bandit.threshold=0.01,0.05,0.1,0.2,0.4",
    "bandit.window=10,15,20,30,40",
)
_TURNS = 3


def in_replays(reward_rules: bool) -> Measured:
    """Fifty settings, in single replays (read, checksum, decode, fold). `reward_rules`: with votes counted anew, under
    two rules, in the place of two tests."""
    grids = (("rewards.share=0.5,1", *_GRIDS[1:])) if reward_rules else _GRIDS
    log = open_readonly(AS_IN_THE_DEMO.log())
    grid_s, replay_s = best_seconds(_TURNS, lambda: _grid(log, grids), lambda: folded(events_of(log, RUN_ID), RUN_ID))
    folds = _grid(log, grids)
    if len(folds.variants) != 50 or not folds.rebirths.any():
        raise RuntimeError(f"{len(folds.variants)} settings, {folds.rebirths.sum()} rebirths")
    log.close_reading()
    against = f"one replay, {replay_s:.2f} s, fifty times"
    return Measured(grid_s / replay_s, "replays", against, 50 * replay_s / grid_s)


def _grid(log: LogReader, grids: tuple[str, ...]) -> Folds:
    read = tape(events_of(log, RUN_ID), voted=any(grid.startswith("rewards.") for grid in grids))
    assert read.state.rules is not None
    return fold(read, [variant for _, variant in variants(Variant.recorded(read.state.rules), [], grids)])
