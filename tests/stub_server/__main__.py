"""`python -m tests.stub_server [--share S] [--seed N] NAME=FOLDER ...`: the stub before real models in this process.

Prints its base URL and serves until a signal ends it. FOLDER may be `microworld:NAME`. `--share`: of the calls that
something befalls.
"""

from __future__ import annotations

import argparse
import asyncio
import signal
from typing import Any

from bohdi_common.models.adapters import models
from bohdi_common.models.places import place
from bohdi_common.models.port import ModelRef, Sampling
from tests.stub_server import Stub


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--share", type=float, default=0.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("models", nargs="+")
    told = parser.parse_args()
    folders = dict(entry.split("=", 1) for entry in told.models)
    local = models(lambda model: place(model.path))

    async def say(model: str, messages: list[Any], body: dict[str, Any]) -> list[str]:
        sampling = Sampling(body["max_tokens"], body["temperature"], body["top_p"], body["n"])
        reply = await local.complete(ModelRef(model, path=folders[model]), messages, sampling)
        return [completion.text for completion in reply.completions]

    over = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, over.set)
    stub = Stub(say, models=tuple(folders), share=told.share, seed=told.seed)
    async with stub.serving() as url:
        print(url, flush=True)
        await over.wait()
    await local.close()
    print(dict(stub.befallen), flush=True)


if __name__ == "__main__":
    asyncio.run(main())
