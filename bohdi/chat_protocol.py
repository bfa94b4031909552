"""OpenAI's chat completions as a server speaks them: requests read and checked, answers and errors as it has them."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from bohdi_common.models.port import Message, Reply, Sampling

DEFAULT_TOKENS = 1024
_ROLES = {"developer": "system", "system": "system", "user": "user", "assistant": "assistant"}
# What would be silently ignored, though an answer that ignores it is another than the one asked for.
_UNKNOWN_HERE = ("tools", "functions", "response_format", "logprobs", "logit_bias", "audio", "prediction")
_HARMLESS: tuple[Any, ...] = (None, False, [], {}, {"type": "text"})


class Refused(Exception):
    """A request that is answered with an error object."""

    def __init__(self, status: int, message: str, code: str, kind: str = "invalid_request_error") -> None:
        super().__init__(message)
        self.status, self.code, self.kind = status, code, kind


class _Part(BaseModel):
    type: Literal["text"]
    text: str


class _Said(BaseModel):
    role: Literal["developer", "system", "user", "assistant"]
    content: str | list[_Part]

    @property
    def text(self) -> str:
        return self.content if isinstance(self.content, str) else "\n".join(part.text for part in self.content)


class _StreamOptions(BaseModel):
    include_usage: bool = False


class Request(BaseModel):
    """What was asked, as far as it is understood here; fields that change nothing are let pass."""

    model_config = ConfigDict(extra="allow")

    model: str = Field(min_length=1, max_length=1000)
    messages: list[_Said] = Field(min_length=1, max_length=1000)
    max_tokens: Annotated[int, Field(ge=1, le=100_000)] | None = None
    max_completion_tokens: Annotated[int, Field(ge=1, le=100_000)] | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    n: Annotated[int, Field(ge=1, le=16)] | None = None
    stop: str | list[str] | None = None
    stream: bool | None = None
    stream_options: _StreamOptions | None = None

    @field_validator("stop")
    @classmethod
    def _stops_are_few(cls, value: str | list[str] | None) -> list[str]:
        stops = [value] if isinstance(value, str) else value or []
        if len(stops) > 4 or not all(stops):
            raise ValueError("at most 4 stop strings, none of them empty")
        return stops

    @property
    def chat(self) -> list[Message]:
        return [Message(role=_ROLES[said.role], content=said.text) for said in self.messages]  # type: ignore[typeddict-item]

    @property
    def question(self) -> str:
        """The last thing that the user said, by which the domain is told."""
        return next((said.text for said in reversed(self.messages) if said.role == "user"), "")

    def sampling(self, temperature: float) -> Sampling:
        """How to answer; `temperature` where the caller names none."""
        return Sampling(
            max_tokens=self.max_completion_tokens or self.max_tokens or DEFAULT_TOKENS,
            temperature=temperature if self.temperature is None else self.temperature,
            top_p=1.0 if self.top_p is None else self.top_p,
            n=self.n or 1,
            stop=tuple(self.stop or ()),
        )


def request_in(body: bytes) -> Request:
    """The request in a body. Raises Refused."""
    try:
        raw = json.loads(body)
    except (ValueError, RecursionError):
        raise Refused(400, "the body is not JSON", "invalid_json") from None
    if not isinstance(raw, dict):
        raise Refused(400, "the body is not a JSON object", "invalid_json")
    for name in _UNKNOWN_HERE:
        if raw.get(name) not in _HARMLESS:
            raise Refused(400, f"{name} is not supported by this server: leave it out", "unsupported_parameter")
    try:
        return Request.model_validate(raw)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise Refused(400, f"{where}: {first['msg'].removeprefix('Value error, ')}", "invalid_value") from None


def completion(answer_id: str, model: str, reply: Reply, routed: Mapping[str, Any]) -> dict[str, Any]:
    """A chat.completion object; under `bohdi` what was chosen and why."""
    choices = [
        {
            "index": index,
            "message": {"role": "assistant", "content": given.text},
            "finish_reason": given.finish_reason,
            "logprobs": None,
        }
        for index, given in enumerate(reply.completions)
    ]
    return {
        "id": answer_id,
        "object": "chat.completion",
        "created": int(time.time()),
        "model": model,
        "choices": choices,
        "usage": _usage(reply),
        "bohdi": dict(routed),
    }


def chunks(whole: Mapping[str, Any], include_usage: bool) -> bytes:
    """The same answer as a stream of server-sent events: each choice in one chunk, for the models give it at once."""
    head = {key: whole[key] for key in ("id", "created", "model", "bohdi")} | {"object": "chat.completion.chunk"}
    events: list[dict[str, Any]] = [
        head | {"choices": [{k: v for k, v in choice.items() if k != "message"} | {"delta": choice["message"]}]}
        for choice in whole["choices"]
    ]
    if include_usage:
        events.append(head | {"choices": [], "usage": whole["usage"]})
    said = [json.dumps(event, ensure_ascii=False) for event in events]
    return "".join(f"data: {line}\n\n" for line in [*said, "[DONE]"]).encode()


def _usage(reply: Reply) -> dict[str, int]:
    spent = sum(given.completion_tokens for given in reply.completions)
    return {
        "prompt_tokens": reply.prompt_tokens,
        "completion_tokens": spent,
        "total_tokens": reply.prompt_tokens + spent,
    }


def models_list(names: Sequence[str]) -> dict[str, Any]:
    """What GET /v1/models answers."""
    return {
        "object": "list",
        "data": [{"id": name, "object": "model", "created": 0, "owned_by": "bohdi"} for name in names],
    }


def error_object(refused: Refused) -> dict[str, Any]:
    return {"error": {"message": str(refused), "type": refused.kind, "param": None, "code": refused.code}}
