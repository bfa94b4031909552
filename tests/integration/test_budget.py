"""A run under a cap: it pauses within a batch of it, says so, and goes on with a larger one."""

import asyncio
from pathlib import Path

import pytest

from bohdi.embedded import Parts, Watcher, host_run, new_run
from bohdi.run_folder import RunFolder, resolved
from bohdi.verify_run import verify_folder
from bohdi_common.core.state import ALL_ROUNDS_DONE, RunState
from bohdi_common.events.events_pb2 import Event
from bohdi_common.runtime import config as configs
from bohdi_common.runtime.feedback import events_of
from tests import scripted
from tests.scripted import Scripted, copied

DEMO = Path("configs/demo.yaml")
CAP, MORE = 3_000, 10_000_000
SLOTS = 12


def run_under(cap: int, folder: RunFolder) -> RunState:
    small = scripted.small({"slots": SLOTS}) | {"budget": {"tokens": cap}}
    config = resolved(configs.load(DEMO, small), DEMO.parent)
    new_run(config, folder, 1, parts())
    return asyncio.run(host_run(config, folder, parts(), Watcher(), resume=False))


def parts() -> Parts:
    return Parts(models=Scripted, fine_tune=copied)


def usage_of(event: Event) -> int:
    return sum(used.prompt_tokens + used.completion_tokens for used in event.usage)


def test_a_run_pauses_within_one_batch_of_its_cap_and_goes_on_with_a_larger(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(scripted.LATENCY, "0.001")
    folder = RunFolder(tmp_path / "run")
    state = run_under(CAP, folder)
    assert state.paused.startswith(f"the budget of {CAP} tokens is spent (")
    log = folder.read()
    events = list(events_of(log, state.run_id))
    per_event = [usage_of(event) for event in events]
    batch = SLOTS * max(per_event)
    assert CAP <= state.spent_tokens == sum(per_event) < CAP + batch
    again = asyncio.run(host_run(folder.load_config(), folder, parts(), Watcher(), resume=True))
    assert again.paused.startswith(f"the budget of {CAP} tokens is spent")
    whole = asyncio.run(host_run(folder.load_config(), folder, parts(), Watcher(), resume=True, caps={"tokens": MORE}))
    assert whole.finished == ALL_ROUNDS_DONE
    assert verify_folder(folder)["problems"] == []


def test_what_failed_was_paid_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(scripted.LATENCY, "0.001")
    folder = RunFolder(tmp_path / "run")
    state = run_under(MORE, folder)
    spending = {event.WhichOneof("body"): usage_of(event) for event in events_of(folder.read(), state.run_id)}
    for kind in ("domains_sprouted", "sprout_failed", "harvest_judged", "rehearsal_answered", "target_promoted"):
        assert spending[kind] > 0, kind
