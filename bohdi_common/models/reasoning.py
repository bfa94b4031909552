"""What a model thought aloud, apart from what it said."""

from __future__ import annotations

_OPEN, _CLOSE = "<think>", "</think>"


def split(text: str) -> tuple[str, str]:
    """What stands in the `<think>` tags, and the rest: the answer. Some templates open the tag in the prompt, so that
    only its end is in the text; a thought that the token limit cut has no end, and then there is no answer."""
    thoughts: list[str] = []
    before, found, after = text.partition(_CLOSE)
    if found and _OPEN not in before:
        thoughts, text = [before], after
    said: list[str] = []
    while True:
        before, found, rest = text.partition(_OPEN)
        said.append(before)
        if not found:
            break
        thought, _, text = rest.partition(_CLOSE)
        thoughts.append(thought)
    return "\n".join(thoughts).strip(), "".join(said).strip() if thoughts else text
