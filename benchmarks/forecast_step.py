"""One fine-tune in a fresh process: `python -m benchmarks.forecast_step FOLDER ROWS TOKENS RANK` prints, as JSON, by
how many bytes its peak was above what the program itself takes, and tokens a second of its last step.

The folder's model is trained by the product's own `fine_tune` on rows that are all of TOKENS tokens.
"""

from __future__ import annotations

import json
import resource
import sys
import tempfile
import time
from pathlib import Path

from bohdi_common.models.adapters import prepare_torch
from bohdi_common.models.places import place

STEPS = 3
_KIB = 1024


def main() -> None:
    prepare_torch()
    from services.training import finetune, speed
    from services.training.job import Example, FineTuned, FineTuning

    folder, rows, tokens, rank = Path(sys.argv[1]), *map(int, sys.argv[2:5])
    operations_s = speed.operations_per_second()
    text = " ".join(str(number) for number in range(tokens))  # a token or more for each word: cut at TOKENS
    ends: list[float] = []

    def train(model: Path, of_rows: int, of_tokens: int) -> FineTuned:
        with tempfile.TemporaryDirectory() as out:
            return finetune.fine_tune(
                FineTuning(
                    base=model,
                    root=model,
                    out=Path(out),
                    examples=[Example([{"role": "user", "content": "?"}], text)],
                    order=[0] * (of_rows * STEPS),
                    batch=of_rows,
                    learning_rate=1e-4,
                    max_tokens=of_tokens,
                    lora_rank=rank,
                    lora_alpha=2 * rank,
                    on_step=lambda step, loss: ends.append(time.monotonic()),
                )
            )

    train(place("microworld:target"), 1, 16)  # what is imported and made once is no part of the measure
    before = _peak_bytes()
    done = train(folder, rows, tokens)
    assert done.tokens == rows * STEPS * tokens, done
    step_s = ends[-1] - ends[-2]
    figures = {"bytes": _peak_bytes() - before, "tokens_s": rows * tokens / step_s, "operations_s": operations_s}
    print(json.dumps(figures))


def _peak_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * _KIB


if __name__ == "__main__":
    main()
