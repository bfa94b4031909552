"""What the models are asked, as versioned template files, and how their replies are read.

One YAML file per prompt set stands beside this module: jinja2 templates for the four things a model is asked (a
proposal, a question, an answer, a verdict). The set's name goes into every event that came of it, so a file that
has been used in a run is never changed: write the next version beside it.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import yaml
from jinja2 import StrictUndefined, Template
from jinja2.sandbox import SandboxedEnvironment

from bohdi_common.models.port import Message
from bohdi_common.models.prompts import readers
from bohdi_common.models.prompts.marks import mark, unglued

_FOLDER = Path(__file__).parent
_ENVIRONMENT = SandboxedEnvironment(undefined=StrictUndefined, autoescape=False, keep_trailing_newline=False)
_ENVIRONMENT.globals.clear()  # jinja copies them at every rendering, and a prompt is a rendering


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


@functools.lru_cache(maxsize=256)
def _form(kind: str, most: int) -> str:
    values: dict[str, dict[str, Any]] = {
        "propose": {"type": "array", "items": {"type": "string", "maxLength": 64}, "maxItems": most},
        "question": {"type": "string"},
        "verdict": {"type": "integer", "minimum": 0, "maximum": most},
    }
    key = {"propose": "names", "question": "question", "verdict": "best"}[kind]
    schema = {"type": "object", "properties": {key: values[kind]}, "required": [key], "additionalProperties": False}
    return json.dumps(schema)


@dataclass(frozen=True)
class PromptSet:
    """Four templates, and how their replies are read. `verdict_reply` `number`: a chat model's, who wraps what it says
    (`readers`); a judge names the best answer's number. `quote`: of models that were trained on the forms; replies
    are taken as they stand, and a judge quotes the best answer.

    `examples`: by the template's name, the values of requests and good replies to them, put before the request as turns
    of the conversation. `styles`: what a question may be asked to be like, by name; none in a set whose questions take
    no style."""

    name: str
    propose: str
    question: str
    answer: str
    verdict: str
    verdict_reply: Literal["quote", "number"]
    system: str | None = None
    examples: Mapping[str, Sequence[Mapping[str, Any]]] = field(default_factory=dict, hash=False)
    styles: Mapping[str, str] = field(default_factory=dict, hash=False)
    # The set asks a judge to reply `none` only where no answer is right, and so tells that from an abstention.
    none_means_none_right: bool = False

    def ask_names(self, path: Sequence[str], known: Sequence[str], want: int) -> list[Message]:
        """For `want` new children of the node at `path` (names from the first level down; empty is Root), which has
        the children `known`."""
        return self._messages("propose", path=list(path), known=list(known), want=want)

    def ask_question(self, path: Sequence[str], style: str = "") -> list[Message]:
        """For a question in the domain at `path`; `style`: a sentence that says what it is to be like."""
        return self._messages("question", path=list(path), style=style)

    def ask_answer(self, question: str) -> list[Message]:
        return self._messages("answer", question=question)

    def ask_verdict(self, question: str, candidates: Sequence[str]) -> list[Message]:
        """For the best of `candidates`, shown in the order given; a set that has `mark` in its template shows them, and
        the question, between marks that stand in none of them."""
        return self._messages("verdict", question=question, candidates=list(candidates))

    def shortest(self, writes: bool) -> list[list[Message]]:
        """One short request of each kind: what does not take these takes none. `writes`: as a source is asked, which
        also proposes, asks and judges; the target only answers."""
        answer = self.ask_answer("Why?")
        if not writes:
            return [answer]
        return [answer, self.ask_names((), (), 1), self.ask_question(("a", "b", "c")), self.ask_verdict("Why?", "ab")]

    def form(self, kind: Literal["propose", "question", "verdict"], most: int = 1) -> str:
        """The JSON schema of a reply, for servers that see to it; `most`: names, or candidates, there may be. Empty for
        models that were trained on forms of their own."""
        return _form(kind, most) if self.verdict_reply == "number" else ""

    def read_names(self, text: str, cut: bool = False) -> list[str]:
        """Candidate names in a reply, not yet checked; `cut`: the token limit ended it."""
        if self.verdict_reply == "number":
            return readers.names(text, cut)
        lines = (line.strip() for line in text.splitlines())
        return [line for line in lines if line and line.casefold() != "none"]

    def why_no_name(self, name: str) -> str:
        """Why what `read_names` gave is none, beside what no domain may be called; empty when it may be one."""
        return readers.why_no_name(name) if self.verdict_reply == "number" else ""

    def read_question(self, text: str) -> str | None:
        """The question in a reply, or None when there is none."""
        if self.verdict_reply == "number":
            return readers.question(text, self._told("question"))
        question = text.strip()
        return question if any(ch.isalnum() for ch in question) else None

    def read_verdict(self, text: str, candidates: Sequence[str]) -> int | None:
        """Position in `candidates` of the answer that the judge chose; None is an abstention, as is whatever cannot
        be read."""
        if self.verdict_reply == "number":
            return readers.verdict(unglued(text), candidates)
        return next((i for i, c in enumerate(candidates) if c == text.strip()), None)

    def says_none_right(self, text: str) -> bool:
        """Whether a judge's reply says that none of the answers is right: never, in a set where `none` may mean that
        the judge cannot tell."""
        return self.none_means_none_right and readers.none_right(text)

    def _messages(self, template: str, **values: object) -> list[Message]:
        messages: list[Message] = []
        if self.system is not None:
            messages.append({"role": "system", "content": self.system.strip()})
        for example in self.examples.get(template, ()):
            messages.append({"role": "user", "content": self._rendered(template, example)})
            messages.append({"role": "assistant", "content": example["reply"]})
        messages.append({"role": "user", "content": self._rendered(template, values)})
        return messages

    def _rendered(self, template: str, values: Mapping[str, Any]) -> str:
        if template == "verdict":
            values = {**values, "mark": mark([values["question"], *values["candidates"]])}
        return _compiled(getattr(self, template)).render({"style": "", **values}).strip()

    def _told(self, template: str) -> str:
        """All that a request says whatever it asks for: a reply that is a piece of it is an echo."""
        replies = [example["reply"] for example in self.examples.get(template, ())]
        return "\n".join([getattr(self, template), self.system or "", *replies])
