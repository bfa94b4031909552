"""A run that is cancelled in the middle of a training leaves nothing of it: no version, and no folder of its job."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest

from bohdi.embedded import Parts, Watcher, host_run, new_run
from bohdi.run_folder import RunFolder, resolved
from bohdi_common.core.ids import derived_id
from bohdi_common.events import codec
from bohdi_common.log import inbox
from bohdi_common.models.versions import VersionStore
from bohdi_common.runtime import config as configs
from bohdi_common.runtime.shell import record_of
from services.training.job import FineTuned, FineTuning, TrainingStopped
from tests import scripted
from tests.scripted import Scripted

DEMO = Path("configs/demo.yaml")
STOP_S = 120.0


def test_a_run_cancelled_while_it_trains_leaves_no_version_and_no_job(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(scripted.LATENCY, "0.001")
    folder = RunFolder(tmp_path / "run")
    jobs: list[Path] = []

    def cancelled_meanwhile(job: FineTuning) -> FineTuned:
        jobs.append(job.out.parent)
        (job.out / "weights").write_text("half")
        ended = codec.by_hand(run_id, derived_id(run_id, "cancel"), 1, "run_finished", {"reason": "cancelled by hand"})
        inbox.put(folder.inbox, record_of(ended))
        until_s = time.monotonic() + STOP_S
        while not job.stop():
            assert time.monotonic() < until_s
            time.sleep(0.02)
        time.sleep(0.2)  # a step goes on for a while, and the host is at its end by then
        assert job.out.is_dir()
        raise TrainingStopped("stopped after 1 step")

    parts = Parts(models=Scripted, fine_tune=cancelled_meanwhile)
    config = resolved(configs.load(DEMO, scripted.small({"slots": 6, "steps": 1})), DEMO.parent)
    run_id = new_run(config, folder, 1, parts)
    monkeypatch.setattr("bohdi.embedded.LocalHost.drain_s", 0.1)
    state = asyncio.run(host_run(config, folder, parts, Watcher(), resume=False))
    assert (state.finished, state.versions) == ("cancelled by hand", ["base"])
    assert len(jobs) == 1 and not jobs[0].exists()
    assert VersionStore(folder.versions).sweep_jobs() == []
