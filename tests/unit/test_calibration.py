"""A model of domains taken from a log: what the log was made of comes back."""

from __future__ import annotations

import pytest

from bohdi.simulator.calibration import calibrated
from bohdi.simulator.model import DomainModel
from bohdi.simulator.recorded import Recording
from bohdi.simulator.setup import configuration, settings
from bohdi.simulator.world import World
from bohdi_common.runtime.config import BadConfig

TRUE = DomainModel(width=(3, 2, 2), learns=0.02, forgets=0.05, no_verdict=0.1, sprout_finds=0.8, judge_error=0.0)


def test_what_a_run_was_made_of_is_found_in_its_log() -> None:
    run = Recording(TRUE, settings(configuration(TRUE, "default", 1500, ["bandit.slots=50"]), 1))
    found = calibrated(run.events())
    start = dict(zip(TRUE.paths, World.of(TRUE, [1]).weakness[0], strict=True))
    assert {leaf.path for leaf in found.leaves} == set(TRUE.paths)
    off = [abs(leaf.weakness - start[leaf.path]) for leaf in found.leaves]
    assert sum(off) / len(off) < 0.1
    assert TRUE.learns / 2 < found.learns < TRUE.learns * 2
    assert found.no_verdict == pytest.approx(TRUE.no_verdict, abs=0.03)
    assert found.sprout_finds > 0.5
    assert found.judge_error == 0.0, "these judges never differ"


def test_a_log_without_a_verdict_tells_nothing() -> None:
    run = Recording(TRUE, settings(configuration(TRUE, "default", 90), 0))
    with pytest.raises(BadConfig, match="nothing to take a model from"):
        calibrated(event for event in run.events() if not event.HasField("harvest_judged"))
