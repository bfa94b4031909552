"""In which language a text is, so far as that can be told from it."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Sequence
from typing import Any

_LOOKED_AT_CHARS = 4000
_SURE = 0.5  # formulas, code and names give the identifier less, and what it is not sure of passes
_NO_LANGUAGE = "zxx"  # by ISO 639-3: no linguistic content


async def ready() -> None:
    """Loads the identifier, which takes seconds, beside the event loop."""
    await asyncio.to_thread(_identifier)


def other_language(text: str, allowed: Sequence[str]) -> str:
    """The language that a text is plainly in when it is none of those allowed (ISO 639-1 codes); empty otherwise, also
    where none can be told."""
    language, confidence = _identifier().classify(text[:_LOOKED_AT_CHARS])
    return "" if language in (*allowed, _NO_LANGUAGE) or confidence < _SURE else str(language)


@functools.cache
def _identifier() -> Any:
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
