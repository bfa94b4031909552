"""One fine-tune in a fresh process: `python -m benchmarks.forecast_step FOLDER ROWS TOKENS RANK PASSES` prints, as
JSON, by how many bytes its peak was above what the program itself takes, and tokens a second of its last step.

The folder's model is trained by the product's own `fine_tune` on rows that are all of TOKENS tokens. On a GPU the peak
is that of the allocator; `reserved` is what it held of the card at most, and `on` the card's name.
"""

from __future__ import annotations

import gc
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
    import torch

    from services.training import finetune, speed
    from services.training.job import Example, FineTuned, FineTuning

    folder, (rows, tokens, rank, passes) = Path(sys.argv[1]), map(int, sys.argv[2:6])
    batch = rows * passes
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
    before = _settled_bytes()
    done = train(folder, batch, tokens)
    assert done.tokens == batch * STEPS * tokens, done
    step_s = ends[-1] - ends[-2]
    figures: dict[str, float | str] = {
        "bytes": _peak_bytes() - before,
        "tokens_s": batch * tokens / step_s,
        "operations_s": operations_s,
    }
    if torch.cuda.is_available():
        figures |= {"reserved": torch.cuda.max_memory_reserved(), "on": torch.cuda.get_device_name()}
    print(json.dumps(figures))


def _peak_bytes() -> int:
    import torch

    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * _KIB


def _settled_bytes() -> int:
    """What is there before; on a GPU the peak counts from here on, on a CPU it cannot be set back."""
    import torch

    if torch.cuda.is_available():
        gc.collect()
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    return _peak_bytes()


if __name__ == "__main__":
    main()
