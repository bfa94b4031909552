"""The forecast of a fine-tune beside what it took, for small models with random weights: docs/forecast.md.

`python -m benchmarks.forecasts`: every case in a process of its own, on one thread.
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


CASES = (
    Case("llama", 256, 8, 704, rows=8, tokens=128),
    Case("llama", 256, 8, 704, rows=8, tokens=512),
    Case("qwen2", 512, 8, 1408, rows=8, tokens=256),
    Case("llama", 512, 16, 1408, rows=4, tokens=512),
    Case("mistral", 768, 12, 2048, rows=2, tokens=128),
    Case("llama", 256, 8, 704, rows=8, tokens=128, rank=16),
    Case("llama", 512, 16, 1408, rows=2, tokens=256, rank=16),
)


def save(case: Case, folder: Path) -> None:
    """A model of the case with random weights, and the micro-world's tokenizer."""
    import transformers

    config = transformers.AutoConfig.for_model(
        case.kind,
        vocab_size=VOCABULARY,
        hidden_size=case.hidden,
        num_hidden_layers=case.layers,
        intermediate_size=case.inner,
        num_attention_heads=8,
        num_key_value_heads=4,
        max_position_embeddings=2048,
        tie_word_embeddings=True,
    )
    transformers.AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    for file in place("microworld:target").glob("*token*"):
        shutil.copy(file, folder)
    shutil.copy(place("microworld:target") / "chat_template.jinja", folder)


def measured(case: Case, folder: Path) -> dict[str, float]:
    """What `forecast_step` prints of the case."""
    command = [sys.executable, "-W", "ignore", "-m", "benchmarks.forecast_step", str(folder)]
    command += [str(number) for number in (case.rows, case.tokens, case.rank)]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=LONGEST_S, check=True)
    found: dict[str, float] = json.loads(ran.stdout.splitlines()[-1])
    return found


def row(case: Case) -> list[str]:
    """A line of the table."""
    from services.training.forecast import Plan, memory, operations_per_token
    from services.training.shapes import shape_of

    with tempfile.TemporaryDirectory() as where:
        folder = Path(where)
        save(case, folder)
        shape = shape_of(folder)
        found: Any = measured(case, folder)
    plan = Plan(case.rows, case.tokens, lora_rank=case.rank)
    forecast = memory(shape, plan)
    share = operations_per_token(shape, plan) * found["tokens_s"] / found["operations_s"]
    return [
        case.kind,
        f"{shape.parameters / 1e6:.0f}M",
        f"{case.rows} x {case.tokens}",
        f"LoRA {case.rank}" if case.rank else "full",
        f"{(forecast.weights + forecast.gradients + forecast.optimizer) / _MB:.0f}",
        f"{(forecast.activations + forecast.head) / _MB:.0f}",
        f"{forecast.total / _MB:.0f}",
        f"{found['bytes'] / _MB:.0f}",
        f"{forecast.total / found['bytes']:.2f}",
        f"{found['tokens_s']:.0f}",
        f"{share:.2f}",
    ]


def main() -> None:
    prepare_torch()
    head = ["model", "parameters", "rows x tokens", "training", "weights, gradients, optimizer, MB", "the rest, MB"]
    head += ["forecast, MB", "measured, MB", "forecast / measured", "tokens/s", "share of the matrix product"]
    rows = []
    for case in CASES:
        rows.append(row(case))
        print(*rows[-1], sep="  ", flush=True)
    write_between(REPORT, {"measured": table(head, rows)})


if __name__ == "__main__":
    main()
