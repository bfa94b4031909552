"""Every text that a model gave in a run, and how it reads: kept beside the run, for people to look at and label."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from bohdi_common.core import names
from bohdi_common.events.events_pb2 import SproutRequested
from bohdi_common.models import prompts
from bohdi_common.models.port import ChatModels, Message, ModelRef, Reply, Sampling
from services.generation.near_duplicates import Asked, Index
from services.tree_expansion.handler import names_each, why_no_proposal

NEAR = 0.8  # similarity of near duplicates, as in the preset `chat`

Kind = Literal["propose", "question", "verdict", "answer"]
_KINDS: Mapping[str, Kind] = {"names": "propose", "question": "question", "best": "verdict"}


@dataclass
class Recording:
    """The models of a run; each completion goes into `file`, a line of JSON each."""

    models: ChatModels
    file: Path

    async def complete(self, model: ModelRef, messages: list[Message], sampling: Sampling) -> Reply:
        reply = await self.models.complete(model, messages, sampling)
        with self.file.open("a", encoding="utf-8") as out:
            for completion in reply.completions:
                line = {
                    "kind": _kind(sampling), "model": model.name, "version": model.version,
                    "asked": messages[-1]["content"], "said": completion.text, "end": completion.finish_reason,
                    "most": _most(sampling),
                }  # fmt: skip
                out.write(json.dumps(line, ensure_ascii=False) + "\n")
        return reply

    async def serve(self, model: ModelRef, before: ModelRef) -> None:
        await self.models.serve(model, before)

    async def close(self) -> None:
        await self.models.close()


def _kind(sampling: Sampling) -> Kind:
    """By the form that a reply should have; an answer has none."""
    return _KINDS[json.loads(sampling.form)["required"][0]] if sampling.form else "answer"


def _most(sampling: Sampling) -> int:
    if not sampling.form:
        return 0
    (value,) = json.loads(sampling.form)["properties"].values()
    return int(value.get("maxItems", value.get("maximum", 1)))


def known_names(asked: Iterable[SproutRequested]) -> dict[str, frozenset[str]]:
    """By the text of a request for names: the keys of those that the tree has there already."""
    known: dict[str, frozenset[str]] = {}
    for request in asked:
        prompt = prompts.load(request.settings.prompts)
        text = prompt.ask_names(request.path, request.known, names_each(request))[-1]["content"]
        known[text] = frozenset(map(names.key, (*request.known, *request.path)))
    return known


def valid(output: Mapping[str, Any], prompt: prompts.PromptSet, known: Collection[str] = ()) -> list[str]:
    """What of an output passes: names, none of which is `known`, a question, or a vote: an answer's number or none."""
    said = output["said"]
    match output["kind"]:
        case "propose":
            tidied = [names.tidy(name) for name in _names(output, prompt)][: output["most"]]
            return [name for name in tidied if not why_no_proposal(name, known, prompt)]
        case "question":
            question = prompt.read_question(said) if output["end"] == "stop" else None
            return [question] if question else []
        case "verdict":
            if prompt.says_none_right(said):
                return ["none"]
            position = prompt.read_verdict(said, [""] * output["most"])
            return [] if position is None else [str(position + 1)]
    return [said] if said.strip() else []


def _names(output: Mapping[str, Any], prompt: prompts.PromptSet) -> list[str]:
    return prompt.read_names(output["said"], cut=output["end"] == "length")


def parsed(
    outputs: Iterable[Mapping[str, Any]], prompt: prompts.PromptSet, known: Mapping[str, Collection[str]] | None = None
) -> dict[str, dict[str, float]]:
    """By kind: how many outputs, which share of what they say is valid (`share`), and which share of the valid is
    distinct. `known`: by the text of a request for names, those that it was not to give.

    Of proposals the shares are of names. `distinct`: of all that was said to one request, whatever the source; it falls
    with every sample, for a name said twice is two votes. `distinct_by_source`: of what one source said to it.
    `distinct_in_reply`: within each list. Of questions: no near duplicate of an earlier one. Verdicts, as answers, may
    well be the same."""
    counts: dict[str, dict[str, float]] = {}
    kept = {kind: _Kept() for kind in ("propose", "question", "verdict", "answer")}
    for output in outputs:
        kind = output["kind"]
        count = counts.setdefault(kind, {"outputs": 0, "said": 0, "valid": 0})
        good = valid(output, prompt, (known or {}).get(output["asked"], ()))
        said = min(len(_names(output, prompt)), output["most"]) if kind == "propose" else 1
        count["outputs"] += 1
        count["said"] += max(said, 1)
        count["valid"] += len(good)
        kept[kind].add(output, good)
    for kind, count in counts.items():
        count["share"] = count["valid"] / count["said"]
        count |= {name: number / max(1, count["valid"]) for name, number in kept[kind].distinct(kind).items()}
    return counts


@dataclass
class _Kept:
    """What was valid of one kind, to tell what of it is distinct."""

    by_request: set[tuple[str, str]] = field(default_factory=set)
    by_source: set[tuple[str, str, str]] = field(default_factory=set)
    in_reply: int = 0
    questions: list[str] = field(default_factory=list)

    def add(self, output: Mapping[str, Any], good: list[str]) -> None:
        keys = {names.key(text) for text in good}
        self.by_request |= {(output["asked"], key) for key in keys}
        self.by_source |= {(output["asked"], output["model"], key) for key in keys}
        self.in_reply += len(keys)
        self.questions += good

    def distinct(self, kind: str) -> dict[str, int]:
        if kind == "propose":
            by = {"distinct_by_source": len(self.by_source), "distinct_in_reply": self.in_reply}
            return {"distinct": len(self.by_request)} | by
        return {"distinct": _unlike(self.questions)} if kind == "question" else {}


def _unlike(questions: Iterable[str]) -> int:
    """How many are no near duplicates of those before them."""
    index, unlike = Index(NEAR), 0
    for number, question in enumerate(questions):
        if not index.like(question, ""):
            index.add(Asked(str(number), question, (0, 0)))
            unlike += 1
    return unlike
