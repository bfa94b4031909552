"""The forecast of a fine-tune beside what it took, for small models with random weights: docs/forecast.md.

`python -m benchmarks.forecasts`: every case in a process of its own, on one thread. Where torch finds a GPU it is the
models that such a thing is for, Llama-3.2-3B's shape before all, and another table.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.marked import table, write_between
from bohdi_common.models.adapters import prepare_torch
from bohdi_common.models.places import place

REPORT = Path("docs/forecast.md")
VOCABULARY = 32_000
LONGEST_TOKENS = 8_192
LONGEST_S = 900
_MB = 1e6


@dataclass(frozen=True)
class Case:
    """A model and how it is trained."""

    kind: str
    hidden: int
    layers: int
    inner: int
    rows: int
    tokens: int
    rank: int = 0
    passes: int = 1
    heads: int = 8
    key_heads: int = 4
    vocabulary: int = VOCABULARY

    @property
    def weights(self) -> tuple[object, ...]:
        """What makes its folder: cases that agree in it share one."""
        return self.kind, self.hidden, self.layers, self.inner, self.heads, self.key_heads, self.vocabulary


def _llama_3b(rows: int, tokens: int, rank: int = 0, passes: int = 1) -> Case:
    """Llama-3.2-3B's shape."""
    return Case("llama", 3072, 28, 8192, rows, tokens, rank, passes, heads=24, key_heads=8, vocabulary=128_256)


CASES = (
    Case("llama", 256, 8, 704, rows=8, tokens=128),
    Case("llama", 256, 8, 704, rows=8, tokens=512),
    Case("qwen2", 512, 8, 1408, rows=8, tokens=256),
    Case("llama", 512, 16, 1408, rows=4, tokens=512),
    Case("mistral", 768, 12, 2048, rows=2, tokens=128),
    Case("llama", 256, 8, 704, rows=8, tokens=128, rank=16),
    Case("llama", 512, 16, 1408, rows=2, tokens=256, rank=16),
)
# The first is the training of configs/paper-llama-3.2-3b.yaml, but for 2 passes a step in the place of 64.
GPU_CASES = (
    _llama_3b(2, 4_608, passes=2),
    _llama_3b(2, 4_608),
    _llama_3b(8, 2_048, passes=2),
    _llama_3b(8, 2_048),
    _llama_3b(8, 2_048, rank=16),
    Case("llama", 2048, 16, 8192, 8, 2_048, heads=32, key_heads=8, vocabulary=128_256),
    Case("qwen2", 3584, 28, 18944, 8, 2_048, rank=16, heads=28, key_heads=4, vocabulary=152_064),
)


def save(case: Case, folder: Path) -> None:
    """A model of the case with random weights, and the micro-world's tokenizer. On a GPU in bfloat16, as such models
    are published."""
    import torch
    import transformers

    on_gpu = torch.cuda.is_available()
    config = transformers.AutoConfig.for_model(
        case.kind,
        vocab_size=case.vocabulary,
        hidden_size=case.hidden,
        num_hidden_layers=case.layers,
        intermediate_size=case.inner,
        num_attention_heads=case.heads,
        num_key_value_heads=case.key_heads,
        max_position_embeddings=LONGEST_TOKENS,
        tie_word_embeddings=True,
    )
    with torch.device("cuda" if on_gpu else "cpu"):
        dtype = torch.bfloat16 if on_gpu else torch.float32
        transformers.AutoModelForCausalLM.from_config(config, dtype=dtype).save_pretrained(folder)
    for file in place("microworld:target").glob("*token*"):
        shutil.copy(file, folder)
    shutil.copy(place("microworld:target") / "chat_template.jinja", folder)
    if on_gpu:
        torch.cuda.empty_cache()


def measured(case: Case, folder: Path) -> dict[str, float]:
    """What `forecast_step` prints of the case."""
    command = [sys.executable, "-W", "ignore", "-m", "benchmarks.forecast_step", str(folder)]
    command += [str(number) for number in (case.rows, case.tokens, case.rank, case.passes)]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=LONGEST_S, check=True)
    found: dict[str, float] = json.loads(ran.stdout.splitlines()[-1])
    return found


def row(case: Case, folder: Path) -> list[str]:
    """A line of the table, of the model in `folder`."""
    from services.training.forecast import Plan, memory, operations_per_token
    from services.training.shapes import shape_of

    shape = shape_of(folder)
    found: Any = measured(case, folder)
    plan = Plan(case.rows, case.tokens, case.rank, on_gpu="on" in found, passes=case.passes)
    forecast = memory(shape, plan)
    share = operations_per_token(shape, plan) * found["tokens_s"] / found["operations_s"]
    return [
        case.kind,
        f"{shape.parameters / 1e6:.0f}M",
        f"{case.rows} x {case.tokens}" + (f", {case.passes} passes" if case.passes > 1 else ""),
        f"LoRA {case.rank}" if case.rank else "full",
        f"{(forecast.weights + forecast.gradients + forecast.optimizer) / _MB:.0f}",
        f"{(forecast.activations + forecast.head) / _MB:.0f}",
        f"{forecast.total / _MB:.0f}",
        f"{found['bytes'] / _MB:.0f}",
        *([f"{found['reserved'] / _MB:.0f}"] if "reserved" in found else []),
        f"{forecast.total / found['bytes']:.2f}",
        f"{found['tokens_s']:.0f}",
        f"{share:.2f}",
    ]


def main() -> None:
    prepare_torch()
    import torch

    on_gpu = torch.cuda.is_available()
    head = ["model", "parameters", "rows x tokens", "training", "weights, gradients, optimizer, MB", "the rest, MB"]
    head += ["forecast, MB", "measured, MB", *(["held by the allocator, MB"] if on_gpu else [])]
    head += ["forecast / measured", "tokens/s", "share of the matrix product"]
    rows = []
    with tempfile.TemporaryDirectory() as where:
        for case in GPU_CASES if on_gpu else CASES:
            folder = Path(where) / "-".join(map(str, case.weights))
            if not folder.exists():
                save(case, folder)
            rows.append(row(case, folder))
            print(*rows[-1], sep="  ", flush=True)
    write_between(REPORT, {"measured on a GPU" if on_gpu else "measured": table(head, rows)})


if __name__ == "__main__":
    main()
