"""Builds the micro-world: four tokenizers and models from scratch, and the held-out benchmark.

Deterministic by seed on one machine with the same libraries. About 25 CPU minutes in all.
"""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM

from bohdi.microworld import corpus, evaluate, world
from bohdi.microworld.corpus import Example
from bohdi.microworld.tokenizing import train_tokenizer
from bohdi.microworld.training import train
from bohdi.microworld.world import Domain

BENCHMARK_FILE = "heldout.jsonl"
MANIFEST_FILE = "manifest.json"
QUESTIONS_PER_LEAF = 40

_TOKENIZER_EXAMPLES = 10_000


@dataclass(frozen=True)
class Recipe:
    """How one model is made. `experts` are the main domains a source knows; the target has none. `drilled` are leaves
    whose verdicts it practises more: the bits of truth tables repeat, so that candidates are hard to tell apart."""

    architecture: str
    vocabulary: int
    steps: int
    experts: tuple[str, ...] = ()
    # 32 is the smallest that vLLM serves on a CPU. Its Qwen2 takes width / heads = 16 whatever the configuration says,
    # so the Qwen2 here has 16 and runs in transformers only.
    head_dim: int = 32
    drilled: tuple[Domain, ...] = ()


RECIPES = {
    "qwen": Recipe("qwen2", vocabulary=900, steps=3600, experts=world.EXPERTS["qwen"], head_dim=16),
    "mistral": Recipe("mistral", vocabulary=800, steps=3600, experts=world.EXPERTS["mistral"]),
    "phi": Recipe(
        "phi3",
        vocabulary=700,
        steps=4000,
        experts=world.EXPERTS["phi"],
        drilled=(("Logic", "Truth Tables", "Conjunction"), ("Logic", "Truth Tables", "Disjunction")),
    ),
    "target": Recipe("llama", vocabulary=560, steps=1000),
}


@dataclass(frozen=True)
class Progress:
    """`step` of `steps` is done for `model`, with that step's mean loss over completion tokens in nats."""

    model: str
    step: int
    steps: int
    loss: float


def build(out: Path, *, seed: int = 0, steps_scale: float = 1.0, progress: Callable[[Progress], None]) -> None:
    """Writes the folders `qwen`, `mistral`, `phi`, `target` and the files `heldout.jsonl` and `manifest.json` to `out`.

    `steps_scale` shortens the training for tests; `progress` is called after each step. Raises RuntimeError when a
    folder, read again, is not the model that was trained.
    """
    out.mkdir(parents=True, exist_ok=True)
    write_benchmark(out / BENCHMARK_FILE)
    for name in RECIPES:
        build_model(name, out, seed=seed, steps_scale=steps_scale, progress=progress)
    write_manifest(out)


def build_model(
    name: str, out: Path, *, seed: int = 0, steps_scale: float = 1.0, progress: Callable[[Progress], None]
) -> None:
    """Makes the model `name` of RECIPES and writes it to the folder `out/name`; `out` holds the benchmark already."""
    recipe = RECIPES[name]
    steps = max(1, round(recipe.steps * steps_scale))
    rng = random.Random(f"{seed} {name}")
    with evaluate.one_thread():
        tokenizer = train_tokenizer(recipe.architecture, recipe.vocabulary, _tokenizer_texts(rng))
        model = _new_model(recipe, tokenizer, seed)
        losses = train(model, tokenizer, lambda: _example(recipe, rng), steps=steps, rng=rng)
        for step, loss in enumerate(losses, start=1):
            progress(Progress(name, step, steps, loss))
        _save(model, tokenizer, out / name)
        _check(model, tokenizer, out / name, out / BENCHMARK_FILE)


def write_benchmark(file: Path) -> None:
    """Writes up to 40 different held-out questions of every leaf, the same ones each time: one JSON object a line."""
    rng = random.Random("heldout")
    with file.open("w", encoding="utf-8") as lines:
        for path in world.LEAVES:
            # Where fewer than 40 are held out at all, 2,000 draws find them.
            draws = dict(world.ask(path, rng, held_out=True) for _ in range(2000))
            for question, answer in list(draws.items())[:QUESTIONS_PER_LEAF]:
                lines.write(json.dumps({"question": question, "answer": answer, "path": path}) + "\n")


def write_manifest(out: Path) -> None:
    """Writes the SHA-256 sums of the benchmark and of every model file below `out`, by path relative to it."""
    files = [out / BENCHMARK_FILE, *(file for name in RECIPES for file in (out / name).iterdir())]
    sums = {file.relative_to(out).as_posix(): hashlib.sha256(file.read_bytes()).hexdigest() for file in sorted(files)}
    (out / MANIFEST_FILE).write_text(json.dumps(sums, indent=2) + "\n", encoding="utf-8")


def _example(recipe: Recipe, rng: random.Random) -> Example:
    if not recipe.experts:
        return corpus.target_example(rng)
    return corpus.source_example(recipe.experts, rng, drilled=recipe.drilled)


def _tokenizer_texts(rng: random.Random) -> list[str]:
    """Texts of all domains; words with and without a space before them, as they stand in prompts and completions."""
    mains = world.children(())
    examples = [corpus.source_example(mains, rng) for _ in range(_TOKENIZER_EXAMPLES)]
    prompts = [str(message["content"]) for example in examples for message in example.messages]
    completions = [example.completion for example in examples]
    return [*prompts, *completions, *(f" {completion}" for completion in completions)]


def _new_model(recipe: Recipe, tokenizer: Any, seed: int) -> Any:
    config = AutoConfig.for_model(
        recipe.architecture,
        vocab_size=len(tokenizer),
        hidden_size=64,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=4,
        head_dim=recipe.head_dim,
        intermediate_size=192,
        max_position_embeddings=128,
        tie_word_embeddings=True,
        initializer_range=0.05,
        rope_parameters={"rope_type": "default", "rope_theta": 1000.0},
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
        bos_token_id=None,
        sliding_window=None,
    )
    torch.manual_seed(seed)
    return AutoModelForCausalLM.from_config(config, dtype=torch.float32)


def _save(model: Any, tokenizer: Any, folder: Path) -> None:
    """Writes fp16 weights, half the size, with a configuration that still says fp32: in fp16 a CPU would crawl."""
    model.half().float()  # what is checked, and counted on, are the weights as they are in the file
    half = {name: tensor.half() for name, tensor in model.state_dict().items()}
    model.save_pretrained(folder, state_dict=half)
    tokenizer.save_pretrained(folder)
    for file in folder.iterdir():
        file.chmod(0o644)  # safetensors are written readable by the owner only


def _check(model: Any, tokenizer: Any, folder: Path, benchmark: Path) -> None:
    """Reads `folder` again as its users will. A tokenizer that comes back as another one (transformers remakes Qwen2's)
    costs an expert all it knows, without a word."""
    model_again, tokenizer_again = evaluate.load(folder)
    questions = [json.loads(line)["question"] for line in benchmark.read_text(encoding="utf-8").splitlines()]
    if tokenizer(questions)["input_ids"] != tokenizer_again(questions)["input_ids"]:
        raise RuntimeError(f"{folder}: the tokenizer read again gives other token ids than the one trained with")
    before = evaluate.accuracy_of(model, tokenizer, benchmark)
    after = evaluate.accuracy_of(model_again, tokenizer_again, benchmark)
    if before != after:
        raise RuntimeError(f"{folder}: held-out accuracy is {after} when read again, and was {before}")
