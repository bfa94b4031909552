"""Every text that a model gave in a run, and how it reads: kept beside the run, for people to look at and label."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from bohdi_common.core import names
from bohdi_common.models.port import ChatModels, Message, ModelRef, Reply, Sampling
from bohdi_common.models.prompts import PromptSet

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


def valid(output: Mapping[str, Any], prompt: PromptSet) -> list[str]:
    """What of an output passes: names, a question, or the number of the answer that was voted for."""
    said = output["said"]
    match output["kind"]:
        case "propose":
            tidied = [names.tidy(name) for name in prompt.read_names(said)][: output["most"]]
            return [name for name in tidied if not (names.why_refused(name) or prompt.why_no_name(name))]
        case "question":
            question = prompt.read_question(said) if output["end"] == "stop" else None
            return [question] if question else []
        case "verdict":
            position = prompt.read_verdict(said, [""] * output["most"])
            return [] if position is None else [str(position + 1)]
    return [said] if said.strip() else []


def parsed(outputs: Iterable[Mapping[str, Any]], prompt: PromptSet) -> dict[str, dict[str, float]]:
    """By kind: how many outputs, which share of what they say is valid, and which share of the valid is distinct.

    Of proposals the shares are of names, each reply's once at most, distinct where they were asked for in one place; of
    the others, of outputs."""
    counts: dict[str, dict[str, float]] = {}
    seen: dict[str, set[tuple[str, str]]] = {}
    for output in outputs:
        kind = output["kind"]
        count = counts.setdefault(kind, {"outputs": 0, "said": 0, "valid": 0})
        good = valid(output, prompt)
        said = min(len(prompt.read_names(output["said"])), output["most"]) if kind == "propose" else 1
        count["outputs"] += 1
        count["said"] += max(said, 1)
        count["valid"] += len(good)
        place = output["asked"] if kind == "propose" else ""
        seen.setdefault(kind, set()).update((place, names.key(text)) for text in good)
    for kind, count in counts.items():
        count["distinct"] = len(seen[kind]) / count["valid"] if count["valid"] else 0.0
        count["share"] = count["valid"] / count["said"]
    return counts
