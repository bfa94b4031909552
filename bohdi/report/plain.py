"""Texts of models made safe to look at: what steers the direction or hides itself is shown by its number."""

from __future__ import annotations

import unicodedata

from bohdi.visible import is_shown

_LAYOUT = "\n\t"
_MARKS_MAX = 8  # combining marks on one letter; more are there to be seen on other lines


def plain(text: str, chars_max: int) -> str:
    """The first `chars_max` characters of `text`, and how many more there are. Controls, bidirectional marks, other
    invisible characters, lone surrogates and private ones stand as `<U+202E>`; line ends are `\\n`. Markup is left as
    it is: whoever makes a page of it escapes it."""
    cut = text[:chars_max].replace("\r\n", "\n").replace("\r", "\n")
    left_out = len(text) - chars_max
    return "".join(_seen(cut)) + (f" … ({left_out} characters more)" if left_out > 0 else "")


def _seen(text: str) -> list[str]:
    seen, marks = [], 0
    for char in text:
        marks = marks + 1 if unicodedata.category(char) in ("Mn", "Me") else 0
        if not is_shown(char) and char not in _LAYOUT:
            seen.append(f"<U+{ord(char):04X}>")
        elif marks <= _MARKS_MAX:
            seen.append(char)
    return seen
