"""Fully sharded data parallel (FSDP, arXiv 2304.11277; torch's second, by accelerate): of every weight, gradient and
moment each process keeps a part, and a layer is put together where it is computed. The arithmetic is that of DDP.

What is saved is put together too, so that a checkpoint does not say how many processes there were.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from accelerate.utils import DistributedType, FullyShardedDataParallelPlugin
from torch.distributed.tensor import DTensor, distribute_tensor


def arguments(sharded: bool) -> dict[str, Any]:
    """What a trainer of transformers is told; it writes into them."""
    return {"fsdp": True, "fsdp_config": {"version": 2}} if sharded else {}


def shard_on_cpu(trainer: Any) -> None:
    """Has a trainer with such arguments shard its model where there is no GPU, too: accelerate leaves out FSDP there,
    and says nothing. The rest of its way is the same on both."""
    if trainer.args.fsdp and not trainer.is_fsdp_enabled:
        state = trainer.accelerator.state
        state.distributed_type = DistributedType.FSDP
        state.fsdp_plugin = FullyShardedDataParallelPlugin(**trainer.args.fsdp_plugin_args)
        trainer.is_fsdp_enabled = True


def put_together(state: Any, kept: bool) -> Any:
    """`state`, a tensor or tensors in dicts and lists, where each that was sharded is whole and on the CPU, or None
    unless `kept`. All processes must ask, for the same."""
    if isinstance(state, DTensor):
        whole = state.full_tensor()  # all take part in it, whoever keeps it
        return whole.cpu() if kept else None
    if isinstance(state, dict):
        return {name: put_together(part, kept) for name, part in state.items()}
    if isinstance(state, list):
        return [put_together(part, kept) for part in state]
    return state


def part_of(whole: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """This process's part of what all have `whole`, sharded as `like`; `whole` where that is not."""
    if not isinstance(like, DTensor):
        return whole
    return distribute_tensor(whole.to(like.device), like.device_mesh, like.placements, src_data_rank=None)


def parts_of(optimizer: torch.optim.Optimizer, whole: dict[str, Any]) -> dict[str, Any]:
    """`whole`, the state_dict of such an optimizer put together, with the moments sharded as its weights are."""
    weights = [weight for group in optimizer.param_groups for weight in group["params"]]
    moments = {
        at: {name: part_of(kept, weights[at]) if kept.shape == weights[at].shape else kept for name, kept in of.items()}
        for at, of in whole["state"].items()
    }
    return {**whole, "state": moments}


def whole_model(sharded: Any, fresh: Callable[[], Any]) -> Any:
    """The model that `fresh` loads, with the weights of `sharded`, on the CPU. All processes must ask. Raises
    RuntimeError for a model that was not sharded: its trainer did not do as it was told."""
    if not any(isinstance(weight, DTensor) for weight in sharded.parameters()):
        raise RuntimeError("sharding fsdp was asked for, and each process held the whole model")
    weights = {name: put_together(weight.detach(), kept=True) for name, weight in sharded.named_parameters()}
    model = fresh()
    with torch.no_grad():
        for name, weight in model.named_parameters():
            weight.copy_(weights.pop(name))
    return model
