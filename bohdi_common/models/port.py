"""The chat-model port: messages in, completions out.

Adapters: `local` (transformers), `http` (servers that speak OpenAI's protocol), `scripted` (tests).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, Self, TypedDict

from bohdi_common.core.state import BASE_VERSION


class Message(TypedDict):
    role: Literal["system", "user", "assistant"]
    content: str


@dataclass(frozen=True)
class Sampling:
    """How to sample. `temperature` 0 is greedy; `n` completions are drawn independently from one prompt. `logprobs`:
    it is wanted how probable the tokens were, from servers that say."""

    max_tokens: int
    temperature: float = 0.0
    top_p: float = 1.0
    n: int = 1
    stop: tuple[str, ...] = ()
    logprobs: bool = False
    form: str = ""  # a JSON schema that the text is to have, from servers that see to it; others take no notice


@dataclass(frozen=True)
class Completion:
    """One completion. `finish_reason` is `stop`, or `length` when `max_tokens` cut it. `mean_logprob`: of its tokens,
    natural, if that was wanted and the server says."""

    text: str
    finish_reason: Literal["stop", "length"]
    completion_tokens: int
    mean_logprob: float | None = None


@dataclass(frozen=True)
class Reply:
    """The `n` completions of one request, and what the prompt cost in tokens."""

    completions: tuple[Completion, ...]
    prompt_tokens: int
    seconds: float


class ModelUnavailable(Exception):
    """The endpoint could not answer now; the same request may be asked again. Counts for nothing but the pause."""


class ModelBlocked(ModelUnavailable):
    """It cannot answer until a person has mended something (a key, a name): to ask again before that is no use."""


class ModelRefused(Exception):
    """The model can never answer this request as it stands (too long a prompt, say)."""


@dataclass(frozen=True)
class Endpoint:
    """Servers that all answer for one model, and how to ask them; the fields of a `bohdi.v1.ModelSettings`. `reloads`:
    a version of it takes the place of their weights, instead of being an adapter beside them."""

    urls: tuple[str, ...]
    served_name: str
    key_env: str = ""
    concurrency: int = 32
    timeout_s: float = 120.0
    structured: bool = False
    reloads: bool = False
    logprobs: bool = False


@dataclass(frozen=True)
class ModelRef:
    """Which weights: `name` and `path` as in the run's settings, `version` of the target (empty for a source) and the
    run whose version it is: several runs may go through one service, each with models of its own. `endpoint`: where a
    model is that is behind servers. `system`: what every conversation with it begins with; `asked_by`: the run that
    asks, for fair shares: no part of what the model is, both."""

    name: str
    version: str = ""
    run_id: str = ""
    path: str = ""
    endpoint: Endpoint | None = None
    asked_by: str = field(default="", compare=False)
    system: str = field(default="", compare=False)

    @classmethod
    def of(cls, settings: Any, version: str = "", run_id: str = "", asked_by: str = "") -> Self:
        """The model of a `bohdi.v1.ModelSettings`."""
        endpoint = None
        if settings.adapter == "http":
            urls, name = tuple(settings.urls), settings.served_name or settings.name
            how = (settings.key_env, settings.concurrency, settings.timeout_s, settings.structured)
            endpoint = Endpoint(urls, name, *how, settings.reloads, settings.logprobs)
        return cls(settings.name, version, run_id, settings.path, endpoint, asked_by or run_id, settings.system)

    @property
    def is_version(self) -> bool:
        """Whether a training made it: no source, nor the target as the run found it."""
        return self.version not in ("", BASE_VERSION)

    def told(self, messages: list[Message]) -> list[Message]:
        """`messages` behind the model's own system prompt. One system message in all: templates take no second."""
        if not self.system:
            return messages
        own = [self.system, *(m["content"] for m in messages if m["role"] == "system")]
        first: Message = {"role": "system", "content": "\n\n".join(own)}
        return [first, *(m for m in messages if m["role"] != "system")]


class ChatModels(Protocol):
    """All models of one run behind one door."""

    async def complete(self, model: ModelRef, messages: list[Message], sampling: Sampling) -> Reply:
        """`sampling.n` completions of `messages` by `model`, through the model's own chat template.

        Raises ModelUnavailable (try again later; ModelBlocked: once a person has mended it) or ModelRefused (never
        will)."""
        ...

    async def serve(self, model: ModelRef, before: ModelRef) -> None:
        """`model`, a version of a target that was just published, can be asked from now on, wherever it is served;
        `before` is the one that requests on their way may still name, and older ones are let go.

        Raises ModelUnavailable or ModelRefused, and may then be asked again."""
        ...

    async def close(self) -> None:
        """Let go of threads, weights and connections; calls in flight fail with ModelUnavailable."""
        ...


@dataclass
class Usage:
    """Tokens spent on one unit of work, summed over its model calls."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    calls: int = field(default=0)

    def add(self, reply: Reply) -> None:
        self.prompt_tokens += reply.prompt_tokens
        self.completion_tokens += sum(c.completion_tokens for c in reply.completions)
        self.calls += 1
