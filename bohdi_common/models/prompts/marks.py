"""Marks around what models wrote: letters that stand in none of it, so that no text can end where it does not end, nor
begin another. Pure."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence

from bohdi_common.core.ids import derived_id

_LETTERS = "bcdfghjkmnpqrtvwxz"  # no vowel: no word
_SHORTEST = 4
_GLUED = re.compile(rf"(?<=\d)(?=[{_LETTERS}]{{{_SHORTEST},}}(?!\w))")
_TRIES = 64


def mark(texts: Sequence[str]) -> str:
    """Four letters, or some more, that are in none of `texts`, not even with other characters between them, in capitals
    or as their wide forms. They follow from the texts alone: asked again, a request is the same bytes, and who writes
    one of several texts without knowing the others cannot tell them beforehand."""
    written = [_letters(text) for text in texts]
    for attempt in range(_TRIES):
        drawn = _drawn(derived_id("mark", attempt, *texts), _SHORTEST + attempt // 4)
        if not any(drawn in letters for letters in written):
            return drawn
    # A text of N letters holds at most N of the 18^19 marks of the longest kind, and a megabyte would have to hit it.
    raise AssertionError(f"every one of {_TRIES} marks stands in a text")


def unglued(reply: str) -> str:
    """A judge's reply with a number apart from a mark that it wrote against it: `4 fktj` for `4fktj`."""
    return _GLUED.sub(" ", reply)


def _drawn(digits: str, length: int) -> str:
    number, letters = int(digits, 16), []
    for _ in range(length):
        number, at = divmod(number, len(_LETTERS))
        letters.append(_LETTERS[at])
    return "".join(letters)


def _letters(text: str) -> str:
    folded = unicodedata.normalize("NFKC", text).casefold()
    return "".join(ch for ch in folded if ch in _LETTERS)
