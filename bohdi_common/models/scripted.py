"""The chat-model port for tests: what a model says is a function of what it was asked."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable

from bohdi_common.models.port import Completion, Message, ModelRef, ModelUnavailable, Reply, Sampling


class ScriptedModels:
    """Completions from `reply`, a function of the request: it gives `sampling.n` texts or raises what the port may.

    A token is a word here. `calls` counts the requests by model, those that failed too.
    """

    def __init__(
        self, reply: Callable[[ModelRef, list[Message], Sampling], list[str]], *, latency_s: float = 0.0
    ) -> None:
        self._reply = reply
        self._latency_s = latency_s
        self._closed = False
        self.calls: Counter[ModelRef] = Counter()

    async def complete(self, model: ModelRef, messages: list[Message], sampling: Sampling) -> Reply:
        """See the port. Raises ValueError when the script gives another number of texts than was asked for."""
        self._check_open()
        self.calls[model] += 1
        await asyncio.sleep(self._latency_s)
        self._check_open()
        texts = self._reply(model, messages, sampling)
        if len(texts) != sampling.n:
            raise ValueError(f"the script gave {len(texts)} completions for {model.name}; {sampling.n} were asked for")
        prompt_tokens = sum(len(message["content"].split()) for message in messages)
        return Reply(tuple(_completion(text, sampling) for text in texts), prompt_tokens, self._latency_s)

    async def serve(self, model: ModelRef, before: ModelRef) -> None:
        self._check_open()

    async def close(self) -> None:
        self._closed = True

    def _check_open(self) -> None:
        if self._closed:
            raise ModelUnavailable("the scripted models are closed")


def _completion(text: str, sampling: Sampling) -> Completion:
    """`text` as it is when it has at most `max_tokens` words, else the first of them."""
    words = text.split()
    if len(words) <= sampling.max_tokens:
        return Completion(text, "stop", len(words))
    return Completion(" ".join(words[: sampling.max_tokens]), "length", sampling.max_tokens)
