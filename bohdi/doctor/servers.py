"""The models that are behind servers: each server answers, knows the model and takes the key."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace

from bohdi.doctor.asked import Asked
from bohdi.doctor.contexts import Count, fits
from bohdi.doctor.finding import Finding
from bohdi_common.models.http import HttpModels
from bohdi_common.models.port import Endpoint, ModelRef, ModelRefused, ModelUnavailable, Sampling


async def answering(
    models: HttpModels, model: ModelRef, endpoint: Endpoint, asked: Sequence[Asked], timeout_s: float
) -> AsyncIterator[Finding]:
    """A finding for each server of `model`, and one of the first that answers, whether the prompts fit there."""
    said_context = False
    for url in endpoint.urls:
        what = f"{model.name} at {url}"
        alone = replace(model, endpoint=replace(endpoint, urls=(url,)))
        try:
            async with asyncio.timeout(timeout_s):
                told, context = await _listed(models, alone, endpoint.served_name)
                counts = await _counted(models, alone, asked)
        except TimeoutError:
            yield Finding("fail", what, f"no answer within {timeout_s:g} s: see whether it is up, or raise --timeout")
        except (ModelUnavailable, ModelRefused) as error:
            yield Finding("fail", what, str(error).removeprefix(f"{what}: "))
        else:
            yield Finding("ok", what, told)
            if not said_context:
                yield fits(model.name, asked, counts, context)
            said_context = True


async def _listed(models: HttpModels, model: ModelRef, name: str) -> tuple[str, int | None]:
    """What the server says of the model `name`, and its context, where it tells. Raises ModelUnavailable when it does
    not know that name."""
    known = await models.listed(model)
    if name in known:
        context = known[name]
        return f"answers as {name}, context {context or 'not told'}", context
    raise ModelUnavailable(f"no model {name!r} there, but {', '.join(sorted(known)[:5]) or 'none'}: check served_name")


async def _counted(models: HttpModels, model: ModelRef, asked: Sequence[Asked]) -> dict[str, Count]:
    """Tokens of every prompt by the server's own count: each is asked for a reply of one token."""
    one = Sampling(max_tokens=1)
    short = await asyncio.gather(*(models.complete(model, request.messages, one) for request in asked))
    long = await asyncio.gather(*(models.complete(model, request.longest, one) for request in asked))
    return {
        request.kind: (least.prompt_tokens, most.prompt_tokens)
        for request, least, most in zip(asked, short, long, strict=True)
    }
