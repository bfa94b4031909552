"""The models that are folders here: there, whole, and of a kind that transformers loads and speaks to."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bohdi.doctor.finding import Finding, gib
from bohdi.run_folder import why_no_model
from bohdi_common.models import huggingface, vllm
from bohdi_common.models.places import place
from bohdi_common.runtime.config import Config, Model
from services.training.forecast import Shape
from services.training.shapes import shape_of


@dataclass(frozen=True)
class Looked:
    """A model folder that can be loaded."""

    folder: Path
    tokenizer: Any
    shape: Shape
    positions: int | None
    saved_bytes: int  # of a weight, as the folder has it


def everybody(config: Config) -> list[Model]:
    """Every model of a run, the target last of those that answer."""
    return [*config.sources, config.target, *config.judging.judges]


def look(config: Config, beside: Path, found: dict[str, Looked]) -> Iterator[Finding]:
    """A finding for each folder; those that load are put into `found` by the model's name."""
    for model in everybody(config):
        if not model.path:
            continue
        what, folder = f"folder of {model.name}", place(model.path, beside)
        if why := why_no_model(folder):
            yield Finding("fail", what, f"{why}: {model.path!r}")
            continue
        try:
            found[model.name] = seen = _loaded(folder)
        except ValueError as error:
            yield Finding("fail", what, str(error))
            continue
        yield Finding("ok", what, _figures(seen))


def lora(config: Config, seen: Looked | None) -> Iterator[Finding]:
    """Whether the target has what LoRA is put on, and its servers, as far as that can be told, take its rank."""
    rank = config.training.lora_rank
    if not rank or seen is None:
        return
    from services.training.forecast import adapter_parameters

    trained = adapter_parameters(seen.shape, rank)
    if not trained:
        yield Finding("fail", "LoRA", "the target has no linear layers to adapt: set training.lora_rank to 0")
        return
    share = trained / seen.shape.parameters
    yield Finding(
        "ok",
        "LoRA",
        f"rank {rank} on {seen.shape.matrices * seen.shape.layers} matrices: {trained / 1e6:.3g}M parameters, "
        f"{share:.2%} of the target's",
    )
    if config.target.adapter == "http":
        yield _rank_on_servers(rank)
    if config.training.muon_learning_rate:
        yield Finding("fail", "LoRA", "muon_learning_rate is for matrices that LoRA freezes: set one of them to 0")


def _rank_on_servers(rank: int) -> Finding:
    """A server tells its limit to nobody, and refuses when it loads the first version."""
    if rank <= vllm.DEFAULT_MAX_RANK:
        return Finding("ok", "LoRA on the servers", f"rank {rank} is within vLLM's limit where it is told no other")
    told = f"rank {rank} is above the {vllm.DEFAULT_MAX_RANK} that vLLM takes where it is told no other"
    return Finding("warn", "LoRA on the servers", f"{told}: start each with --max-lora-rank {rank} or more")


def _loaded(folder: Path) -> Looked:
    tokenizer = huggingface.load_tokenizer(folder)
    skeleton = huggingface.skeleton(folder)
    saved = huggingface.saved_dtype(folder)
    return Looked(folder, tokenizer, shape_of(folder), huggingface.positions_of(skeleton), saved.itemsize)


def _figures(seen: Looked) -> str:
    shape = seen.shape
    size = gib(shape.parameters * seen.saved_bytes)
    context = f"context {seen.positions}" if seen.positions else "no bound on the context"
    return f"{shape.parameters / 1e6:.4g}M parameters in {shape.layers} layers, {size} on disk, {context}"
