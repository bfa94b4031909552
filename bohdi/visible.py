"""Words of models on a terminal: no character in them may move the cursor, turn the writing round, or hide."""

from __future__ import annotations

import json
import unicodedata
from typing import Any

_SPELLING = frozenset("\u200c\u200d")  # zero-width (non-)joiner: Persian, Hindi and others cannot be written without


def visible(text: str) -> str:
    """The text on one line, with every control character, line end and mark of direction as an escape (`\\x1b`)."""
    if text.isprintable():
        return text
    return "".join(ch if is_shown(ch) else ch.encode("unicode_escape").decode("ascii") for ch in text)


def json_text(value: Any, indent: int | None = None) -> str:
    """The value as JSON that a terminal shows as it stands, and that reads back the same."""
    text = json.dumps(value, indent=indent, ensure_ascii=False)
    if text.isprintable():
        return text
    # Line ends are those of the indentation: json has escaped what stands in strings up to U+001F.
    return "".join(ch if ch == "\n" or is_shown(ch) else json.dumps(ch)[1:-1] for ch in text)


def is_shown(ch: str) -> bool:
    """Whether a character is seen for what it is: no control, line end or mark of direction, and not invisible."""
    return ch.isprintable() or ch in _SPELLING or unicodedata.category(ch) == "Zs"
