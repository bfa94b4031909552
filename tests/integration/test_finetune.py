"""One fine-tune does what its job says, and gives nothing when it cannot."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from bohdi_common.models import huggingface
from bohdi_common.models.huggingface import load_model, load_tokenizer
from services.training import finetune
from services.training.finetune import fine_tune
from services.training.job import Example, FineTuned, FineTuning, TrainingDiverged, TrainingStopped
from services.training.recipe import rate_factor
from tests.integration.tiny_models import POSITIONS, save_tiny_model

# On a GPU the arithmetic of a training is bfloat16.
ALIKE = 2e-3 if torch.cuda.is_available() else 1e-4
EXAMPLES = [Example([{"role": "user", "content": f"What is {i} plus 1?"}], f"It is {i + 1}.") for i in range(16)]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)
    return save_tiny_model(tmp_path_factory.mktemp("base"), seed=3)


@pytest.fixture
def job(base: Path, tmp_path: Path) -> FineTuning:
    """Ten steps of eight."""
    return FineTuning(
        base=base,
        root=base,
        out=tmp_path / "out",
        examples=EXAMPLES,
        order=[i % len(EXAMPLES) for i in range(80)],
        batch=8,
        learning_rate=3e-3,
        muon_learning_rate=3e-3,
        weight_decay=0.01,
        warmup_share=0.1,
        decay_share=0.9,
        max_tokens=64,
    )


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return {name: p.detach() for name, p in load_model(folder, torch.float32).named_parameters()}


def merged(folder: Path, base: Path) -> dict[str, torch.Tensor]:
    return {name: p.detach() for name, p in load_model(folder, torch.float32, base).named_parameters()}


def completion_loss(folder: Path, examples: list[Example], base: Path | None = None) -> float:
    """Mean loss of the completions' tokens, end token included, by a plain forward of one example at a time."""
    tokenizer, model = load_tokenizer(folder), load_model(folder, torch.float32, base).eval()
    losses = []
    for example in examples:
        prompt = tokenizer.apply_chat_template(example.messages, tokenize=False, add_generation_prompt=True)
        start = len(tokenizer(prompt, add_special_tokens=False)["input_ids"])
        ids = tokenizer(f"{prompt}{example.completion}<end>", add_special_tokens=False)["input_ids"]
        with torch.no_grad():
            logits = model(input_ids=torch.tensor([ids])).logits[0]
        losses.append(
            torch.nn.functional.cross_entropy(logits[start - 1 : -1], torch.tensor(ids[start:]), reduction="none")
        )
    return float(torch.cat(losses).mean())


def recording_batches(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What the model is given from here on, forward by forward."""
    from services.training.trainer import _Trainer

    seen: list[dict[str, Any]] = []
    compute = _Trainer.compute_loss

    def recording(self: Any, model: Any, inputs: dict[str, Any], **kwargs: Any) -> Any:
        seen.append({name: value.clone() for name, value in inputs.items() if isinstance(value, torch.Tensor)})
        return compute(self, model, inputs, **kwargs)

    monkeypatch.setattr(_Trainer, "compute_loss", recording)
    return seen


def test_the_loss_falls_and_the_result_is_a_model_that_has_learnt(job: FineTuning, base: Path) -> None:
    losses: list[float] = []
    done = fine_tune(replace(job, order=job.order * 4, on_step=lambda step, loss: losses.append(loss)))
    assert done.steps == len(losses) == 40
    assert done.first_loss == pytest.approx(sum(losses[:10]) / 10)
    assert done.last_loss == pytest.approx(sum(losses[-10:]) / 10)
    assert completion_loss(job.out, EXAMPLES) < 0.5 * completion_loss(base, EXAMPLES)


def test_the_first_loss_is_that_of_the_completions_alone(job: FineTuning, base: Path) -> None:
    losses: list[float] = []
    fine_tune(replace(job, order=range(8), on_step=lambda step, loss: losses.append(loss)))
    assert losses == [pytest.approx(completion_loss(base, EXAMPLES[:8]), rel=ALIKE)]


def test_only_the_completion_and_its_end_carry_loss(
    job: FineTuning, base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = recording_batches(monkeypatch)
    done = fine_tune(replace(job, order=[0, 9, 12], batch=3))
    tokenizer = load_tokenizer(base)
    (batch,) = seen
    for row, index in enumerate((0, 9, 12)):
        learnt = batch["input_ids"][row][batch["labels"][row] != -100]
        assert tokenizer.decode(learnt) == f"{EXAMPLES[index].completion}<end>"
        told = batch["input_ids"][row][(batch["labels"][row] == -100) & (batch["attention_mask"][row] == 1)]
        assert tokenizer.decode(told) == f"<user> {EXAMPLES[index].messages[0]['content']}<asst>"
    assert done.tokens == int(batch["attention_mask"].sum())


def test_examples_are_seen_in_the_order_given_as_often_as_given(
    job: FineTuning, base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = recording_batches(monkeypatch)
    order = [5, 5, 5, 0, 15, 2, 5, 1, 0, 0]
    fine_tune(replace(job, order=order, batch=4, epochs=2))
    tokenizer = load_tokenizer(base)
    texts = [tokenizer.decode(row, skip_special_tokens=True) for batch in seen for row in batch["input_ids"]]
    numbers = [int(text.split("plus")[0].split()[-1]) for text in texts]
    assert numbers == order * 2
    assert [len(batch["input_ids"]) for batch in seen] == [4, 4, 2] * 2


def test_the_same_job_gives_the_same_weights_twice(job: FineTuning, tmp_path: Path) -> None:
    fine_tune(job)
    fine_tune(replace(job, out=tmp_path / "again"))
    first, again = weights(job.out), weights(tmp_path / "again")
    assert all(torch.equal(first[name], again[name]) for name in first)


def test_a_batch_made_of_several_passes_moves_the_weights_as_one(
    job: FineTuning, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from services.training import trainer

    whole = fine_tune(replace(job, order=job.order[:24]))
    monkeypatch.setattr(trainer, "MAX_TOKENS_PER_PASS", 2 * job.max_tokens)
    parts = fine_tune(replace(job, order=job.order[:24], out=tmp_path / "parts"))
    assert parts.steps == whole.steps
    assert parts.last_loss == pytest.approx(whole.last_loss, rel=1e-3)


def lora_of(job: FineTuning) -> FineTuning:
    return replace(job, order=job.order * 2, muon_learning_rate=0.0, learning_rate=1e-2, lora_rank=4, lora_alpha=8.0)


@pytest.mark.parametrize("how", ["whole", "packed", "lora"])
@pytest.mark.parametrize("passes", [1, 2])
def test_where_logits_are_few_the_models_own_loss_teaches_what_trls_head_teaches(
    job: FineTuning, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str, passes: int
) -> None:
    from services.training import trainer

    job = lora_of(job) if how == "lora" else replace(job, packing=how == "packed")
    monkeypatch.setattr(trainer, "MAX_TOKENS_PER_PASS", job.batch * job.max_tokens // passes)

    def losses(few: int) -> list[float]:
        seen: list[float] = []
        monkeypatch.setattr(trainer, "_FEW_LOGITS", few)
        fine_tune(replace(job, out=tmp_path / str(few), on_step=lambda step, loss: seen.append(loss)))
        return seen

    of_trl = losses(0)
    assert losses(10**9) == pytest.approx(of_trl, rel=1e-3)
    assert of_trl[-1] < of_trl[0]


def test_a_lora_run_keeps_one_adapter_that_goes_on_growing(job: FineTuning, base: Path, tmp_path: Path) -> None:
    lora = lora_of(job)
    fine_tune(lora)
    assert [file.name for file in job.out.glob("*.safetensors")] == ["adapter_model.safetensors"]
    assert str(tmp_path) not in (job.out / "adapter_config.json").read_text()
    before, after = weights(base), merged(job.out, base)
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert moved == {name for name in before if "_proj" in name}
    name = "model.layers.0.self_attn.q_proj.weight"
    assert torch.linalg.matrix_rank(after[name] - before[name], rtol=1e-3) <= 4
    first = completion_loss(job.out, EXAMPLES, base)
    assert first < completion_loss(base, EXAMPLES)
    second = replace(lora, base=job.out, out=tmp_path / "second")
    fine_tune(second)
    assert completion_loss(second.out, EXAMPLES, base) < first
    grown = merged(second.out, base)
    huggingface.merge(second.out, base, tmp_path / "whole")
    whole = weights(tmp_path / "whole")
    assert whole.keys() == grown.keys() and all(torch.equal(whole[name], grown[name]) for name in whole)
    assert torch.linalg.matrix_rank(grown[name] - before[name], rtol=1e-3) <= 4


def test_adapters_are_averaged_matrix_by_matrix(job: FineTuning, base: Path, tmp_path: Path) -> None:
    lora = lora_of(job)
    fine_tune(lora)
    second = replace(lora, base=job.out, out=tmp_path / "second")
    fine_tune(second)
    fine_tune(replace(second, out=tmp_path / "mean", average_with=[job.out]))
    one, other, mean = (load_file(f / "adapter_model.safetensors") for f in (job.out, second.out, tmp_path / "mean"))
    for name, weight in mean.items():
        torch.testing.assert_close(weight, (one[name] + other[name]) / 2, rtol=1e-6, atol=1e-7)
    with pytest.raises(ValueError, match="cannot be averaged with a model of other weights"):
        fine_tune(replace(second, out=tmp_path / "no", average_with=[base]))


def test_averaging_gives_the_mean_of_the_trained_and_the_named_weights(
    job: FineTuning, base: Path, tmp_path: Path
) -> None:
    other = save_tiny_model(tmp_path / "other", seed=8)
    fine_tune(job)
    fine_tune(replace(job, out=tmp_path / "mean", average_with=[base, other]))
    trained, first, second, mean = (weights(f) for f in (job.out, base, other, tmp_path / "mean"))
    for name, weight in mean.items():
        torch.testing.assert_close(weight, (trained[name] + first[name] + second[name]) / 3, rtol=1e-6, atol=1e-7)


def test_a_loss_that_is_not_finite_raises_and_leaves_nothing(job: FineTuning, tmp_path: Path) -> None:
    broken = load_model(job.base, torch.float32)
    with torch.no_grad():
        broken.model.norm.weight.fill_(float("inf"))
    broken.save_pretrained(tmp_path / "broken")
    load_tokenizer(job.base).save_pretrained(tmp_path / "broken")
    with pytest.raises(TrainingDiverged, match="the loss on examples is nan at step 1"):
        fine_tune(replace(job, base=tmp_path / "broken"))
    assert list(job.out.glob("*")) == []


def test_weights_that_are_not_finite_raise_and_leave_nothing(job: FineTuning) -> None:
    with pytest.raises(TrainingDiverged, match="not finite"):
        fine_tune(replace(job, order=range(8), learning_rate=1e38, muon_learning_rate=1e38, weight_decay=1e3))
    assert list(job.out.glob("*")) == []


def test_stop_ends_a_training_after_the_step_it_is_in_and_leaves_nothing(job: FineTuning) -> None:
    steps: list[int] = []
    stopping = replace(job, on_step=lambda step, loss: steps.append(step), stop=lambda: len(steps) == 3)
    with pytest.raises(TrainingStopped, match="after 3 of 10 steps"):
        fine_tune(stopping)
    assert list(job.out.glob("*")) == []


def test_a_stop_after_the_last_step_changes_nothing(job: FineTuning) -> None:
    steps: list[int] = []
    done = fine_tune(replace(job, on_step=lambda step, loss: steps.append(step), stop=lambda: len(steps) == 10))
    assert isinstance(done, FineTuned)


def test_an_example_too_long_is_cut_and_one_with_no_completion_left_is_left_out(job: FineTuning) -> None:
    rambling = Example([{"role": "user", "content": "Why?"}], "red " * 100)
    endless = Example([{"role": "user", "content": "Number 3 is red. " * 40}], "It is.")
    done = fine_tune(
        replace(job, examples=[*EXAMPLES, rambling, endless], order=[0, 16, 17, 1], batch=4, max_tokens=500)
    )
    assert (done.steps, done.too_long) == (1, 2)
    rows = finetune._tokenised([rambling], load_tokenizer(job.base), min(job.max_tokens, POSITIONS))
    assert [len(row.ids) for row in rows if row] == [job.max_tokens]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda job: replace(job, order=[]), "order is empty"),
        (lambda job: replace(job, order=[0, 16]), "beyond the 16"),
        (lambda job: replace(job, batch=0), "at least 1"),
        (lambda job: replace(job, max_tokens=3), "raise max_tokens"),
        (lambda job: replace(job, lora_rank=4), "which LoRA freezes"),
    ],
)
def test_a_job_that_makes_no_sense_is_refused(
    job: FineTuning, change: Callable[[FineTuning], FineTuning], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        fine_tune(change(job))


def test_the_rate_rises_over_the_warmup_and_falls_over_the_decay() -> None:
    factor = rate_factor(100, warmup_share=0.1, decay_share=0.5)
    assert [factor(s) for s in (0, 4, 9, 30, 50, 75)] == pytest.approx([0.1, 0.5, 1.0, 1.0, 1.0, 0.5])
    assert factor(99) == pytest.approx(0.02)
    assert [rate_factor(10, 0.0, 0.0)(s) for s in range(10)] == [1.0] * 10
