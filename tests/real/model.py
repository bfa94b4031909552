"""`python -m tests.real.model FOLDER OUT`: the GGUF file in FOLDER as a folder of safetensors, tokenizer included."""

from __future__ import annotations

import os
import sys
from pathlib import Path

END = "<|im_end|>"


def convert(folder: Path, out: Path) -> None:
    """Weights in float32. A model that was read from GGUF cannot be saved as it is: its weights go into a fresh one."""
    os.environ["HF_HUB_OFFLINE"] = "1"
    import torch
    import transformers

    transformers.logging.disable_progress_bar()
    (file,) = folder.glob("*.gguf")
    read = transformers.AutoModelForCausalLM.from_pretrained(folder, gguf_file=file.name, dtype=torch.float32)
    config = read.config
    del config.quantization_config
    config._name_or_path = ""
    model = transformers.AutoModelForCausalLM.from_config(config)
    model.load_state_dict(read.state_dict())
    model.save_pretrained(out)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder, gguf_file=file.name)
    # The file does not name them, and the reader takes the first special tokens that it sees.
    tokenizer.eos_token = tokenizer.pad_token = END
    tokenizer.save_pretrained(out)


if __name__ == "__main__":
    convert(Path(sys.argv[1]), Path(sys.argv[2]))
