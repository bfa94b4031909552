"""What each model of a run will be asked, at its longest: the project's own prompts with long names in them. Pure."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from bohdi_common.core.names import MAX_NAME_CHARS
from bohdi_common.core.tree import LEAF_LEVEL
from bohdi_common.models import prompts
from bohdi_common.models.port import Message, ModelRef
from bohdi_common.runtime.config import Config, Model

Kind = Literal["proposal", "question", "answer", "verdict"]

_KNOWN = 20  # siblings that a proposal names; a wide node has more
_SHORT = "Music"
_LONG = "Applied theory of rather specific things and their relations to"[:MAX_NAME_CHARS]


@dataclass(frozen=True)
class Asked:
    """A request of one kind: `messages` with short names in it, `longest` with long ones. `room`: tokens that texts of
    other models add to the prompt at most, by the settings; `max_tokens`: of the reply; `lower`: the setting that makes
    either smaller."""

    kind: Kind
    messages: list[Message]
    longest: list[Message]
    room: int
    max_tokens: int
    lower: str


def asked_of(config: Config, model: Model) -> list[Asked]:
    """Every kind of request that `model` gets in a run."""
    prompt, harvest, want = prompts.load(config.prompts), config.harvest, config.bandit.sprout_names
    known = [f"{_LONG[:-3]} {number}" for number in range(_KNOWN)]
    answer = prompt.ask_answer("?")
    candidates = len(config.sources) + 1
    verdict = prompt.ask_verdict("?", ["?"] * candidates)
    texts = harvest.question_max_tokens + candidates * harvest.answer_max_tokens
    every = [
        Asked("proposal", prompt.ask_names([_SHORT], [], want), prompt.ask_names([_LONG] * 2, known, want), 0,
              config.sprout.max_tokens, "sprout.max_tokens"),
        Asked("question", prompt.ask_question([_SHORT] * LEAF_LEVEL), prompt.ask_question([_LONG] * LEAF_LEVEL), 0,
              harvest.question_max_tokens, "harvest.question_max_tokens"),
        Asked("answer", answer, answer, harvest.question_max_tokens, harvest.answer_max_tokens,
              "harvest.answer_max_tokens"),
        Asked("verdict", verdict, verdict, texts, config.judging.max_tokens, "harvest.answer_max_tokens"),
    ]  # fmt: skip
    told = ModelRef(model.name, system=model.system).told
    return [
        replace(asked, messages=told(asked.messages), longest=told(asked.longest))
        for asked in every
        if asked.kind in _kinds(config, model)
    ]


def _kinds(config: Config, model: Model) -> set[Kind]:
    kinds: set[Kind] = {"answer"} if model in (*config.sources, config.target) else set()
    if model in config.sources:
        kinds |= {"question", "proposal"} if config.bandit.grow else {"question"}
    return kinds | {"verdict"} if model.name in judges_of(config) else kinds


def judges_of(config: Config) -> dict[str, float]:
    """Who judges, by name, and of which share of the harvests; see `services.judging.handler.judges`."""
    judging, sources = config.judging, [source.name for source in config.sources]
    beside = {model.name: 1.0 for model in judging.judges}
    match judging.mode:
        case "leader":
            return dict.fromkeys(sources, 1 / len(sources))
        case "judge":
            return {judging.judge: 1.0} if judging.judge else beside
        case "panel_without_author":
            return dict.fromkeys(sources, 1 - 1 / len(sources)) | beside
    return dict.fromkeys(sources, 1.0) | beside
