"""Versions of a target on vLLM's servers: LoRA adapters that are loaded and unloaded while the server answers.

A server wants VLLM_ALLOW_RUNTIME_LORA_UPDATING, --enable-lora and a --max-lora-rank of at least training.lora_rank, and
sees the folder of a version where the services see it. A name is loaded once and stands for one folder for ever: vLLM's
prefix cache would answer a name that was loaded anew from what the old one had said.
"""

from __future__ import annotations

from pathlib import Path

import openai
from openai import AsyncOpenAI

from bohdi_common.models.port import ModelRef

_LOAD_S = 120.0
RANK = "max_lora_rank"  # in what a server says to an adapter of too high a rank
DEFAULT_MAX_RANK = 16  # of `vllm serve` without --max-lora-rank
_THERE_ALREADY = "already been"


def served_name(model: ModelRef) -> str:
    """Under which name servers know a source, or a version of the target: NAME-RUN-VERSION, for several runs may have
    their versions on one server. Whole weights have the name of those in whose place they are."""
    name = model.endpoint.served_name if model.endpoint else model.name
    beside = model.is_version and not (model.endpoint and model.endpoint.reloads)
    return f"{name}-{model.run_id}-{model.version}" if beside else name


async def load(client: AsyncOpenAI, name: str, folder: Path) -> None:
    """Makes the server answer for `name` with the adapter in `folder`; one that it has already stays. Raises what the
    client raises."""
    body = {"lora_name": name, "lora_path": str(folder.absolute())}
    try:
        await client.post("/load_lora_adapter", cast_to=str, body=body, options={"timeout": _LOAD_S})
    except openai.BadRequestError as error:
        if _THERE_ALREADY not in str(error):
            raise


async def unload(client: AsyncOpenAI, name: str) -> None:
    """The server forgets `name`, if it knows it. Raises what the client raises."""
    try:
        await client.post("/unload_lora_adapter", cast_to=str, body={"lora_name": name}, options={"timeout": _LOAD_S})
    except (openai.NotFoundError, openai.BadRequestError):
        return


async def names(client: AsyncOpenAI) -> list[str]:
    """All that the server answers for. Raises what the client raises."""
    return [model.id async for model in client.models.list()]


async def contexts(client: AsyncOpenAI) -> dict[str, int | None]:
    """The same, each with the longest sequence in tokens that it takes, which vLLM tells and others may not. Raises
    what the client raises, and ValueError for what is no list of models."""
    try:
        return {model.id: getattr(model, "max_model_len", None) async for model in client.models.list()}
    except (AttributeError, TypeError):
        raise ValueError("the answer is no list of models: check that the URL ends in /v1 of such a server") from None
