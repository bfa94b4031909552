"""`python -m tests.real.vllm_whole`: whole weights on a real vLLM: changed, changed back, killed and started again.

Two sets of weights are served in turn, the real model's and the same with some layers taken out, which rambles. What is
asked in the middle of a change, after one, and of a server that was started again must come of the weights that were
asked for. Writes runs/real-vllm-whole/; exit code 1 when something that must hold does not.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bohdi_common.core.state import BASE_VERSION
from bohdi_common.models.http import HttpModels
from bohdi_common.models.port import Endpoint, ModelRef, ModelUnavailable, Sampling
from tests.real.vllm_server import VllmServer

_PORT = 8138
_QUESTION = "What is the capital of France?"
_OUT = "layers.1"  # of the layers' names: 1, 10, 11, ...


def _without_some_layers(model: Path, out: Path) -> None:
    from safetensors.torch import load_file, save_file

    shutil.copytree(model, out)
    weights = load_file(model / "model.safetensors")
    zeroed = {name: weight * 0 if _OUT in name else weight for name, weight in weights.items()}
    save_file(zeroed, out / "model.safetensors", metadata={"format": "pt"})


class _Asker:
    """Asks the target in a version; what it says is kept."""

    def __init__(self, models: HttpModels, ref: Callable[[str], ModelRef]) -> None:
        self.models, self.ref = models, ref
        self.said: list[dict[str, Any]] = []

    async def ask(self, version: str, when: str) -> str:
        try:
            reply = await self.models.complete(
                self.ref(version), [{"role": "user", "content": _QUESTION}], Sampling(max_tokens=12)
            )
            text = reply.completions[0].text
        except ModelUnavailable as error:
            text = f"unavailable: {error}"
        self.said.append({"when": when, "version": version, "said": text})
        print(json.dumps(self.said[-1], ensure_ascii=False), flush=True)
        return text

    async def serve(self, version: str, before: str) -> None:
        await self.models.serve(self.ref(version), self.ref(before))


async def _held(asker: _Asker, server: VllmServer) -> dict[str, bool]:
    """What must hold, and whether it does."""
    base = await asker.ask(BASE_VERSION, "at the start")
    change = asyncio.create_task(asker.serve("r1", BASE_VERSION))
    await asyncio.sleep(0.2)
    first = await asker.ask("r1", "in the middle of the change")
    await change
    early = await asker.ask(BASE_VERSION, "after it")
    await asker.serve(BASE_VERSION, BASE_VERSION)
    back = await asker.ask(BASE_VERSION, "changed back")
    await asker.serve("r1", BASE_VERSION)
    server.kill()
    away = await asker.ask("r1", "while the server is away")
    server.start()
    await asyncio.to_thread(server.wait)
    again = await asyncio.gather(*(asker.ask("r1", "started again") for _ in range(2)))
    return {
        "the two sets of weights answer differently": first != base,
        "an earlier version is not loaded for who merely asks": "has r1 by now" in early,
        "who publishes takes the server back": back == base,
        "a server that is away says so": away.startswith("unavailable"),
        "a server that was started again is given the weights": set(again) == {first},
    }


async def _shown(server: VllmServer, versions: Path) -> dict[str, Any]:
    endpoint = Endpoint((f"http://127.0.0.1:{server.port}/v1",), server.name, timeout_s=600, reloads=True)
    models = HttpModels(lambda model: versions / model.version if model.is_version else server.folder)
    asker = _Asker(models, lambda version: ModelRef("target", version, "run", endpoint=endpoint))
    started_s = time.monotonic()
    try:
        held = await _held(asker, server)
    finally:
        await models.close()
    return {"said": asker.said, "held": held, "seconds": time.monotonic() - started_s}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dir", type=Path, default=Path("runs/real-vllm-whole"))
    parser.add_argument("--python", type=Path, default=Path(".real/vllm/bin/python"), help="of vLLM's environment")
    told = parser.parse_args()
    model, folder = Path(".real/model").absolute(), told.dir.absolute()
    _without_some_layers(model, folder / "versions" / "r1")
    server = VllmServer(told.python.absolute(), model, "smollm2", _PORT, folder)
    try:
        server.start()
        print(f"vLLM answers after {server.wait():.0f} s", flush=True)
        summary = asyncio.run(_shown(server, folder / "versions"))
    finally:
        server.stop()
    (folder / "summary.json").write_text(json.dumps(summary, indent=2, ensure_ascii=False), encoding="utf-8")
    failed = [what for what, holds in summary["held"].items() if not holds]
    for what in failed:
        print(f"does not hold: {what}", file=sys.stderr)
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
