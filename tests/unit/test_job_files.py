"""A job's files say the same on another machine, and hold nothing half."""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.training.job import (
    Checkpointing,
    Example,
    FineTuned,
    FineTuning,
    LaunchFailed,
    Masked,
    Preference,
    TrainingDiverged,
    TrainingRegressed,
    TrainingStopped,
)
from services.training.job_files import JobFolder

MESSAGES = st.lists(st.fixed_dictionaries({"role": st.just("user"), "content": st.text()}), max_size=2)
EXAMPLES = st.lists(st.builds(Example, MESSAGES, st.text(), st.text()), max_size=3)
FLOATS = st.floats(0, 1e6)
COUNTS = st.integers(0, 10**6)
NONE = FineTuning(Path(), Path(), Path(), [], [], batch=1, learning_rate=0.1, max_tokens=1)


@pytest.fixture
def folder(tmp_path: Path) -> JobFolder:
    folder = JobFolder(tmp_path / "store" / ".job-r1-ab")
    folder.write(replace(NONE, base=tmp_path, root=tmp_path, out=folder.out), 9.0)
    return folder


def performed(folder: JobFolder, raised: Exception | None = None, done: FineTuned | None = None) -> Any:
    def train(job: FineTuning) -> FineTuned:
        (job.out / "weights").write_text("w")
        if raised:
            raise raised
        return done or FineTuned(1, 1.0, 1.0, 1, 0, 0.0)

    folder.perform(train, lambda: False, lambda step, loss: None)
    return folder.result()


@given(data=st.data())
def test_every_field_of_a_job_is_read_as_it_was_written(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    folder = JobFolder(tmp_path_factory.getbasetemp() / "store" / ".job-r1-ab")
    places = st.sampled_from([folder.path.parent / "r0", folder.out, Path("/models/x")])
    drawn: dict[str, Any] = {
        "base": places, "root": places, "out": places, "average_with": st.lists(places, max_size=2),
        "examples": EXAMPLES, "held_back": EXAMPLES, "order": st.lists(COUNTS, max_size=4),
        "preferences": st.lists(st.builds(Preference, MESSAGES, st.text(), st.text()), max_size=2),
        "packing": st.booleans(),
        "checkpoints": st.none() | st.builds(Checkpointing, places, st.text(), COUNTS, FLOATS),
    }  # fmt: skip
    whole = {f.name for f in fields(FineTuning)} - {"stop", "on_step"}
    others = {name: FLOATS if isinstance(getattr(NONE, name), float) else COUNTS for name in whole - drawn.keys()}
    job = replace(NONE, **{name: data.draw(kind, name) for name, kind in (drawn | others).items()})
    folder.write(job, 7.5)
    read, timeout_s = folder.read()
    assert timeout_s == 7.5
    for name in whole:
        assert getattr(read, name) == getattr(job, name), name


def test_what_is_in_the_store_is_found_where_the_store_is_mounted(folder: JobFolder, tmp_path: Path) -> None:
    versions = folder.path.parent
    folder.write(replace(NONE, base=versions / "r1", root=Path("/models/x"), out=folder.out))
    elsewhere = tmp_path / "mounted"
    versions.rename(elsewhere)
    job, _ = JobFolder(elsewhere / folder.path.name).read()
    assert (job.base, job.root) == (elsewhere / "r1", Path("/models/x"))
    assert job.out == elsewhere / folder.path.name / "out"


def test_every_figure_of_a_result_is_read_as_it_was_written(folder: JobFolder) -> None:
    kinds = {f.name: getattr(FineTuned(1, 1.0, 1.0, 1, 0, 0.0), f.name) for f in fields(FineTuned)}
    told = {name: type(value)(3) for name, value in kinds.items() if isinstance(value, int | float)}
    done = FineTuned(**told, masked={"a": Masked(5, 2)})
    assert performed(folder, done=done) == done


@pytest.mark.parametrize(
    "error",
    [
        TrainingDiverged("the loss is nan"),
        TrainingRegressed(12, 0.5, 0.75, 0.1),
        ValueError("no such folder"),
        OSError("disk full"),
        UnicodeError("a kind of ValueError"),
    ],
    ids=repr,
)
def test_what_the_training_raised_is_raised_where_the_result_is_read(folder: JobFolder, error: Exception) -> None:
    with pytest.raises((TrainingDiverged, TrainingRegressed, ValueError, OSError)) as raised:
        performed(folder, error)
    assert isinstance(error, type(raised.value)) and str(raised.value) == str(error)
    assert getattr(raised.value, "base", None) == getattr(error, "base", None)


def stopped(job: FineTuning) -> FineTuned:
    raise TrainingStopped("stopped after 3 of 9 steps")


@pytest.mark.parametrize(("error", "again"), [(TrainingDiverged("nan"), False), (OSError("disk full"), True)], ids=repr)
def test_only_what_may_go_better_is_tried_again(folder: JobFolder, error: Exception, again: bool) -> None:
    with pytest.raises(type(error)):
        performed(folder, error)
    assert folder.is_done() is not again
    if again:
        assert folder.is_there()
        with pytest.raises(TrainingStopped):
            folder.perform(stopped, lambda: True, lambda step, loss: None)
        assert not folder.is_there()  # what went before is forgotten when another attempt begins
        assert performed(folder).steps == 1
    else:
        with pytest.raises(TrainingDiverged):
            performed(folder)


def test_what_nobody_foresaw_leaves_no_result(folder: JobFolder) -> None:
    with pytest.raises(RuntimeError):
        performed(folder, RuntimeError("out of memory"))
    folder.crashed("RuntimeError: out of memory")
    with pytest.raises(LaunchFailed, match="out of memory"):
        folder.result()


def test_a_training_past_its_bound_fails_and_one_that_is_stopped_does_not(folder: JobFolder, tmp_path: Path) -> None:
    def asks(job: FineTuning) -> FineTuned:
        if job.stop():
            raise TrainingStopped("stopped after 3 of 9 steps")
        return FineTuned(9, 1.0, 1.0, 1, 0, 0.0)

    with pytest.raises(TrainingStopped):
        folder.perform(asks, lambda: True, lambda step, loss: None)
    assert not folder.is_there()
    folder.write(replace(NONE, base=tmp_path, root=tmp_path, out=folder.out), 1e-9)
    folder.perform(asks, lambda: False, lambda step, loss: None)
    with pytest.raises(LaunchFailed, match=r"after 3 of 9 steps: not done within 0 s; raise training\.timeout_s"):
        folder.result()
    folder.write(replace(NONE, base=tmp_path, root=tmp_path, out=folder.out))  # without a bound
    folder.perform(asks, lambda: False, lambda step, loss: None)
    assert folder.result().steps == 9


def test_steps_are_read_as_they_come_and_anew_when_another_attempt_begins(folder: JobFolder) -> None:
    file = folder.path / "progress.jsonl"
    file.write_text("[1, 2.5]\n[2, 2.0]\n[3,")
    steps, read_to = folder.progress(0)
    assert steps == [(1, 2.5), (2, 2.0)]
    file.write_text("[1, 2.5]\n[2, 2.0]\n[3, 1.5]\n")
    assert folder.progress(read_to) == ([(3, 1.5)], file.stat().st_size)
    assert folder.progress(file.stat().st_size) == ([], file.stat().st_size)
    file.write_text("[2, 2.0]\n")
    assert folder.progress(read_to) == ([(2, 2.0)], file.stat().st_size)
