"""Domain names: in any script, bounded, without markup; compared case- and space-insensitively."""

from __future__ import annotations

import re
import unicodedata

MAX_NAME_CHARS = 64
_RESERVED = frozenset({"unk", "root", "none", "other", "misc", "miscellaneous", "others"})
_JOINERS = frozenset("\u200c\u200d")  # zero-width (non-)joiner: spelling in Persian, Hindi and others
_FILLERS = frozenset("\u115f\u1160\u3164\uffa0")  # letters to Unicode, nothing to the eye
_MARKUP = frozenset('<>[]{}|\\`*_~^="')
_LIST_MARK = re.compile(r"^(?:[-–—•·+]\s|#|\(?\d{1,3}[.):]\s)")


def tidy(name: str) -> str:
    """The name as it is shown: composed (NFC), outer and repeated white space taken away."""
    return " ".join(unicodedata.normalize("NFC", name).split())


def key(name: str) -> str:
    """What two names are compared by: compatibility form (NFKC), case-folded, without white space and joiners."""
    folded = unicodedata.normalize("NFKC", name).casefold()
    return "".join(ch for ch in unicodedata.normalize("NFKC", folded) if not ch.isspace() and ch not in _JOINERS)


def why_refused(name: str) -> str:
    """Why the tidied `name` cannot name a domain, in a few words; empty when it can."""
    if not name:
        return "empty"
    if len(name) > MAX_NAME_CHARS:
        return f"longer than {MAX_NAME_CHARS} characters"
    if any(unicodedata.category(ch)[0] == "C" and ch not in _JOINERS for ch in name):
        return "control character"
    if _MARKUP.intersection(name) or _LIST_MARK.match(name):
        return "markup"
    if not any(unicodedata.category(ch)[0] in "LN" and ch not in _FILLERS for ch in name):
        return "no letter or digit"
    if key(name) in _RESERVED:
        return "reserved word"
    if name[-1] in ".:;,?!":
        return "a sentence, not a name"
    return ""
