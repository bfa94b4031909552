"""Exact accuracy of a model folder on held-out questions of the micro-world, and how well it plays its other parts."""

from __future__ import annotations

import json
import random
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

import torch

from bohdi.microworld import BENCHMARK, corpus, world
from bohdi.microworld.corpus import NONE, PROMPTS, Example
from bohdi.microworld.world import Domain
from bohdi_common.models.huggingface import load_model, load_tokenizer
from bohdi_common.models.port import Message

_BATCH = 256
_ANSWER_TOKENS = 24
_QUESTION_TOKENS = 32


def accuracy(folder: Path, benchmark: Path = BENCHMARK, base: Path | None = None) -> dict[str, float]:
    """Share of exactly right greedy answers by domain (`Main > Secondary > Leaf`) of the model in `folder`, which may
    hold an adapter of the model in `base`.

    Raises ValueError when `folder` holds no model.
    """
    with one_thread():
        return accuracy_of(*load(folder, base), benchmark)


def accuracy_of(model: Any, tokenizer: Any, benchmark: Path = BENCHMARK) -> dict[str, float]:
    """As `accuracy`, of a model in memory."""
    items = [json.loads(line) for line in benchmark.read_text(encoding="utf-8").splitlines()]
    prompts = [PROMPTS.ask_answer(item["question"]) for item in items]
    right = defaultdict(list)
    for item, answer in zip(items, complete(model, tokenizer, prompts, _ANSWER_TOKENS), strict=True):
        right[" > ".join(item["path"])].append(answer == item["answer"])
    return {domain: fmean(hits) for domain, hits in right.items()}


@dataclass(frozen=True)
class Summary:
    """Mean accuracy over leaves: all, those that the target did not know at the start, those that it did."""

    overall: float
    new: float
    old: float


def summary(by_domain: Mapping[str, float]) -> Summary:
    """Sums up what `accuracy` gave."""
    old = [value for domain, value in by_domain.items() if domain.split(" > ")[0] in world.TARGET_KNOWS]
    new = [value for domain, value in by_domain.items() if domain.split(" > ")[0] not in world.TARGET_KNOWS]
    return Summary(overall=fmean([*old, *new]), new=fmean(new), old=fmean(old))


@dataclass(frozen=True)
class Parts:
    """How well a source plays its parts in the loop, each a share of what was asked."""

    questions_well_formed: float  # sampled at temperature 1: a question of the leaf that it was asked for
    questions_different: float
    proposals_valid: float  # sampled at temperature 1: a missing child, or `none` where none is missing
    verdicts_right: float  # own domains, the right answer among the candidates: quoted
    verdicts_none_right: float  # own domains, only wrong candidates: `none`
    verdicts_abstained: float  # foreign domains: `none`


def parts(folder: Path, experts: Sequence[str], *, per_leaf: int = 20, seed: int = 0) -> Parts:
    """The parts of the source in `folder`, which knows the main domains `experts`; verdicts on held-out questions.

    Raises ValueError when `folder` holds no model.
    """
    rng = random.Random(f"parts {seed}")
    torch.manual_seed(seed)
    with one_thread():
        model, tokenizer = load(folder)
        asked = [path for path in world.LEAVES for _ in range(per_leaf)]
        prompts = [PROMPTS.ask_question(path) for path in asked]
        questions = complete(model, tokenizer, prompts, _QUESTION_TOKENS, temperature=1.0)
        own = corpus.leaves_of(experts) * per_leaf
        foreign = [path for path in world.LEAVES if path[0] not in experts] * per_leaf

        def verdicts(paths: Sequence[Domain], right: bool, abstain: bool) -> float:
            examples = [corpus.verdict(path, rng, right=right, abstain=abstain, held_out=True) for path in paths]
            return _share_exact(model, tokenizer, examples)

        return Parts(
            questions_well_formed=fmean(map(_is_question_of, questions, asked)),
            questions_different=len(set(questions)) / len(questions),
            proposals_valid=_proposals_valid(model, tokenizer, rng),
            verdicts_right=verdicts(own, True, False),
            verdicts_none_right=verdicts(own, False, False),
            verdicts_abstained=verdicts(foreign, True, True),
        )


def _is_question_of(question: str, path: Domain) -> bool:
    solved = world.solve(question)
    return solved is not None and solved[0] == path


def _share_exact(model: Any, tokenizer: Any, examples: Sequence[Example]) -> float:
    replies = complete(model, tokenizer, [example.messages for example in examples], _ANSWER_TOKENS)
    return fmean(reply == example.completion for reply, example in zip(replies, examples, strict=True))


def _proposals_valid(model: Any, tokenizer: Any, rng: random.Random) -> float:
    """Over every inner node, with every number of known children."""
    asked = [
        (path, rng.sample(names, known))
        for path in world.inner_nodes() * 10
        for names in [world.children(path)]
        for known in range(len(names) + 1)
    ]
    prompts = [PROMPTS.ask_names(path, known, want=1) for path, known in asked]
    replies = complete(model, tokenizer, prompts, _ANSWER_TOKENS, temperature=1.0)
    valid = []
    for (path, known), reply in zip(asked, replies, strict=True):
        missing = set(world.children(path)) - set(known)
        valid.append(reply in missing if missing else reply == NONE)
    return fmean(valid)


def load(folder: Path, base: Path | None = None) -> tuple[Any, Any]:
    """Model (fp32) and tokenizer in `folder`, as any user of the folder gets them. Raises ValueError for no model."""
    return load_model(folder, torch.float32, base).eval(), load_tokenizer(folder)


@torch.inference_mode()
def complete(
    model: Any, tokenizer: Any, prompts: Sequence[list[Message]], max_tokens: int, *, temperature: float = 0.0
) -> list[str]:
    """One completion for each prompt, in the order given; greedy at temperature 0."""
    texts = tokenizer.apply_chat_template(list(prompts), tokenize=False, add_generation_prompt=True)
    encoded = tokenizer(texts, add_special_tokens=False)["input_ids"]
    by_length = sorted(range(len(texts)), key=lambda i: len(encoded[i]))
    sampling = {"do_sample": True, "temperature": temperature, "top_k": 0} if temperature else {"do_sample": False}
    completions = [""] * len(texts)
    for start in range(0, len(texts), _BATCH):
        batch = by_length[start : start + _BATCH]
        padded = tokenizer.pad({"input_ids": [encoded[i] for i in batch]}, return_tensors="pt")
        output = model.generate(**padded, max_new_tokens=max_tokens, **sampling)
        new = tokenizer.batch_decode(output[:, padded["input_ids"].shape[1] :], skip_special_tokens=True)
        for i, text in zip(batch, new, strict=True):
            completions[i] = text.strip()
    return completions


@contextmanager
def one_thread() -> Iterator[None]:
    """torch on one thread: models this small lose by more, up to fifteenfold where cores are shared."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
