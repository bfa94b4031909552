"""A tokenizer of its own kind for each model: byte-level BPE, Metaspace BPE, WordPiece, each with its chat template.

AutoTokenizer makes a Qwen2Tokenizer of every folder whose model is a Qwen2, whatever tokenizer.json says, so that one
is trained as such; the others are kept as they are saved. `build` checks each folder by reading it again.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast, Qwen2Tokenizer

PAD = "<pad>"
_UNKNOWN = "<unk>"
_ASCII = [chr(code) for code in range(33, 127)]
_MARKERS = {  # what opens a user's turn, opens the assistant's, and ends it
    "qwen2": ("<|im_start|>", "<|im_sep|>", "<|im_end|>"),
    "mistral": ("[INST]", "[/INST]", "</s>"),
    "phi3": ("<|user|>", "<|assistant|>", "<|end|>"),
    "llama": ("<|user_id|>", "<|assistant_id|>", "<|eot_id|>"),
}


def train_tokenizer(architecture: str, vocabulary: int, texts: Iterable[str]) -> Any:
    """A tokenizer of at most `vocabulary` tokens, trained on `texts`, that pads on the left and has a chat template."""
    user, assistant, end = _MARKERS[architecture]
    if architecture == "qwen2":
        tokenizer = _byte_level(vocabulary, [user, assistant, end], texts)
    else:
        special = [PAD, user, assistant, end, _UNKNOWN]
        make = _word_piece if architecture == "phi3" else _metaspace
        trained = make(vocabulary, special, texts)
        tokenizer = PreTrainedTokenizerFast(
            tokenizer_object=trained, unk_token=_UNKNOWN, pad_token=PAD, padding_side="left"
        )
    tokenizer.eos_token = end
    tokenizer.chat_template = _chat_template(user, assistant, end)
    return tokenizer


def _byte_level(vocabulary: int, special: list[str], texts: Iterable[str]) -> Any:
    return Qwen2Tokenizer(padding_side="left").train_new_from_iterator(
        texts, vocab_size=vocabulary, new_special_tokens=special, show_progress=False
    )


def _metaspace(vocabulary: int, special: list[str], texts: Iterable[str]) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE(unk_token=_UNKNOWN))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always", split=True)
    tokenizer.decoder = decoders.Metaspace(prepend_scheme="always")
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary, special_tokens=special, initial_alphabet=_ASCII, show_progress=False
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def _word_piece(vocabulary: int, special: list[str], texts: Iterable[str]) -> Tokenizer:
    tokenizer = Tokenizer(models.WordPiece(unk_token=_UNKNOWN, max_input_chars_per_word=40))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.decoder = decoders.WordPiece(prefix="##", cleanup=False)
    trainer = trainers.WordPieceTrainer(
        vocab_size=vocabulary, special_tokens=special, initial_alphabet=_ASCII, show_progress=False
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def _chat_template(user: str, assistant: str, end: str) -> str:
    return (
        "{% for message in messages %}"
        f"{{% if message['role'] == 'assistant' %}}{assistant}{{{{ message['content'] }}}}{end}"
        f"{{% else %}}{user}{{{{ message['content'] }}}}{{% endif %}}"
        "{% endfor %}"
        f"{{% if add_generation_prompt %}}{assistant}{{% endif %}}"
    )
