"""A training on several processes, and one that was killed: what comes of it is what one process makes at one go."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch

from services.training import checkpoints, torchrun
from services.training.finetune import fine_tune
from services.training.job import (
    Checkpointing,
    Example,
    FineTuned,
    FineTuning,
    LaunchFailed,
    Preference,
    TrainingStopped,
)
from services.training.job_files import JobFolder
from tests.integration.test_finetune import merged, weights
from tests.integration.tiny_models import save_tiny_model


def asked(i: int) -> list[Any]:
    return [{"role": "user", "content": f"What is {i} plus 1?"}]


EXAMPLES = [Example(asked(i), f"It is {i + 1}.", "a" if i % 2 else "b") for i in range(16)]
PREFERENCES = [Preference(asked(i), f"It is {i + 1}.", f"Number {i} is red.") for i in range(16)]

# Losses of two processes against one, and of a resumed training against one at one go: sums in another order.
SAME = 1e-4


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)
    return save_tiny_model(tmp_path_factory.mktemp("base"), seed=3)


def job(base: Path, folder: JobFolder, **other: Any) -> FineTuning:
    """Ten steps of eight on examples, the last of three alone; two on preferences; with masking and a held-back set."""
    plain = FineTuning(
        base=base,
        root=base,
        out=folder.out,
        examples=EXAMPLES,
        order=[i * 7 % len(EXAMPLES) for i in range(75)],
        batch=8,
        learning_rate=3e-3,
        muon_learning_rate=3e-3,
        warmup_share=0.1,
        decay_share=0.9,
        max_tokens=64,
        stm_perplexity=1e5,
        preferences=PREFERENCES,
        dpo_beta=0.1,
        dpo_learning_rate=1e-4,
        held_back=EXAMPLES,
        held_back_loss_rise=10.0,
    )
    return replace(plain, **other)


def nobody() -> bool:
    return False


def performed(folder: JobFolder, told: FineTuning) -> tuple[FineTuned, list[float]]:
    losses: list[float] = []
    folder.write(told)
    folder.perform(fine_tune, nobody, lambda step, loss: losses.append(loss))
    return folder.result(), losses


class Killed(Exception):
    """Stands for the end of a process: nobody foresees it, so that nothing more is written."""


def dies_after(steps: int) -> Callable[[int, float], None]:
    def on_step(step: int, loss: float) -> None:
        if step == steps:
            raise Killed

    return on_step


@pytest.fixture(scope="module")
def whole(base: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[FineTuned, list[float], Path]:
    """The training by one process at one go."""
    folder = JobFolder(tmp_path_factory.mktemp("whole") / "job")
    done, losses = performed(folder, job(base, folder))
    return done, losses, folder.out


# ---- several processes -----------------------------------------------------------------------------------------


def test_two_processes_give_the_losses_and_weights_of_one(
    base: Path, tmp_path: Path, whole: tuple[FineTuned, list[float], Path]
) -> None:
    one, losses_of_one, out_of_one = whole
    folder, losses = JobFolder(tmp_path / "job"), []
    folder.write(job(base, folder))
    torchrun.run(folder, 2, 900.0, nobody, lambda step, loss: losses.append(loss))
    two = folder.result()
    assert (two.processes, two.steps, two.preferences, two.tokens) == (2, one.steps, one.preferences, one.tokens)
    assert losses == pytest.approx(losses_of_one, rel=SAME)
    assert two.held_back_loss == pytest.approx(one.held_back_loss, rel=SAME)
    assert two.masked == one.masked
    first, other = weights(out_of_one), weights(folder.out)
    for name, weight in first.items():
        torch.testing.assert_close(other[name], weight, rtol=1e-3, atol=1e-3)


PLAIN = {"muon_learning_rate": 0.0, "dpo_beta": 0.0}  # what can be sharded


def test_two_processes_that_share_the_weights_give_the_losses_and_weights_of_one(base: Path, tmp_path: Path) -> None:
    alone, folder = JobFolder(tmp_path / "alone"), JobFolder(tmp_path / "job")
    one, losses_of_one = performed(alone, job(base, alone, **PLAIN))
    told = job(base, folder, **PLAIN, sharded=True, checkpoints=Checkpointing(folder.checkpoints, "ab", steps=4))
    folder.write(told)
    losses: list[float] = []
    torchrun.run(folder, 2, 900.0, nobody, lambda step, loss: losses.append(loss))
    two = folder.result()
    assert (two.processes, two.steps, two.tokens, two.masked) == (2, one.steps, one.tokens, one.masked)
    assert losses == pytest.approx(losses_of_one, rel=SAME)
    assert two.held_back_loss == pytest.approx(one.held_back_loss, rel=SAME)
    of_one = weights(alone.out)
    torch.testing.assert_close(weights(folder.out), of_one, rtol=1e-3, atol=1e-3)

    # What they saved is whole: one process goes on from it.
    folder.forget()
    again, last = performed(folder, replace(told, sharded=False))
    assert again.resumed_step == 8
    assert last == pytest.approx(losses_of_one[8:], rel=SAME)
    torch.testing.assert_close(weights(folder.out), of_one, rtol=1e-3, atol=1e-3)


def test_an_adapter_s_checkpoint_is_gone_on_from_by_two_processes_that_share_the_weights(
    base: Path, tmp_path: Path
) -> None:
    lora = PLAIN | {"lora_rank": 4, "lora_alpha": 8.0}
    alone, folder = JobFolder(tmp_path / "alone"), JobFolder(tmp_path / "job")
    _, losses_of_one = performed(alone, job(base, alone, **lora))
    told = job(base, folder, **lora, checkpoints=Checkpointing(folder.checkpoints, "ab", steps=5))
    folder.write(told)
    with pytest.raises(Killed):
        folder.perform(fine_tune, nobody, dies_after(6))
    folder.write(replace(told, sharded=True))
    losses: list[float] = []
    torchrun.run(folder, 2, 900.0, nobody, lambda step, loss: losses.append(loss))
    assert folder.result().resumed_step == 5
    assert losses == pytest.approx(losses_of_one[5:], rel=SAME)
    torch.testing.assert_close(merged(folder.out, base), merged(alone.out, base), rtol=1e-3, atol=1e-3)


def test_killed_processes_begin_again_from_the_checkpoint_and_none_outlives_torchrun_or_its_launcher(
    base: Path, tmp_path: Path, whole: tuple[FineTuned, list[float], Path]
) -> None:
    folder = JobFolder(tmp_path / "job")
    saving = Checkpointing(folder.checkpoints, "ab", steps=2)
    folder.write(job(base, folder, checkpoints=saving))
    command = (
        "import sys; from pathlib import Path; from services.training import torchrun;"
        "from services.training.job_files import JobFolder;"
        "torchrun.run(JobFolder(Path(sys.argv[1])), 2, 900.0, lambda: False, lambda step, loss: None)"
    )
    launcher = subprocess.Popen([sys.executable, "-W", "ignore", "-c", command, str(folder.path)])
    until(lambda: len(psutil.Process(launcher.pid).children(recursive=True)) >= 3)  # torchrun and two
    family = psutil.Process(launcher.pid).children(recursive=True)
    launcher.kill()
    launcher.wait()
    until(lambda: not any(alive(process) for process in family))
    assert not folder.is_there()

    losses: dict[int, float] = {}
    hit: list[int] = []

    def kills_one(step: int, loss: float) -> None:
        losses[step] = loss
        if step > saving.steps and not hit:
            agent = next(p for p in psutil.Process().children() if "torch.distributed.run" in " ".join(p.cmdline()))
            hit.append(agent.children()[-1].pid)
            os.kill(hit[0], signal.SIGKILL)

    torchrun.run(folder, 2, 900.0, nobody, kills_one)
    done, (one, losses_of_one, _) = folder.result(), whole
    assert hit and done.steps == one.steps and done.resumed_step >= 2
    assert done.last_loss == pytest.approx(one.last_loss, rel=SAME)
    assert {step: loss for step, loss in enumerate(losses_of_one, 1) if step in losses} == pytest.approx(
        losses, rel=SAME
    )


def test_processes_that_end_without_a_result_say_what_they_said_and_a_stop_leaves_none(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torchrun, "_RESTARTS", 0)
    folder = JobFolder(tmp_path / "broken")
    folder.path.mkdir()
    (folder.path / "job.json").write_text("no job")
    with pytest.raises(LaunchFailed, match="JSONDecodeError"):
        torchrun.run(folder, 1, 900.0, nobody, lambda step, loss: None)

    folder = JobFolder(tmp_path / "stopped")
    folder.write(job(base, folder))
    before = set(psutil.Process().children(recursive=True))  # a broker that other tests share
    started: set[psutil.Process] = set()

    def stop() -> bool:
        started.update(set(psutil.Process().children(recursive=True)) - before)
        return len(started) > 0

    with pytest.raises(TrainingStopped):
        torchrun.run(folder, 2, 900.0, stop, lambda step, loss: None)
    until(lambda: not any(alive(process) for process in started))


def test_a_torchrun_that_takes_too_long_is_ended_and_the_bound_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[subprocess.Popen[bytes]] = []

    def sleeping(folder: JobFolder, processes: int, said: Any) -> subprocess.Popen[bytes]:
        started.append(subprocess.Popen(["sleep", "600"], start_new_session=True))
        return started[-1]

    monkeypatch.setattr(torchrun, "_start", sleeping)
    monkeypatch.setattr(torchrun, "_LATE_S", -99.5)
    with pytest.raises(LaunchFailed, match=r"not done within 100 s; raise training\.timeout_s"):
        torchrun.run(JobFolder(tmp_path), 1, 100.0, nobody, lambda step, loss: None)
    assert len(started) == 1 and started[0].poll() is not None


def until(holds: Callable[[], bool], within_s: float = 300.0) -> None:
    end_s = time.monotonic() + within_s
    while not holds():
        assert time.monotonic() < end_s
        time.sleep(0.1)


def alive(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


# ---- checkpoints -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("steps", [3, 5, 12], ids=["in examples", "later there", "in preferences"])
def test_a_killed_training_goes_on_from_its_last_checkpoint_and_ends_the_same(
    base: Path, tmp_path: Path, whole: tuple[FineTuned, list[float], Path], steps: int
) -> None:
    folder = JobFolder(tmp_path / "job")
    told = job(base, folder, checkpoints=Checkpointing(folder.checkpoints, "ab", steps=1))
    folder.write(told)
    with pytest.raises(Killed):
        folder.perform(fine_tune, nobody, dies_after(steps))
    again, losses = performed(folder, told)
    one, losses_of_one, out_of_one = whole
    assert (again.steps, again.preferences, again.resumed_step) == (one.steps, one.preferences, steps - 1)
    assert losses == pytest.approx(losses_of_one[steps - 1 :], rel=SAME)
    assert (again.first_loss, again.preference_last_loss) == pytest.approx(
        (one.first_loss, one.preference_last_loss), rel=SAME
    )
    first, other = weights(out_of_one), weights(folder.out)
    for name, weight in first.items():
        torch.testing.assert_close(other[name], weight, rtol=1e-4, atol=1e-4)


def test_a_kill_in_the_middle_of_a_save_leaves_the_checkpoint_before(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = JobFolder(tmp_path / "job")
    told = job(base, folder, dpo_beta=0.0, checkpoints=Checkpointing(folder.checkpoints, "ab", steps=2))
    folder.write(told)
    durable = checkpoints.make_durable
    saves: list[Path] = []

    def torn(aside: Path) -> None:
        saves.append(aside)
        if len(saves) == 3:
            (aside / "state.pt").write_bytes(b"half")
            raise Killed
        durable(aside)

    monkeypatch.setattr(checkpoints, "make_durable", torn)
    with pytest.raises(Killed):
        folder.perform(fine_tune, nobody, lambda step, loss: None)
    monkeypatch.setattr(checkpoints, "make_durable", durable)
    done, losses = performed(folder, told)
    assert done.resumed_step == 4 and len(losses) == 6
    assert sorted(path.name[-1] for path in folder.checkpoints.iterdir()) == ["6", "8"]


def test_a_checkpoint_of_another_request_is_not_gone_on_from(base: Path, tmp_path: Path) -> None:
    folder = JobFolder(tmp_path / "job")
    told = job(base, folder, dpo_beta=0.0, checkpoints=Checkpointing(folder.checkpoints, "ab", steps=2))
    folder.write(told)
    with pytest.raises(Killed):
        folder.perform(fine_tune, nobody, dies_after(5))
    done, losses = performed(folder, replace(told, checkpoints=Checkpointing(folder.checkpoints, "cd", steps=100)))
    assert done.resumed_step == 0 and len(losses) == done.steps == 10


def test_a_lora_training_goes_on_from_its_checkpoint(base: Path, tmp_path: Path) -> None:
    lora = {"lora_rank": 4, "lora_alpha": 8.0, "muon_learning_rate": 0.0, "held_back": (), "stm_perplexity": 0.0}
    plain, killed = JobFolder(tmp_path / "plain"), JobFolder(tmp_path / "killed")
    _, whole_losses = performed(plain, job(base, plain, **lora))
    told = job(base, killed, **lora, checkpoints=Checkpointing(killed.checkpoints, "ab", steps=1))
    killed.write(told)
    with pytest.raises(Killed):
        killed.perform(fine_tune, nobody, dies_after(12))
    done, losses = performed(killed, told)
    assert done.resumed_step == 11 and losses == pytest.approx(whole_losses[11:], rel=SAME)


def test_two_attempts_of_one_training_are_never_at_it_at_once(base: Path, tmp_path: Path) -> None:
    folder = JobFolder(tmp_path / "job")
    folder.write(job(base, folder))
    at_work = threading.Event()
    let_go = threading.Event()

    def slow(told: FineTuning) -> FineTuned:
        at_work.set()
        let_go.wait(60)
        (told.out / "weights").write_text("first")
        return FineTuned(1, 1.0, 1.0, 1, 0, 0.0)

    first = threading.Thread(target=folder.perform, args=(slow, nobody, lambda step, loss: None))
    first.start()
    at_work.wait(60)
    with pytest.raises(TrainingStopped, match="another process had the training"):
        folder.perform(slow, lambda: True, lambda step, loss: None)
    let_go.set()
    first.join()
    folder.perform(fine_tune, nobody, dies_after(1))  # what is done is not done again
    assert json.loads((folder.path / "result.json").read_bytes())["done"]["steps"] == 1
