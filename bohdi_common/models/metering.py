"""What the models were asked in the course of one piece of work, by model: every event says what its making cost."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar

from bohdi_common.models.port import ChatModels, Message, ModelRef, Reply, Sampling, Usage

Meter = dict[str, Usage]
_METER: ContextVar[Meter | None] = ContextVar("meter", default=None)


@contextmanager
def metered() -> Iterator[Meter]:
    """Usage by model's name of all calls made within, in tasks begun within too."""
    meter: Meter = {}
    token = _METER.set(meter)
    try:
        yield meter
    finally:
        _METER.reset(token)


Watched = Callable[[str], AbstractContextManager[list[Reply]]]


class Metered:
    """The chat-model port, with each reply on the meter of whoever asked. `watched`: what is around each call of the
    model that it names, and takes its reply."""

    def __init__(self, models: ChatModels, watched: Watched = lambda name: nullcontext([])) -> None:
        self._models = models
        self._watched = watched

    async def complete(self, model: ModelRef, messages: list[Message], sampling: Sampling) -> Reply:
        """See the port."""
        with self._watched(model.name) as replies:
            reply = await self._models.complete(model, messages, sampling)
            replies.append(reply)
        meter = _METER.get()
        if meter is not None:
            meter.setdefault(model.name, Usage()).add(reply)
        return reply

    async def serve(self, model: ModelRef, before: ModelRef) -> None:
        """See the port."""
        await self._models.serve(model, before)

    async def close(self) -> None:
        """See the port."""
        await self._models.close()
