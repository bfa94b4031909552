"""Ids that follow from what they name, so that work done twice gives the same id."""

from __future__ import annotations

import hashlib

_HEX_DIGITS = 32  # 128 bits: no collision to be expected in 2^60 events


def derived_id(*parts: str | int) -> str:
    """32 hexadecimal digits that follow from `parts` in their order. Parts may hold any text: each is length-prefixed,
    so that ("ab", "c") and ("a", "bc") differ."""
    text = "".join(f"{len(part)}:{part}" for part in map(str, parts))
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:_HEX_DIGITS]
