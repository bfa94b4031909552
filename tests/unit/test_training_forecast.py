"""What a fine-tune will want is counted as the trainer spends it: parameters, what autograd keeps, operations."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
import transformers
from peft import LoraConfig, get_peft_model

from services.training.forecast import Plan, Shape, adapter_parameters, layer_bytes, memory, operations_per_token
from services.training.shapes import shape_of_model

ROWS, TOKENS = 4, 60
KINDS = {
    "llama": (transformers.LlamaConfig, transformers.LlamaForCausalLM),
    "qwen2": (transformers.Qwen2Config, transformers.Qwen2ForCausalLM),
    "mistral": (transformers.MistralConfig, transformers.MistralForCausalLM),
    "phi3": (transformers.Phi3Config, transformers.Phi3ForCausalLM),
    "gemma2": (transformers.Gemma2Config, transformers.Gemma2ForCausalLM),
}
# Llama-3.2-3B-Instruct, from its published configuration.
THREE_B = Shape(
    parameters=3_212_749_824, hidden_parameters=2_818_572_288, layers=28, hidden=3072, inner=8192, query_width=3072,
    key_width=1024, heads=24, vocabulary=128_256, norms=2, matrices=7, width_in=26_624, width_out=27_648,
)  # fmt: skip
ON_GPU = Plan(rows=8, row_tokens=2048, on_gpu=True, passes=2)


def model(kind: str, layers: int) -> Any:
    config, of = KINDS[kind]
    return of(
        config(
            vocab_size=101,
            hidden_size=128,
            num_hidden_layers=layers,
            num_attention_heads=8,
            num_key_value_heads=2,
            head_dim=16,
            intermediate_size=320,
            pad_token_id=0,
            eos_token_id=1,
            bos_token_id=2,
        )
    ).train()


def adapted(of: Any, rank: int) -> Any:
    return get_peft_model(of, LoraConfig(r=rank, target_modules="all-linear", task_type="CAUSAL_LM"))


def kept_bytes(of: Any, autocast: bool) -> int:
    """What autograd keeps of a pass through the layers, weights and their copies left out."""
    weights = {tuple(p.shape) for p in of.parameters()} | {tuple(p.shape)[::-1] for p in of.parameters()}
    kept: dict[int, torch.Tensor] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        if tuple(tensor.shape) not in weights:
            kept[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    ids = torch.randint(5, 90, (ROWS, TOKENS))
    hooks = torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor)
    with hooks, torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        of(input_ids=ids, attention_mask=torch.ones_like(ids), use_cache=False)
    return sum(tensor.untyped_storage().nbytes() for tensor in kept.values())


@pytest.mark.parametrize("rank", [0, 8], ids=["full", "lora"])
@pytest.mark.parametrize("autocast", [False, True], ids=["float32", "autocast"])
@pytest.mark.parametrize(("kind", "off"), [("llama", 0.05), ("qwen2", 0.05), ("mistral", 0.05), ("phi3", 0.12),
                                           ("gemma2", 0.05)])  # fmt: skip
def test_a_layer_keeps_as_many_bytes_as_autograd_does(kind: str, off: float, autocast: bool, rank: int) -> None:
    kept = []
    for layers in (2, 4):  # what is beside the layers is in both
        whole = model(kind, layers)
        shape = shape_of_model(whole)
        inner = adapted(whole, rank).base_model.model if rank else whole
        kept.append(kept_bytes(inner.base_model, autocast))
    counted = layer_bytes(shape, Plan(ROWS, TOKENS, lora_rank=rank, on_gpu=autocast))
    assert counted == pytest.approx((kept[1] - kept[0]) / 2, rel=off)


@pytest.mark.parametrize("kind", KINDS)
def test_parameters_are_those_of_the_model_and_of_its_adapter(kind: str) -> None:
    whole = model(kind, 3)
    shape = shape_of_model(whole)
    assert shape.parameters == sum(p.numel() for p in whole.parameters())
    trained = sum(p.numel() for p in adapted(whole, 8).parameters() if p.requires_grad)
    assert adapter_parameters(shape, 8) == trained


def test_a_model_without_weights_has_the_same_shape() -> None:
    with torch.device("meta"):
        empty = model("llama", 3)
    assert shape_of_model(empty) == shape_of_model(model("llama", 3))


def test_a_model_whose_layers_cannot_be_told_is_refused() -> None:
    other = transformers.BloomForCausalLM(transformers.BloomConfig(vocab_size=20, hidden_size=8, n_layer=0, n_head=1))
    with pytest.raises(ValueError, match="layers cannot be told"):
        shape_of_model(other)


def test_a_full_fine_tune_holds_sixteen_bytes_for_each_weight_and_autocast_two_more() -> None:
    found = memory(THREE_B, ON_GPU)
    assert found.weights + found.gradients + found.optimizer == 18 * THREE_B.parameters


def test_lora_holds_the_weights_once_and_trains_a_hundredth_of_them() -> None:
    found = memory(THREE_B, replace(ON_GPU, lora_rank=16))
    assert found.weights < 4.1 * THREE_B.parameters
    assert found.gradients + found.optimizer < 0.2 * THREE_B.parameters


@pytest.mark.parametrize(
    ("rows", "row_tokens", "rank", "passes", "measured_mb"),
    [
        (2, 4608, 0, 2, 61_170), (2, 4608, 0, 1, 53_224), (8, 2048, 0, 2, 63_986), (8, 2048, 0, 1, 54_651),
        (8, 2048, 16, 1, 22_650),
    ],
)  # fmt: skip
def test_the_forecast_is_near_what_was_measured_on_a_gpu(
    rows: int, row_tokens: int, rank: int, passes: int, measured_mb: int
) -> None:
    """An H200: docs/forecast.md."""
    plan = Plan(rows, row_tokens, rank, on_gpu=True, passes=passes)
    assert 0.98 < memory(THREE_B, plan).total / 1e6 / measured_mb < 1.08


def test_gradients_of_an_earlier_pass_stay_while_the_next_goes_there() -> None:
    once = memory(THREE_B, replace(ON_GPU, passes=1))
    assert once.total < memory(THREE_B, ON_GPU).total == memory(THREE_B, replace(ON_GPU, passes=64)).total


def test_muon_keeps_one_moment_less_of_the_hidden_matrices() -> None:
    with_muon = memory(THREE_B, replace(ON_GPU, muon=True)).optimizer
    assert memory(THREE_B, ON_GPU).optimizer - with_muon == 4 * THREE_B.hidden_parameters
    adapters = replace(ON_GPU, lora_rank=16)  # which AdamW trains whatever the settings say
    assert memory(THREE_B, replace(adapters, muon=True)) == memory(THREE_B, adapters)


def test_on_a_cpu_every_layer_is_kept_and_the_head_works_on_copies_of_its_tile() -> None:
    plan = Plan(rows=2, row_tokens=512)
    found, by_lora = memory(THREE_B, plan), memory(THREE_B, replace(plan, lora_rank=16))
    assert found.activations == 28 * layer_bytes(THREE_B, plan)
    tile, hidden_states, weights = 4 * 1024 * 32_768, 2 * 4 * 3072 * 1024, 4 * 3072 * 128_256
    assert found.head == tile + 7.25 * tile + hidden_states + weights
    assert by_lora.head == found.head - weights


def test_attention_costs_two_operations_a_position_for_every_way_through_a_layer() -> None:
    short, long = (operations_per_token(THREE_B, Plan(rows=1, row_tokens=n)) for n in (1, 1001))
    assert long - short == 6 * 2 * 28 * 3072 * 1000


def test_processes_that_share_the_weights_hold_a_part_each_and_what_is_computed_whole() -> None:
    alone, four = memory(THREE_B, ON_GPU), memory(THREE_B, replace(ON_GPU, shards=4))
    assert (four.gradients, four.optimizer) == (alone.gradients // 4, alone.optimizer // 4)
    assert alone.weights / 4 < four.weights < alone.weights / 2
    assert (four.activations, four.head) == (alone.activations, alone.head)


def test_checkpointing_keeps_the_input_of_each_layer_and_one_whole_layer() -> None:
    found = memory(THREE_B, ON_GPU).activations
    assert found == 4 * 3072 * 28 * ON_GPU.tokens + layer_bytes(THREE_B, ON_GPU)


def test_more_rows_or_longer_ones_want_more_and_never_less() -> None:
    for on_gpu in (False, True):
        plan = Plan(rows=2, row_tokens=512, on_gpu=on_gpu)
        for larger in (replace(plan, rows=4), replace(plan, row_tokens=1024)):
            assert memory(THREE_B, larger).total > memory(THREE_B, plan).total


def test_operations_are_six_for_a_weight_and_token_and_less_with_lora_and_more_with_checkpointing() -> None:
    short = Plan(rows=1, row_tokens=1)
    plain = operations_per_token(THREE_B, short)
    assert plain == pytest.approx(6 * 3.21e9 + 2 * 3072 * 128_256, rel=0.01)
    assert operations_per_token(THREE_B, replace(short, lora_rank=16)) < 0.72 * plain
    assert operations_per_token(THREE_B, replace(short, on_gpu=True)) > 1.25 * plain
