"""`python -m tests.stub_server [--share S] [--seed N] [--dev] NAME=FOLDER ...`: the stub before real models in here.

Prints its base URL and serves until a signal ends it; then what it was asked, and what befell it, as one line of JSON.
FOLDER may be `microworld:NAME`. `--share`: of the calls that something befalls. `--dev`: weights can be changed, as
under VLLM_SERVER_DEV_MODE=1; SIGHUP is as a start anew.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import signal
from typing import Any

from aiohttp import web

from bohdi_common.models.adapters import models
from bohdi_common.models.places import place
from bohdi_common.models.port import ModelRef, ModelUnavailable, Sampling
from tests.stub_server import FAULTS, SLOW_S, Stub


def _told() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--share", type=float, default=0.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--slow-s", type=float, default=SLOW_S, help="how long a slow call takes longer")
    parser.add_argument("--max-lora-rank", type=int, default=64)
    parser.add_argument("--dev", action="store_true")
    parser.add_argument("models", nargs="+")
    return parser.parse_args()


async def main() -> None:
    told = _told()
    folders = dict(entry.split("=", 1) for entry in told.models)
    local = models(lambda model: stub.adapters[model.version] if model.version else place(model.path))

    async def say(model: str, messages: list[Any], body: dict[str, Any]) -> list[str]:
        sampling = Sampling(body["max_tokens"], body["temperature"], body["top_p"], body["n"])
        ref = ModelRef(model, path=str(stub.weights)) if stub.weights else _ref(model, folders)
        try:
            reply = await local.complete(ref, messages, sampling)
        except ModelUnavailable as error:  # it is being ended
            raise web.HTTPServiceUnavailable(text=str(error)) from None
        return [completion.text for completion in reply.completions]

    stub = Stub(
        say, models=tuple(folders), share=told.share, befall=FAULTS, seed=told.seed, retry_after="0.2",
        slow_s=told.slow_s, max_lora_rank=told.max_lora_rank, dev=told.dev,
    )  # fmt: skip
    over = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, over.set)
    asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, stub.restart)
    async with stub.serving() as url:
        print(url, flush=True)
        await over.wait()
    await local.close()
    print(json.dumps({"calls": stub.calls, "befallen": stub.befallen, "changes": stub.changes}), flush=True)


def _ref(name: str, folders: dict[str, str]) -> ModelRef:
    """A model of the command line, or an adapter of one: NAME-RUN-VERSION."""
    base = name if name in folders else next(model for model in folders if name.startswith(f"{model}-"))
    return ModelRef(base, "" if name in folders else name, path=folders[base])


if __name__ == "__main__":
    asyncio.run(main())
