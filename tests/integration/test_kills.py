"""A run survives SIGKILL at any moment: it is resumed, verifies clean, settles every slot once and repeats nothing."""

from __future__ import annotations

import signal
import subprocess
from collections import Counter
from pathlib import Path

from bohdi.run_folder import RunFolder
from bohdi.verify_run import verify_folder
from bohdi_common.events import codec
from bohdi_common.events.topics import ANSWERS, HARVEST_REQUESTS, SPROUT_REQUESTS, TRAINING_REQUESTS
from bohdi_common.runtime.feedback import events_of
from tests.forked import Forked

INPUTS = {
    "tree_expansion": SPROUT_REQUESTS.name,
    "generation": HARVEST_REQUESTS.name,
    "judging": ANSWERS.name,
    "training": TRAINING_REQUESTS.name,
}
TIMEOUT_S = 240
SETTLEMENTS = {"harvest_judged", "harvest_failed", "rehearsal_answered", "slot_expired"}


def host(folder: Path, phase: str, nth: int, models: str) -> subprocess.CompletedProcess[str]:
    return Forked("tests.integration.killable", folder, phase, str(nth), models).completed(TIMEOUT_S)


def marked_done(folder: Path) -> set[str]:
    """`SERVICE EVENT_ID` of every input that is marked done."""
    if not RunFolder(folder).log.exists():
        return set()
    reader = RunFolder(folder).read()
    done = set()
    for service, topic in INPUTS.items():
        cursor, beyond = reader.cursor(service, topic), reader.done_beyond(service, topic)
        done |= {
            f"{service} {codec.decode(stored.value).event_id}"
            for stored in reader.read(topic)
            if stored.offset < cursor or stored.offset in beyond
        }
    return done


def killed_in(folder: Path, phase: str, nth: int, models: str) -> None:
    """One life of the run, ended in `phase`; asserts that it was, and that it took up nothing that was done before."""
    hit, handled = folder.with_suffix(".hit"), folder.with_suffix(".handled")
    hit.unlink(missing_ok=True)
    handled.write_text("")
    done_before = marked_done(folder)
    ended = host(folder, phase, nth, models)
    assert ended.returncode == -signal.SIGKILL, ended.stdout + ended.stderr
    assert hit.read_text() == phase
    assert not done_before & set(handled.read_text().splitlines())


def finished_clean(folder: Path, models: str) -> None:
    """The run goes on to its end, verifies, and every slot that was drawn is settled by one event that counts."""
    handled = folder.with_suffix(".handled")
    handled.write_text("")
    done_before = marked_done(folder)
    ended = host(folder, "none", 0, models)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    took_up = handled.read_text().splitlines()
    assert not done_before & set(took_up)
    assert max(Counter(took_up).values()) == 1
    assert verify_folder(RunFolder(folder))["problems"] == []
    settled: Counter[str] = Counter()
    opened: set[str] = set()
    reader = RunFolder(folder).read()
    for event in events_of(reader, RunFolder(folder).run_id(reader)):
        kind = codec.kind_of(event)
        if kind == "paths_drawn":
            opened |= {slot.request_hash for slot in event.paths_drawn.slots if slot.request_hash}
        elif kind == "slot_continued" and event.slot_continued.drawn.request_hash:
            opened.add(event.slot_continued.drawn.request_hash)
        elif kind in SETTLEMENTS:
            settled[getattr(event, kind).request_hash] += 1
    assert set(settled) - {""} == opened
    assert max(settled.values()) == 1


def test_a_run_killed_three_times_in_each_phase_of_its_loop_ends_as_if_it_had_not_been(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    for nth in (1, 4, 9):
        for phase in ("sprout", "answers_before_verdict", "verdict_before_fold"):
            killed_in(folder, phase, nth, "scripted")
    for _ in range(3):  # the sweep is decided anew after each kill
        killed_in(folder, "introspection", 1, "scripted")
    finished_clean(folder, "scripted")


def test_a_run_killed_three_times_in_training_and_three_times_before_a_version_is_in_place_ends_with_whole_versions(
    tmp_path: Path,
) -> None:
    folder = tmp_path / "run"
    for nth in (1, 2, 3):
        killed_in(folder, "training", nth, "real")
        killed_in(folder, "before_rename", 1, "real")
    finished_clean(folder, "real")
