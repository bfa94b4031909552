"""What a fine-tune learns beyond plain supervision: masked tokens, preferences, the held-back gate, packing."""

from __future__ import annotations

import gc
import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import AttentionInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from bohdi_common.models.huggingface import load_model, load_tokenizer
from services.training import finetune, held_back, masking, packing, trainer
from services.training.finetune import fine_tune
from services.training.job import (
    Example,
    FineTuning,
    Preference,
    TrainingDiverged,
    TrainingRegressed,
    TrainingStopped,
)
from tests.integration.test_finetune import ALIKE, completion_loss, merged, recording_batches, weights
from tests.integration.tiny_models import POSITIONS, save_tiny_model


def asked(i: int) -> list[dict[str, str]]:
    return [{"role": "user", "content": f"What is {i} plus 1?"}]


EXAMPLES = [Example(asked(i), f"It is {i + 1}.", "a" if i % 2 else "b") for i in range(16)]
WRONG = [Example(asked(i), f"Number {i} is red, blue or green.", "a") for i in range(16)]
PREFERENCES = [Preference(asked(i), f"It is {i + 1}.", f"Number {i} is red.") for i in range(12)]


@pytest.fixture(scope="module", autouse=True)
def libraries_loaded() -> Iterator[None]:
    """accelerate collects garbage twice a training; what the libraries made need not be looked through each time."""
    import services.training.preferences  # noqa: F401

    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)
    return save_tiny_model(tmp_path_factory.mktemp("base"), seed=3)


def job_of(base: Path, out: Path) -> FineTuning:
    """Four steps of eight."""
    order = [i % len(EXAMPLES) for i in range(32)]
    return FineTuning(
        base, base, out, EXAMPLES, order, batch=8, learning_rate=3e-3, muon_learning_rate=3e-3, max_tokens=64
    )


@pytest.fixture
def job(base: Path, tmp_path: Path) -> FineTuning:
    return job_of(base, tmp_path / "out")


@pytest.fixture(scope="module")
def plain(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the job gives with nothing of all this."""
    out = tmp_path_factory.mktemp("plain")
    fine_tune(job_of(base, out))
    return out


@pytest.fixture(scope="module")
def learnt(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The base after it has learnt the examples."""
    out = tmp_path_factory.mktemp("learnt")
    job = job_of(base, out)
    fine_tune(replace(job, order=list(job.order) * 8))
    return out


def equal(first: Path, second: Path) -> bool:
    one, other = weights(first), weights(second)
    return all(torch.equal(one[name], other[name]) for name in one)


def log_probs(folder: Path, example: Example) -> list[float]:
    """Of the completion's tokens, end included, by a plain forward."""
    model, tokenizer = load_model(folder, torch.float32).eval(), load_tokenizer(folder)
    prompt = tokenizer.apply_chat_template(example.messages, tokenize=False, add_generation_prompt=True)
    start = len(tokenizer(prompt, add_special_tokens=False)["input_ids"])
    ids = tokenizer(f"{prompt}{example.completion}<end>", add_special_tokens=False)["input_ids"]
    with torch.no_grad():
        scores = model(input_ids=torch.tensor([ids])).logits[0].log_softmax(-1)
    return [float(scores[at - 1, ids[at]]) for at in range(start, len(ids))]


# ---- selective token masking -----------------------------------------------------------------------------------


def test_just_the_tokens_above_the_perplexity_carry_no_loss(
    job: FineTuning, learnt: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mixed = [*EXAMPLES[:4], *WRONG[:4]]
    tokenizer, seen = load_tokenizer(learnt), recording_batches(monkeypatch)
    done = fine_tune(replace(job, base=learnt, examples=mixed, order=range(8), stm_perplexity=2.5))
    expected = [[math.exp(-score) <= 2.5 for score in log_probs(learnt, example)] for example in mixed]
    assert any(True in kept and False in kept for kept in expected)
    left = [(example, kept) for example, kept in zip(mixed, expected, strict=True) if any(kept)]
    assert done.fully_masked == len(mixed) - len(left)
    for row, (example, kept) in zip(seen[0]["labels"], left, strict=True):
        ids = tokenizer(f"{example.completion}<end>", add_special_tokens=False)["input_ids"]
        assert row[row != -100].tolist() == [token for token, is_kept in zip(ids, kept, strict=True) if is_kept]
    counts = {"a": [0, 0], "b": [0, 0]}
    for example, kept in zip(mixed, expected, strict=True):
        counts[example.author][0] += len(kept)
        counts[example.author][1] += kept.count(False)
    assert {author: [m.tokens, m.masked] for author, m in done.masked.items()} == counts


def test_a_perplexity_that_no_token_reaches_changes_nothing(job: FineTuning, plain: Path) -> None:
    done = fine_tune(replace(job, stm_perplexity=1e30))
    assert equal(job.out, plain)
    assert sum(counts.masked for counts in done.masked.values()) == 0


def test_an_example_that_is_masked_whole_is_left_out_and_counted(job: FineTuning, learnt: Path) -> None:
    strange = Example(asked(1), "~ ~ ~ ~", "a")
    tokenizer, model = load_tokenizer(learnt), load_model(learnt, torch.float32)
    rows, _ = masking.masked(model, _rows([strange], tokenizer), ["a"], 1.0001, lambda: False)
    assert not masking.carries_loss(rows[0])
    done = fine_tune(
        replace(job, base=learnt, examples=[*EXAMPLES, strange], order=[*range(7), 16], stm_perplexity=1.5)
    )
    assert done.fully_masked == 1 and math.isfinite(done.last_loss)


def test_a_training_of_which_every_token_is_masked_is_refused(job: FineTuning) -> None:
    with pytest.raises(ValueError, match=r"perplexity above 1\.0001: raise stm_perplexity"):
        fine_tune(replace(job, stm_perplexity=1.0001))
    assert list(job.out.glob("*")) == []


def _rows(examples: list[Example], tokenizer: Any) -> list[Any]:
    return finetune._tokenised(examples, tokenizer, POSITIONS)


# ---- preferences -----------------------------------------------------------------------------------------------


def margin(folder: Path, pairs: list[Preference]) -> float:
    """How much more probable the better answers are than the worse ones, in nats a pair."""
    better = [sum(log_probs(folder, Example(p.messages, p.better))) for p in pairs]
    worse = [sum(log_probs(folder, Example(p.messages, p.worse))) for p in pairs]
    return (math.fsum(better) - math.fsum(worse)) / len(pairs)


@pytest.fixture
def preferring(job: FineTuning) -> FineTuning:
    """Four steps on examples, then three epochs of two steps on preferences."""
    return replace(job, preferences=PREFERENCES, dpo_beta=0.1, dpo_learning_rate=1e-3, dpo_epochs=3)


def test_preferences_start_from_what_was_learnt_and_widen_the_margin(plain: Path, preferring: FineTuning) -> None:
    seen: list[tuple[int, float]] = []
    done = fine_tune(replace(preferring, on_step=lambda step, loss: seen.append((step, loss))))
    assert margin(preferring.out, PREFERENCES) > margin(plain, PREFERENCES) + 1
    assert [step for step, _ in seen] == list(range(1, 11)) and done.steps == 4
    losses = [loss for _, loss in seen[4:]]
    assert losses[0] == pytest.approx(math.log(2), rel=10 * ALIKE)  # nothing is preferred yet to what came
    assert losses[-1] < losses[0]
    assert done.preferences == 12
    assert done.preference_first_loss == done.preference_last_loss == pytest.approx(math.fsum(losses) / 6)


def test_preferences_give_the_same_weights_twice(preferring: FineTuning, tmp_path: Path) -> None:
    fine_tune(preferring)
    fine_tune(replace(preferring, out=tmp_path / "again"))
    assert equal(preferring.out, tmp_path / "again")


def test_without_a_beta_preferences_are_not_learnt(plain: Path, preferring: FineTuning) -> None:
    done = fine_tune(replace(preferring, dpo_beta=0.0))
    assert equal(preferring.out, plain) and done.preferences == 0


def test_pairs_that_are_the_same_within_the_limit_are_left_out(preferring: FineTuning) -> None:
    long = Preference(asked(1), "red " * 100, "red " * 101)
    done = fine_tune(replace(preferring, preferences=[long, PREFERENCES[0]], dpo_epochs=1))
    assert done.preferences == 1
    assert fine_tune(replace(preferring, preferences=[long])).preferences == 0


def test_a_stop_while_preferences_are_learnt_leaves_nothing(preferring: FineTuning) -> None:
    steps: list[int] = []
    stopping = replace(preferring, on_step=lambda step, loss: steps.append(step), stop=lambda: len(steps) == 6)
    with pytest.raises(TrainingStopped, match="after 2 of 6 steps on preferences"):
        fine_tune(stopping)
    assert list(preferring.out.glob("*")) == []


def test_a_batch_of_preferences_made_of_several_passes_moves_the_weights_as_one(
    preferring: FineTuning, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fresh = replace(preferring, preferences=PREFERENCES[:8], order=range(8))
    whole = fine_tune(fresh)
    monkeypatch.setattr(trainer, "MAX_TOKENS_PER_PASS", 4 * preferring.max_tokens)
    parts = fine_tune(replace(fresh, out=tmp_path / "parts"))
    assert parts.preference_last_loss == pytest.approx(whole.preference_last_loss, rel=1e-2)


def test_with_lora_preferences_are_learnt_in_the_same_adapter(preferring: FineTuning, base: Path) -> None:
    lora = replace(preferring, muon_learning_rate=0.0, learning_rate=1e-2, lora_rank=4, lora_alpha=8.0)
    seen: list[float] = []
    fine_tune(replace(lora, on_step=lambda step, loss: seen.append(loss)))
    assert seen[4] == pytest.approx(math.log(2), rel=10 * ALIKE) and seen[-1] < seen[4]
    before, after = weights(base), merged(lora.out, base)
    assert before.keys() == after.keys()
    name = "model.layers.0.self_attn.q_proj.weight"
    assert 0 < torch.linalg.matrix_rank(after[name] - before[name], rtol=1e-3) <= 4


def test_the_copy_that_preferences_are_measured_against_is_not_kept(preferring: FineTuning) -> None:
    from services.training.preferences import prefer

    tokenizer = load_tokenizer(preferring.base)
    lora = LoraConfig(r=4, target_modules="all-linear", task_type="CAUSAL_LM")
    model = get_peft_model(load_model(preferring.base, torch.float32), lora)
    pairs = list(zip(_rows(EXAMPLES[:8], tokenizer), _rows(WRONG[:8], tokenizer), strict=True))
    trained, _ = prefer(replace(preferring, lora_rank=4, dpo_epochs=1), model, tokenizer, pairs, [], None)
    assert set(trained.peft_config) == {"default"} and trained.active_adapter == "default"


# ---- the held-back gate ----------------------------------------------------------------------------------------


def test_both_losses_on_held_back_samples_are_those_of_their_completions(job: FineTuning, base: Path) -> None:
    held = EXAMPLES[:8]
    done = fine_tune(replace(job, examples=EXAMPLES[8:], order=list(range(8)) * 4, held_back=held))
    assert done.held_back == 8
    assert done.held_back_loss_base == pytest.approx(completion_loss(base, held), rel=1e-4)
    assert done.held_back_loss == pytest.approx(completion_loss(job.out, held), rel=1e-4)


def test_what_is_held_back_is_measured_in_float32_where_the_training_was_not(
    job: FineTuning, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a GPU, where accelerate puts autocast around the model."""
    usual = trainer.arguments
    monkeypatch.setattr(trainer, "arguments", lambda *told: {**usual(*told), "bf16": True})
    held = EXAMPLES[:8]
    done = fine_tune(replace(job, examples=EXAMPLES[8:], order=list(range(8)) * 4, held_back=held))
    assert done.held_back_loss == pytest.approx(completion_loss(job.out, held), rel=1e-4)


def test_measuring_changes_no_weight(job: FineTuning, plain: Path) -> None:
    fine_tune(replace(job, held_back=EXAMPLES, held_back_loss_rise=100.0))
    assert equal(job.out, plain)


def test_a_training_that_makes_held_back_samples_worse_is_refused_and_leaves_nothing(
    job: FineTuning, learnt: Path, tmp_path: Path
) -> None:
    forgetting = replace(job, base=learnt, examples=WRONG, held_back=EXAMPLES, held_back_loss_rise=0.1)
    with pytest.raises(TrainingRegressed, match="on 16 held-back samples rose from") as told:
        fine_tune(forgetting)
    assert told.value.new > told.value.base * 1.1
    assert list(job.out.glob("*")) == []
    allowed = told.value.new / told.value.base - 1
    done = fine_tune(replace(forgetting, held_back_loss_rise=allowed * 1.001))
    assert done.held_back_loss == pytest.approx(told.value.new)


def test_fewer_held_back_samples_than_tell_anything_are_not_measured(job: FineTuning, learnt: Path) -> None:
    few = EXAMPLES[: held_back.FEWEST - 1]
    done = fine_tune(replace(job, base=learnt, examples=WRONG, held_back=few))
    assert (done.held_back, done.held_back_loss_base, done.held_back_loss) == (0, 0.0, 0.0)


def test_a_held_back_loss_that_is_no_number_is_told_by_the_version(job: FineTuning, tmp_path: Path) -> None:
    broken = load_model(job.base, torch.float32)
    with torch.no_grad():
        broken.model.norm.weight.fill_(float("inf"))
    broken.save_pretrained(tmp_path / "broken")
    load_tokenizer(job.base).save_pretrained(tmp_path / "broken")
    with pytest.raises(TrainingDiverged, match="held-back samples is nan under the base version"):
        fine_tune(replace(job, base=tmp_path / "broken", held_back=EXAMPLES))


# ---- packing ---------------------------------------------------------------------------------------------------


def test_packed_rows_give_the_losses_of_padded_ones_without_padding(
    job: FineTuning, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mixed = replace(job, examples=[*EXAMPLES[:8], *WRONG[:8]])
    padded: list[float] = []
    fine_tune(replace(mixed, on_step=lambda step, loss: padded.append(loss)))
    seen, packed = recording_batches(monkeypatch), list[float]()
    done = fine_tune(
        replace(mixed, packing=True, out=tmp_path / "packed", on_step=lambda step, loss: packed.append(loss))
    )
    assert packed == pytest.approx(padded, rel=1e-3)
    assert [batch["input_ids"].shape[0] for batch in seen] == [1] * 4
    assert sum(batch["input_ids"].shape[1] for batch in seen) == done.tokens


def test_packing_is_refused_where_attention_lets_rows_see_each_other(
    job: FineTuning, monkeypatch: pytest.MonkeyPatch
) -> None:
    AttentionInterface.register("blind", sdpa_attention_forward)  # no mask of its own: causal, and no more

    def blind(folder: Path, dtype: torch.dtype, root: Path) -> Any:
        model = load_model(folder, dtype, root)
        model.set_attn_implementation("blind")
        return model

    monkeypatch.setattr(finetune, "load_model", blind)
    with pytest.raises(ValueError, match=r"attention \(blind\) lets .* set training\.packing to false"):
        fine_tune(replace(job, packing=True))
    assert list(job.out.glob("*")) == []


@pytest.mark.parametrize(
    ("lengths", "batch", "most", "rows"),
    [
        ([10] * 8, 8, 1000, 8),
        ([10] * 8, 8, 40, 4),
        ([10, 10, 30, 30, 10, 10, 10, 10], 8, 60, 2),
        ([100] * 4, 4, 60, 1),
        ([10] * 3, 4, 30, 4),
    ],
)
def test_a_pass_takes_as_many_packed_rows_as_fit(lengths: list[int], batch: int, most: int, rows: int) -> None:
    assert packing.rows_per_pass(lengths, batch, most) == rows
