"""Model folders in the Hugging Face format. The one place that loads them, so that it can keep the libraries quiet."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import torch
import transformers
from huggingface_hub import constants

# A folder on this machine is all that is ever loaded, and nobody is told of it: TRL would report every trainer made.
constants.HF_HUB_OFFLINE = True
constants.HF_HUB_DISABLE_TELEMETRY = True
transformers.logging.set_verbosity_error()
transformers.logging.disable_progress_bar()

# from_pretrained swaps parts of torch while it builds a model: two at once left one of them without its weights, or
# with a head that was no longer tied to its embedding.
_LOADING = threading.Lock()


def load_tokenizer(folder: Path) -> Any:
    """The tokenizer of `folder`, padding on the left, with a pad token. Raises ValueError without a chat template."""
    _check(folder)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder, padding_side="left")
    if tokenizer.chat_template is None:
        raise ValueError(f"{folder}: the tokenizer has no chat template; save one with it")
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def load_model(folder: Path, dtype: torch.dtype) -> Any:
    """The causal language model of `folder`, on the CPU. Raises OSError or ValueError when there is none."""
    _check(folder)
    with _LOADING:
        return transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=dtype)


def saved_dtype(folder: Path) -> torch.dtype:
    """The type in which the weights of `folder` are saved; float32 when its configuration does not say."""
    return transformers.AutoConfig.from_pretrained(folder).dtype or torch.float32


def positions_of(model: Any) -> int | None:
    """The longest sequence in tokens that `model` was made for; None when its configuration names no bound."""
    return getattr(model.config.get_text_config(), "max_position_embeddings", None)


def _check(folder: Path) -> None:
    """transformers would take a folder that is not there for a name on the hub and say so at length."""
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder}: no such folder")
