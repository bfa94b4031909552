"""Whether what a model is asked goes through its chat template and fits its context."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from jinja2 import TemplateError

from bohdi.doctor.asked import Asked
from bohdi.doctor.finding import Finding, Level
from bohdi.doctor.folders import Looked
from bohdi_common.models.port import Message

Count = tuple[int, int]  # tokens of a prompt: with short names in it, with long ones
_ENDS: tuple[tuple[Level, int], ...] = (("fail", 0), ("warn", 1))  # the shortest request does not fit; the longest


def rendered(name: str, seen: Looked, asked: Sequence[Asked]) -> Iterator[Finding]:
    """Of a model in a folder: its template with each prompt, counted by its own tokenizer."""
    counts: dict[str, Count] = {}
    for request in asked:
        try:
            counts[request.kind] = (_tokens(seen, request.messages), _tokens(seen, request.longest))
        except TemplateError as error:
            told = f"refuses a {request.kind}: {error}: use other prompts, or another template"
            yield Finding("fail", f"template of {name}", told)
            return
    yield fits(name, asked, counts, seen.positions)


def _tokens(seen: Looked, messages: list[Message]) -> int:
    text = seen.tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    return len(seen.tokenizer(text, add_special_tokens=False)["input_ids"])


def fits(name: str, asked: Sequence[Asked], counts: Mapping[str, Count], context: int | None) -> Finding:
    """Whether prompts of `counts` tokens by kind, the texts that go into them, and the replies fit `context`. Other
    models' texts are counted in their tokens, so by another tokenizer they may take somewhat more or less."""
    what = f"context of {name}"
    ranges = {a.kind: (counts[a.kind][0] + a.max_tokens, counts[a.kind][1] + a.room + a.max_tokens) for a in asked}
    figures = ", ".join(f"{kind} {least} to {most}" for kind, (least, most) in ranges.items())
    if context is None:
        return Finding("ok", what, f"tokens with the reply: {figures}; no bound is told")
    for level, end in _ENDS:
        for request in asked:
            if ranges[request.kind][end] > context:
                return Finding(level, what, _beyond(request, *ranges[request.kind], context))
    return Finding("ok", what, f"tokens with the reply, of {context}: {figures}")


def _beyond(request: Asked, least: int, most: int, context: int) -> str:
    told = f"a {request.kind} wants {least} to {most} tokens with its reply, and the model takes {context}"
    return f"{told}: lower {request.lower}, or serve it with a larger context"
