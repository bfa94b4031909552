"""What the models are asked, as versioned template files, and how their replies are read.

One YAML file per prompt set stands beside this module: jinja2 templates for the four things a model is asked (a
proposal, a question, an answer, a verdict). The set's name goes into every event that came of it, so a file that
has been used in a run is never changed: write the next version beside it.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import yaml
from jinja2 import StrictUndefined, Template
from jinja2.sandbox import SandboxedEnvironment

from bohdi_common.models.port import Message

_FOLDER = Path(__file__).parent
_ENVIRONMENT = SandboxedEnvironment(undefined=StrictUndefined, autoescape=False, keep_trailing_newline=False)
_ENVIRONMENT.globals.clear()  # jinja copies them at every rendering, and a prompt is a rendering
_DECORATION = re.compile(r"^(?:[-*•·>]+\s+|\(?\d{1,2}[.)]\s+|#+\s+)+")
_QUOTES = "\"'`*_“”‘’«»„ \t"
_NUMBER = re.compile(r"(?<![\w.-])(\d{1,2})(?![\w.])")
_ABSTENTIONS = frozenset({"none", "none of them", "none of the above"})


def available() -> list[str]:
    """Names of the prompt sets that are shipped."""
    return sorted(p.stem for p in _FOLDER.glob("*.yaml"))


@functools.cache
def _compiled(template: str) -> Template:
    return _ENVIRONMENT.from_string(template)


@functools.cache
def load(name: str) -> PromptSet:
    """The prompt set `name`. Raises KeyError when there is none of that name."""
    if name not in available():
        raise KeyError(f"no prompt set {name!r}; there are: {', '.join(available())}")
    raw = yaml.safe_load((_FOLDER / f"{name}.yaml").read_text(encoding="utf-8"))
    return PromptSet(name=name, **raw)


@dataclass(frozen=True)
class PromptSet:
    """Four templates and the form in which a judge replies: it quotes the best answer, or names its number."""

    name: str
    propose: str
    question: str
    answer: str
    verdict: str
    verdict_reply: Literal["quote", "number"]
    system: str | None = None
    # The set asks a judge to reply `none` only where no answer is right, and so tells that from an abstention.
    none_means_none_right: bool = False

    def ask_names(self, path: Sequence[str], known: Sequence[str], want: int) -> list[Message]:
        """For `want` new children of the node at `path` (names from the first level down; empty is Root), which has
        the children `known`."""
        return self._messages(self.propose, path=list(path), known=list(known), want=want)

    def ask_question(self, path: Sequence[str]) -> list[Message]:
        return self._messages(self.question, path=list(path))

    def ask_answer(self, question: str) -> list[Message]:
        return self._messages(self.answer, question=question)

    def ask_verdict(self, question: str, candidates: Sequence[str]) -> list[Message]:
        """For the best of `candidates`, shown in the order given."""
        return self._messages(self.verdict, question=question, candidates=list(candidates))

    def read_names(self, text: str) -> list[str]:
        """Candidate names in a reply, one a line, stripped of list marks and quotes; not yet checked."""
        lines = (_DECORATION.sub("", line.strip()).strip(_QUOTES) for line in text.splitlines())
        return [line for line in lines if line and line.casefold() not in _ABSTENTIONS]

    def read_question(self, text: str) -> str | None:
        """The question in a reply, all its lines, or None when nothing is left after stripping."""
        question = text.strip()
        return question if any(ch.isalnum() for ch in question) else None

    def read_verdict(self, text: str, candidates: Sequence[str]) -> int | None:
        """Position in `candidates` of the answer that the judge chose; None is an abstention, as is whatever cannot
        be read: a guess at what a judge meant would be a vote that nobody cast."""
        reply = text.strip()
        if self.verdict_reply == "quote":
            return next((i for i, c in enumerate(candidates) if c == reply), None)
        if reply.casefold().strip(". ") in _ABSTENTIONS:
            return None
        numbers = {int(m) for m in _NUMBER.findall(reply)}
        if len(numbers) != 1:
            return None
        position = numbers.pop() - 1
        return position if 0 <= position < len(candidates) else None

    def says_none_right(self, text: str) -> bool:
        """Whether a judge's reply says that none of the answers is right: never, in a set where `none` may mean that
        the judge cannot tell."""
        return self.none_means_none_right and text.strip().casefold().strip(". ") in _ABSTENTIONS

    def _messages(self, template: str, **values: object) -> list[Message]:
        user: Message = {"role": "user", "content": _compiled(template).render(**values).strip()}
        return [user] if self.system is None else [{"role": "system", "content": self.system.strip()}, user]
