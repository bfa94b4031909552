"""Models that say what the test wrote, for the handlers' tests."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from bohdi_common.events.events_pb2 import Event
from bohdi_common.log.port import LogReader
from bohdi_common.models.port import Completion, Message, ModelRef, Reply, Sampling
from tests import closed_loop

Says = Callable[[str, str], str | list[str]]


@dataclass
class Script:
    """`says` gives a model's text, or the texts of its samples in turn, from its name and what it is asked; it may
    raise what the port may. A text that ends in "..." was cut by the token limit."""

    says: Says
    calls: list[tuple[ModelRef, list[Message], Sampling]] = field(default_factory=list)
    served: list[str] = field(default_factory=list)  # versions, in the order of their coming

    async def complete(self, model: ModelRef, messages: list[Message], sampling: Sampling) -> Reply:
        self.calls.append((model, messages, sampling))
        said = self.says(model.name, messages[-1]["content"])
        texts = [said] * sampling.n if isinstance(said, str) else said
        assert len(texts) == sampling.n
        mean_logprob = -0.25 if sampling.logprobs else None
        ends = ["length" if text.endswith("...") else "stop" for text in texts]
        return Reply(tuple(Completion(t, e, 2, mean_logprob) for t, e in zip(texts, ends, strict=True)), 3, 0.5)

    async def serve(self, model: ModelRef, before: ModelRef) -> None:
        self.served.append(model.version)

    async def close(self) -> None: ...


def no_log(run_id: str) -> LogReader:
    """The log of a run that was never to be read."""
    raise AssertionError(f"the log of {run_id} was read")


def request(kind: str, body: dict[str, object], **sections: object) -> Event:
    """A request of a run with the sources a, b, c and the micro-world's prompts."""
    settings = closed_loop.settings(**{"prompts": "micro-v1", **sections})
    event = Event(event_id="request", run_id="run", round=1, step=2, slot=3, schema_version=1)
    getattr(event, kind).MergeFrom(type(getattr(event, kind))(request_hash="hash", settings=settings, **body))
    return event
