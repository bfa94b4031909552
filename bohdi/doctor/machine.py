"""What this machine has, and what the run would want of it: memory and disk."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from bohdi.doctor.finding import Finding, Level, gib
from bohdi.doctor.folders import Looked, everybody
from bohdi_common.runtime.config import Config
from services.training.forecast import Plan, adapter_parameters, memory

_FULL = 0.9  # of what is there: beyond it is likely not to go well
_CGROUP = Path("/sys/fs/cgroup")
_MEMINFO = Path("/proc/meminfo")


@dataclass(frozen=True)
class Machine:
    """Where models of this process and the training run; bytes that can be had there."""

    on_gpu: bool
    memory: int
    device: str


def this_machine() -> Machine:
    """A GPU where torch finds one, else the memory that the system says is to be had, within the bound of a
    container."""
    import torch

    if torch.cuda.is_available():
        free, _ = torch.cuda.mem_get_info()
        return Machine(True, free, torch.cuda.get_device_name())
    return Machine(False, _system_memory(), "CPU")


def _system_memory() -> int:
    try:
        lines = dict(line.split(":", 1) for line in _MEMINFO.read_text().splitlines())
        there = int(lines["MemAvailable"].split()[0]) * 1024
    except (OSError, ValueError, KeyError):
        there = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    try:
        bound = int((_CGROUP / "memory.max").read_text()) - int((_CGROUP / "memory.current").read_text())
    except (OSError, ValueError):  # no container, or one without a bound
        return there
    return min(there, bound)


def plan_of(config: Config, shape_positions: int | None, on_gpu: bool) -> Plan:
    """How the configuration's training goes: rows as long as questions and answers may be, as many at once as the
    trainer puts together."""
    from services.training.job import FineTuning
    from services.training.trainer import padded_rows

    training = config.training
    longest = min(training.max_tokens, shape_positions or training.max_tokens)
    nowhere = Path()
    job = FineTuning(nowhere, nowhere, nowhere, (), (), training.batch, training.learning_rate, training.max_tokens)
    row_tokens = min(longest, config.harvest.question_max_tokens + config.harvest.answer_max_tokens)
    rows = padded_rows(job, training.max_tokens)
    # Processes that share a model on one CPU share its memory too, and win nothing.
    shards = training.processes * training.nodes if training.sharding == "fsdp" and on_gpu else 1
    by_muon = training.muon_learning_rate > 0
    return Plan(rows, row_tokens, training.lora_rank, by_muon, on_gpu, training.batch // rows, shards)


def memory_of(config: Config, found: Mapping[str, Looked], machine: Machine) -> Iterator[Finding]:
    """Models that answer in this process, and the training, each by itself and both together."""
    from bohdi_common.models.local import MAX_VERSIONS

    unit = 2 if machine.on_gpu else 4
    answering = 0
    for model in everybody(config):
        if model.adapter == "local" and model.name in found:
            kept = MAX_VERSIONS if model is config.target else 1
            answering += kept * unit * found[model.name].shape.parameters
    if answering:
        yield _within("memory of the models", answering, machine, "put models behind servers (adapter: http)")
    target = found.get(config.target.name)
    if target is None:
        return
    plan = plan_of(config, target.positions, machine.on_gpu)
    wanted = memory(target.shape, plan)
    parts = f"weights {gib(wanted.weights)}, gradients {gib(wanted.gradients)}, optimizer {gib(wanted.optimizer)}, "
    parts += f"activations {gib(wanted.activations + wanted.head)} for {plan.rows} rows of {plan.row_tokens}"
    mend = "set training.lora_rank or training.sharding, or lower training.max_tokens"
    yield _within("memory of the training", wanted.total, machine, mend, f" ({parts})")
    if answering:
        mend = "put models behind servers, or train elsewhere (`bohdi up` on Kafka)"
        yield _within("memory of both", answering + wanted.total, machine, mend)


def _within(what: str, wanted: int, machine: Machine, mend: str, parts: str = "") -> Finding:
    figures = f"{gib(wanted)}{parts} of {gib(machine.memory)} free on the {machine.device}"
    return _judged(what, wanted, machine.memory, figures, mend)


def _judged(what: str, wanted: float, there: float, figures: str, mend: str) -> Finding:
    level: Level = "fail" if wanted > there else "warn" if wanted > _FULL * there else "ok"
    return Finding(level, what, figures if level == "ok" else f"{figures}: {mend}")


def disk(config: Config, target: Looked | None, store: Path) -> Iterator[Finding]:
    """A version of the target for each round, and one more that is being written."""
    if target is None:
        return
    rank = config.training.lora_rank
    of_one = 4 * adapter_parameters(target.shape, rank) if rank else target.saved_bytes * target.shape.parameters
    versions = config.bandit.rounds + 1
    folder = next(folder for folder in (store.absolute(), *store.absolute().parents) if folder.is_dir())
    free = shutil.disk_usage(folder).free
    figures = f"{versions} versions of {gib(of_one)}: {gib(versions * of_one)} of {gib(free)} free in {folder}"
    yield _judged("disk", versions * of_one, free, figures, "name another --store or --dir, or make room")
