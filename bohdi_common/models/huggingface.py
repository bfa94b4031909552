"""Model folders in the Hugging Face format. The one place that loads them, so that it can keep the libraries quiet."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import transformers
from huggingface_hub import constants
from jinja2 import TemplateError

from bohdi_common.models.port import Message
from bohdi_common.models.versions import is_adapter

# A folder on this machine is all that is ever loaded, and nobody is told of it: TRL would report every trainer made.
constants.HF_HUB_OFFLINE = True
constants.HF_HUB_DISABLE_TELEMETRY = True
transformers.logging.set_verbosity_error()
transformers.logging.disable_progress_bar()

# Before a chat template that refuses a system message: it becomes the beginning of the message after it.
_SYSTEM_IN_FIRST = (
    "{%- if messages | length > 1 and messages[0]['role'] == 'system' -%}"
    "{%- set messages = [{'role': messages[1]['role'], 'content': messages[0]['content'] + '\\n\\n' "
    "+ messages[1]['content']}] + messages[2:] -%}"
    "{%- endif -%}"
)

# from_pretrained swaps parts of torch while it builds a model: two at once left one of them without its weights, or
# with a head that was no longer tied to its embedding.
_LOADING = threading.Lock()


def check(folder: Path, asked: Iterable[list[Message]] = ()) -> None:
    """Loads what of a model is small, its configuration and tokenizer. Raises ValueError when they do not load, or when
    what the model is `asked` leaves no room for an answer."""
    with _named(folder):
        config = transformers.AutoConfig.from_pretrained(folder)
    tokenizer = load_tokenizer(folder)
    positions = getattr(config.get_text_config(), "max_position_embeddings", None)
    for messages in asked:
        try:
            tokens = len(tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=False))
        except TemplateError as error:
            raise ValueError(f"{folder}: its chat template refuses the prompts: {error}") from None
        if positions is not None and tokens >= positions:
            raise ValueError(f"{folder}: its context is too small: {positions} tokens, and a short prompt has {tokens}")


def load_tokenizer(folder: Path) -> Any:
    """The tokenizer of `folder`, padding on the left, with a pad token and a chat template that takes a system message.
    Raises ValueError when there is none, or one without a chat template."""
    with _named(folder):
        tokenizer = transformers.AutoTokenizer.from_pretrained(folder, padding_side="left")
    if tokenizer.chat_template is None:
        raise ValueError(f"{folder}: the tokenizer has no chat template; save one with it")
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    if not _takes_system(tokenizer):
        tokenizer.chat_template = _SYSTEM_IN_FIRST + tokenizer.chat_template
    return tokenizer


def _takes_system(tokenizer: Any) -> bool:
    """Whether the chat template has a place for a system message. Gemma 2's has none and refuses it."""
    messages = [{"role": "system", "content": "a"}, {"role": "user", "content": "b"}]
    try:
        tokenizer.apply_chat_template(messages, tokenize=False)
    except TemplateError:
        return False
    return True


def load_model(folder: Path, dtype: torch.dtype, base: Path | None = None) -> Any:
    """The causal language model of `folder`, on the CPU; an adapter there is merged into the model of `base`, for
    which it was made. Raises ValueError when there is none."""
    if is_adapter(folder):
        return load_adapted(folder, dtype, base, trainable=False).merge_and_unload()
    with _LOADING, _named(folder):
        return transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=dtype)


def skeleton(folder: Path) -> Any:
    """The model that `folder` configures, without weights: every parameter is on torch's meta device. Raises ValueError
    when transformers knows no causal language model of that kind."""
    with _LOADING, _named(folder), torch.device("meta"):
        return transformers.AutoModelForCausalLM.from_config(transformers.AutoConfig.from_pretrained(folder))


def load_adapted(folder: Path, dtype: torch.dtype, base: Path | None, *, trainable: bool) -> Any:
    """The model of `base` with the adapter of `folder` on it, apart. Raises ValueError for what does not load."""
    if base is None or is_adapter(base):
        raise ValueError(f"{folder}: an adapter, which needs the model that it was made for")
    from peft import PeftModel

    model = load_model(base, dtype)
    with _LOADING, _named(folder):
        return PeftModel.from_pretrained(model, folder, is_trainable=trainable)


def merge(adapter: Path, base: Path, out: Path) -> None:
    """Writes a whole model into `out`: the adapter in the weights of its base. Raises ValueError for what does not
    load."""
    model, tokenizer = load_model(adapter, saved_dtype(base), base), load_tokenizer(adapter)
    model.save_pretrained(out)
    tokenizer.save_pretrained(out)


def saved_dtype(folder: Path) -> torch.dtype:
    """The type in which the weights of `folder` are saved; float32 when its configuration does not say."""
    return transformers.AutoConfig.from_pretrained(folder).dtype or torch.float32


def positions_of(model: Any) -> int | None:
    """The longest sequence in tokens that `model` was made for; None when its configuration names no bound."""
    return getattr(model.config.get_text_config(), "max_position_embeddings", None)


@contextmanager
def _named(folder: Path) -> Iterator[None]:
    """Whatever the libraries raise over a folder that they cannot load becomes a ValueError of one line that names it.
    Each has errors of its own, some of many lines, and takes a folder that is not there for a name on the hub."""
    if not folder.is_dir():
        raise ValueError(f"{folder}: no such folder")
    try:
        yield
    except Exception as error:
        said = next(iter(str(error).splitlines()), "") or type(error).__name__
        raise ValueError(f"{folder}: not a model folder that transformers loads: {said}") from error
