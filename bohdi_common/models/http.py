"""The chat-model port on servers that speak OpenAI's chat completions: vLLM, and most others.

The `openai` client asks again by itself after 408, 409, 429, 5xx and cut connections, with growing, jittered pauses or
the server's own Retry-After. Around it stand, for each server, a bound on the requests in flight that the runs share by
turns, and a circuit: a server that keeps failing is left alone for a while and then asked by one request. Of several
servers for one model the least busy is asked. A version of the target that a server does not know, one that was started
again, say, is loaded there by whoever asks for it first; whole weights likewise, where versions are those.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from statistics import fmean
from typing import Any

import openai
from openai import AsyncOpenAI
from openai.types.chat import ChatCompletion
from openai.types.chat.chat_completion import Choice

from bohdi_common.models import reasoning, vllm, vllm_weights
from bohdi_common.models.fair import FairGate
from bohdi_common.models.places import FolderOf
from bohdi_common.models.port import (
    Completion,
    Endpoint,
    Message,
    ModelBlocked,
    ModelRef,
    ModelRefused,
    ModelUnavailable,
    Reply,
    Sampling,
)

_RETRIES = 3  # beside those of the service's shell
_WEIGHTS_TRIES = 3  # of a request whose answer came of weights that were changed meanwhile
_FAILURES = 5  # in a row, until a server is left alone
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 5.0, 120.0
_NO_KEY = "none"  # servers that want no key take any
_SAID_CHARS = 300
_BROKEN = {"abort", "error"}  # ends of an answer that is not whole

_log = logging.getLogger("bohdi")


@dataclass
class _Server:
    """One server: who is asking it, and whether it may be asked at all."""

    url: str
    client: AsyncOpenAI
    gate: FairGate
    clock_s: Callable[[], float]
    failures: int = 0
    closed_until_s: float = 0.0
    last_error: str = ""
    spoke: set[str] = field(default_factory=set)  # models that gave an answer here: what refuses all is set up wrongly
    _pause_s: float = field(default=_FIRST_PAUSE_S, init=False)

    @property
    def may_be_asked(self) -> bool:
        return self.clock_s() >= self.closed_until_s

    def asked(self) -> None:
        """One that was left alone is asked once, and no more before that is answered."""
        if self.failures >= _FAILURES:
            self.closed_until_s = self.clock_s() + self._pause_s

    def answered(self) -> None:
        if self.failures >= _FAILURES:
            _log.warning("%s answers again", self.url)
        self.failures, self.closed_until_s, self._pause_s = 0, 0.0, _FIRST_PAUSE_S

    def failed(self, error: str) -> None:
        self.failures += 1
        self.last_error = error
        if self.failures >= _FAILURES:
            self.closed_until_s = self.clock_s() + self._pause_s
            _log.warning("%s: %d failures in a row, left alone for %.0f s: %s",
                         self.url, self.failures, self._pause_s, error)  # fmt: skip
            self._pause_s = min(2 * self._pause_s, _LONGEST_PAUSE_S)


class HttpModels:
    """Models behind servers. Each `ModelRef` brings its `endpoint`; keys come from `environment`; `folder_of` a version
    is where this process and the servers see it."""

    def __init__(
        self,
        folder_of: FolderOf,
        environment: Mapping[str, str] = os.environ,
        clock_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._folder_of = folder_of
        self._environment = environment
        self._clock_s = clock_s
        self._servers: dict[tuple[str, str], _Server] = {}
        self._closed = False

    async def complete(self, model: ModelRef, messages: list[Message], sampling: Sampling) -> Reply:
        """See the port. A server that gives fewer completions than were asked for is asked for the rest."""
        if model.endpoint is None:
            raise ModelRefused(f"{model.name}: no endpoint was named for it")
        asked_s = time.monotonic()
        completions: list[Completion] = []
        prompt_tokens = 0
        for _ in range(sampling.n):
            given = await self._asked(model, model.endpoint, messages, sampling, sampling.n - len(completions))
            completions += _completions(given)
            prompt_tokens += given.usage.prompt_tokens if given.usage else 0
            if len(completions) >= sampling.n:
                return Reply(tuple(completions[: sampling.n]), prompt_tokens, time.monotonic() - asked_s)
        raise ModelUnavailable(f"{model.name}: {len(completions)} completions instead of {sampling.n}")

    async def serve(self, model: ModelRef, before: ModelRef) -> None:
        """See the port. Every server that answers must have loaded it, one at least; another loads it once it is back
        and asked."""
        endpoint = model.endpoint
        if endpoint is None or not (model.is_version or endpoint.reloads):
            return
        servers = [self._opened(model, endpoint, url) for url in endpoint.urls]
        outcomes = await asyncio.gather(*(self._serving(server, model, endpoint, before) for server in servers))
        away = [outcome for outcome in outcomes if outcome]
        if len(away) == len(servers):
            raise ModelUnavailable(away[0])
        for why in away:
            _log.warning("%s; it loads %s when it is back and asked", why, vllm.served_name(model))

    async def _serving(self, server: _Server, model: ModelRef, endpoint: Endpoint, before: ModelRef) -> str:
        """Loads and unloads on one server; why it does not answer at all, or nothing."""
        kept = {vllm.served_name(model), vllm.served_name(before)}
        try:
            if endpoint.reloads:
                await self._weights(server, model, back=True)
                return ""
            await vllm.load(server.client, vllm.served_name(model), self._folder_of(model))
            for name in await vllm.names(server.client):
                if name.startswith(vllm.served_name(replace(model, version="r"))) and name not in kept:
                    await vllm.unload(server.client, name)
        except openai.APIConnectionError as error:
            return str(self._told(server, model, endpoint, error))
        except Exception as error:
            raise self._told(server, model, endpoint, error) from None
        return ""

    async def listed(self, model: ModelRef) -> dict[str, int | None]:
        """All that the first of the model's servers answers for, with the longest sequence in tokens where it tells.
        Raises ModelUnavailable or ModelRefused."""
        if model.endpoint is None:
            raise ModelRefused(f"{model.name}: no endpoint was named for it")
        server = self._opened(model, model.endpoint, model.endpoint.urls[0])
        try:
            return await vllm.contexts(server.client)
        except Exception as error:
            raise self._told(server, model, model.endpoint, error) from None

    async def close(self) -> None:
        """See the port."""
        self._closed = True
        await asyncio.gather(*(server.client.close() for server in self._servers.values()))

    async def _asked(
        self, model: ModelRef, endpoint: Endpoint, messages: Sequence[Message], sampling: Sampling, n: int
    ) -> ChatCompletion:
        server = self._server(model, endpoint)
        body: dict[str, Any] = {
            "model": vllm.served_name(model),
            "messages": model.told(list(messages)),
            "n": n,
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            "max_tokens": sampling.max_tokens,
        }
        if sampling.stop:
            body["stop"] = list(sampling.stop)
        if sampling.form and endpoint.structured:
            body["response_format"] = _form(sampling.form)
        if sampling.logprobs and endpoint.logprobs:
            body["logprobs"] = True
        async with server.gate.turn(model.asked_by):
            if self._closed:
                raise ModelUnavailable("the models behind HTTP are closed")
            server.asked()
            try:
                given = await self._given(server, model, body | {"timeout": endpoint.timeout_s})
            except Exception as error:
                raise self._told(server, model, endpoint, error) from None
        server.answered()
        server.spoke.add(model.name)
        return given

    async def _given(self, server: _Server, model: ModelRef, body: dict[str, Any]) -> ChatCompletion:
        """One request, made again where the answer is none, which the client does not do."""
        reloads = model.endpoint is not None and model.endpoint.reloads
        for tries_left in reversed(range(1 + _RETRIES)):
            try:
                if reloads:
                    return await self._given_by_weights(server, model, body)
                return await self._given_by_name(server, model, body)
            except ValueError:
                if not tries_left:
                    raise
        raise AssertionError("the last try returns or raises")

    async def _given_by_name(self, server: _Server, model: ModelRef, body: dict[str, Any]) -> ChatCompletion:
        """One request; a version that the server does not know is loaded there first."""
        try:
            given = await server.client.chat.completions.create(**body)
        except openai.NotFoundError:
            if not model.is_version:
                raise
            _log.warning("%s does not know %s: loading it there", server.url, vllm.served_name(model))
            await vllm.load(server.client, vllm.served_name(model), self._folder_of(model))
            given = await server.client.chat.completions.create(**body)
        _check(given)
        return given

    async def _given_by_weights(self, server: _Server, model: ModelRef, body: dict[str, Any]) -> ChatCompletion:
        """One request to a server that has the model's weights from before it until after the answer."""
        for _ in range(_WEIGHTS_TRIES):
            name = await self._weights(server, model)
            given = await server.client.chat.completions.create(**body)
            _check(given)
            if await vllm_weights.name_of(server.client) == name:
                return given
        raise vllm_weights.NotChanged("has its weights changed again and again: ask it for one version at a time")

    async def _weights(self, server: _Server, model: ModelRef, back: bool = False) -> str:
        """Sees to it that the server has the model's weights; their name there."""
        name = await vllm_weights.name_of(server.client)
        if vllm_weights.fits(name, model):
            return name
        lock = self._folder_of(replace(model, version=vllm_weights.LOCK))
        return await vllm_weights.change(server.client, model, self._folder_of(model), lock, back)

    def _told(self, server: _Server, model: ModelRef, endpoint: Endpoint, error: Exception) -> Exception:
        """What the port says to an error of the client, in one line without the key."""
        said = f"{model.name} at {server.url}: {_said(error)}"
        match error:
            case openai.BadRequestError() | openai.UnprocessableEntityError():
                server.answered()
                return ModelRefused(said) if model.name in server.spoke else ModelBlocked(said)
            case openai.AuthenticationError() | openai.PermissionDeniedError():
                server.answered()
                key = endpoint.key_env or "key_env of the configuration, which names none"
                return ModelBlocked(f"{model.name} at {server.url}: refused the key: check {key}")
            case openai.NotFoundError():
                server.answered()
                return ModelBlocked(f"{model.name} at {server.url}: {self._not_there(model)}")
            case vllm_weights.NotChanged():
                server.answered()
                return ModelUnavailable(f"{model.name}: {server.url} {error}")
            case openai.InternalServerError() if vllm.RANK in str(error):
                server.answered()
                return ModelBlocked(f"{said}: start it with a higher one, or a run with a lower training.lora_rank")
            case openai.RateLimitError():
                server.answered()
                return ModelUnavailable(said)
            case _OtherServer() if model.name not in server.spoke:  # else it is a page of its proxy's, and passes
                return ModelBlocked(said)
            case openai.OpenAIError() | ValueError():
                server.failed(said)
                return ModelUnavailable(said)
        return error

    def _not_there(self, model: ModelRef) -> str:
        if not model.is_version or (model.endpoint and model.endpoint.reloads):
            return f"no model {vllm.served_name(model)!r} there: check served_name, and that the URL ends in /v1"
        return (
            f"it cannot load {self._folder_of(model)}: it must see that folder, and be started with --enable-lora and "
            "VLLM_ALLOW_RUNTIME_LORA_UPDATING=True"
        )

    def _server(self, model: ModelRef, endpoint: Endpoint) -> _Server:
        """The least busy of those that may be asked."""
        if self._closed:
            raise ModelUnavailable("the models behind HTTP are closed")
        servers = [self._opened(model, endpoint, url) for url in endpoint.urls]
        there = [server for server in servers if server.may_be_asked]
        if not there:
            raise ModelUnavailable(f"{servers[0].last_error}; left alone for a while after {_FAILURES} failures")
        return min(there, key=lambda server: server.gate.busy)

    def _opened(self, model: ModelRef, endpoint: Endpoint, url: str) -> _Server:
        at = (url, endpoint.key_env)
        if at not in self._servers:
            key = self._environment.get(endpoint.key_env, "") if endpoint.key_env else _NO_KEY
            if not key:
                raise ModelBlocked(f"{model.name}: ${endpoint.key_env} is not set: put the key of {url} there")
            client = AsyncOpenAI(base_url=url, api_key=key, max_retries=_RETRIES)
            self._servers[at] = _Server(url, client, FairGate(endpoint.concurrency), self._clock_s)
        return self._servers[at]


def _form(schema: str) -> dict[str, Any]:
    """`response_format` of the protocol."""
    form = {"name": "reply", "schema": json.loads(schema), "strict": True}
    return {"type": "json_schema", "json_schema": form}


class _OtherServer(ValueError):
    """What came is not even JSON."""


def _check(given: Any) -> None:
    """Raises ValueError for an answer that is none: a server of another kind may say 200 to anything."""
    why = "the answer is no chat completion: check that the URL ends in /v1 of such a server"
    if isinstance(given, str):
        raise _OtherServer(why)
    if not isinstance(given, ChatCompletion) or not getattr(given, "choices", None):
        raise ValueError(why)
    ends: set[str] = {choice.finish_reason for choice in given.choices}  # vLLM knows more of them than the protocol
    if broken := ends & _BROKEN:
        raise ValueError(f"the answer was broken off by the server ({broken.pop()})")


def _completions(given: ChatCompletion) -> list[Completion]:
    """Usage names the tokens of all together: they are shared out evenly."""
    count = len(given.choices)
    each, left = divmod(given.usage.completion_tokens if given.usage else 0, count)
    return [
        Completion(
            reasoning.split(choice.message.content or "")[1],
            "length" if choice.finish_reason == "length" else "stop",
            each + (number < left),
            _mean_logprob(choice),
        )
        for number, choice in enumerate(given.choices)
    ]


def _mean_logprob(choice: Choice) -> float | None:
    tokens = choice.logprobs.content if choice.logprobs else None
    return fmean(token.logprob for token in tokens) if tokens else None


def _said(error: Exception) -> str:
    match error:
        case openai.APITimeoutError():
            return "no answer in time"
        case openai.APIConnectionError():
            return f"cannot be reached: {error.__cause__ or error}"
        case openai.APIStatusError():
            return _line(error.message)
    return _line(str(error) or type(error).__name__)


def _line(text: str) -> str:
    return " ".join(text.split())[:_SAID_CHARS]
