"""A server that speaks OpenAI's chat completions, for tests: the protocol and its faults are true, the models are not.

What it says comes from a function that the test gives; what goes wrong, from a list of faults or a share of the calls
by a seed. Adapters are loaded and unloaded as by vLLM, and so are whole weights. `python -m tests.stub_server
NAME=FOLDER ...` serves real model folders of the micro-world instead.
"""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections import Counter, deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aiohttp import web

Say = Callable[[str, list[dict[str, str]], dict[str, Any]], Awaitable[list[str]]]  # model, messages, the whole request

SLOW_S = 5.0
FAULTS = ("slow", "429", "500", "cut", "half", "fewer", "more")
HARMLESS = frozenset({"slow", "more"})  # a caller has its answer all the same; the others cost it one more request


@dataclass
class Stub:
    """`faults`: what befalls the next calls, one each, "" for nothing; after them a `share` of the calls, one of
    `befall` by the seed. A fault is a status, or `cut` (the connection), `html`, `half` (of the JSON), `none`, `fewer`
    or `more` (completions than asked for), `slow`, `abort` or `error` (the answer ends early). `key`: what callers must
    bring, if anything. `dev`: as under VLLM_SERVER_DEV_MODE=1, with endpoints that change the weights (`say` sees their
    folder in `weights`) and a prefix cache, which keeps whole answers."""

    say: Say
    key: str = ""
    models: tuple[str, ...] = ("stub",)
    refuses: str = ""  # what is said to every request, with a 400, as by a server that has no chat template
    max_lora_rank: int = 16
    dev: bool = False
    context: int = 0  # that the list of models tells; 0: it does not
    share: float = 0.0
    befall: tuple[str, ...] = ("500", "429", "cut", "half")
    seed: int = 0
    retry_after: str = "0.01"
    slow_s: float = SLOW_S
    faults: deque[str] = field(default_factory=deque)
    calls: Counter[str] = field(default_factory=Counter)  # requests by model
    befallen: Counter[str] = field(default_factory=Counter)
    adapters: dict[str, Path] = field(default_factory=dict)  # folder by name
    changes: list[str] = field(default_factory=list)  # of the adapters: `load NAME`, `unload NAME`
    weights: Path | None = None  # of a reload
    weight_version: str = "default"
    cache: dict[str, list[str]] = field(default_factory=dict)
    unpaused: asyncio.Event = field(default_factory=asyncio.Event)
    requests: list[dict[str, Any]] = field(default_factory=list)  # bodies, the last thousand
    at_once: int = 0
    most_at_once: int = 0

    def __post_init__(self) -> None:
        self._random = random.Random(self.seed)
        self.unpaused.set()
        self._working: set[asyncio.Task[Any]] = set()  # requests under way

    def restart(self) -> None:
        """As after a crash and a start: the weights of the start, no adapters, nothing paused."""
        self.adapters.clear()
        self.cache.clear()
        self.weights, self.weight_version = None, "default"
        self.unpaused.set()

    @asynccontextmanager
    async def serving(self, port: int = 0) -> AsyncIterator[str]:
        """The base URL, on loopback."""
        app = web.Application(client_max_size=64 << 20)
        app.router.add_post("/v1/chat/completions", self._completions)
        app.router.add_get("/v1/models", self._list)
        app.router.add_post("/v1/load_lora_adapter", self._load)
        app.router.add_post("/v1/unload_lora_adapter", self._unload)
        if self.dev:
            app.router.add_get("/weight_info", self._weight_info)
            for path, does in (
                ("/update_weight_version", self._update_weight_version),
                ("/pause", self._pause),
                ("/resume", self._resume),
                ("/collective_rpc", self._collective_rpc),
                ("/reset_prefix_cache", self._reset_prefix_cache),
            ):
                app.router.add_post(path, does)
        runner = web.AppRunner(app, shutdown_timeout=0.1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", port)
        await site.start()
        try:
            yield f"http://127.0.0.1:{runner.addresses[0][1]}/v1"
        finally:
            await runner.cleanup()

    async def _list(self, request: web.Request) -> web.Response:
        if not self._knows_key(request):
            return _error(401, "Incorrect API key provided: sk-wrong")
        told = {"object": "model"} | ({"max_model_len": self.context} if self.context else {})
        names = [*self.models, *self.adapters]
        return web.json_response({"object": "list", "data": [{"id": name} | told for name in names]})

    def _knows_key(self, request: web.Request) -> bool:
        return not self.key or request.headers.get("Authorization") == f"Bearer {self.key}"

    async def _load(self, request: web.Request) -> web.Response:
        """With vLLM's statuses and texts."""
        body = await request.json()
        name, folder = body["lora_name"], Path(body["lora_path"])
        if name in self.adapters:
            return _error(
                400,
                f"The lora adapter '{name}' has already been loaded. If you want to load the adapter in place, set "
                "'load_inplace' to True.",
            )
        if not (folder / "adapter_config.json").is_file():
            return _error(404, f"Loading lora {name} failed: No adapter found for {folder}")
        rank = json.loads((folder / "adapter_config.json").read_bytes())["r"]
        if rank > self.max_lora_rank:
            return _error(500, f"LoRA rank {rank} is greater than max_lora_rank {self.max_lora_rank}.")
        self.adapters[name] = folder
        self.changes.append(f"load {name}")
        return web.Response(text=f"Success: LoRA adapter '{name}' added successfully.")

    async def _unload(self, request: web.Request) -> web.Response:
        name = (await request.json())["lora_name"]
        if self.adapters.pop(name, None) is None:
            return _error(404, f"The lora adapter '{name}' cannot be found.")
        self.changes.append(f"unload {name}")
        return web.Response(text=f"Success: LoRA adapter '{name}' removed successfully.")

    async def _weight_info(self, request: web.Request) -> web.Response:
        return web.json_response({"weight_version": self.weight_version})

    async def _update_weight_version(self, request: web.Request) -> web.Response:
        self.weight_version = (await request.json())["new_version"]
        return web.json_response({"success": True, "new_version": self.weight_version})

    async def _pause(self, request: web.Request) -> web.Response:
        """New requests wait from here on; those under way are waited for, or cut off, as by default."""
        self.unpaused.clear()
        mode = request.query.get("mode", "abort")
        self.changes.append(f"pause {mode}")
        if mode == "abort":
            for task in self._working:
                task.cancel()
        while self._working:
            await asyncio.sleep(0.01)
        self.cache.clear()
        return web.json_response({"status": "paused"})

    async def _resume(self, request: web.Request) -> web.Response:
        self.unpaused.set()
        self.changes.append("resume")
        return web.json_response({"status": "resumed"})

    async def _collective_rpc(self, request: web.Request) -> web.Response:
        body = await request.json()
        if body["method"] != "reload_weights":
            return _error(500, f"no method {body['method']}")
        folder = Path(body["kwargs"]["weights_path"])
        await asyncio.sleep(0.05)  # a reader of weights is not the fastest
        if not (folder / "config.json").is_file():
            return _error(500, "EngineCore encountered an issue. See stack trace for the root cause.")
        self.weights = folder
        self.changes.append(f"reload {folder.name}")
        return web.json_response({"results": [None]})

    async def _reset_prefix_cache(self, request: web.Request) -> web.Response:
        if not self._working:
            self.cache.clear()
        return web.json_response({"success": not self._working})

    async def _completions(self, request: web.Request) -> web.StreamResponse:
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            await self.unpaused.wait()
            return await self._answered(request)
        finally:
            self.at_once -= 1

    async def _answered(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        self.calls[body["model"]] += 1
        self.requests = [*self.requests[-999:], body]
        if not self._knows_key(request):
            return _error(401, "Incorrect API key provided: sk-wrong")
        if body["model"] not in (*self.models, *self.adapters):
            return _error(404, f"The model `{body['model']}` does not exist.")
        if self.refuses:
            return _error(400, self.refuses)
        fault = self._fault()
        if fault == "slow":
            await asyncio.sleep(self.slow_s)
        if fault.isdecimal():
            headers = {"Retry-After": self.retry_after} if fault == "429" else {}
            return _error(int(fault), f"a fault of {fault} on demand", headers)
        if fault == "html":
            return web.Response(text="<html><body>Welcome!</body></html>", content_type="text/html")
        if fault == "cut":
            assert request.transport is not None
            request.transport.abort()
            return web.Response()
        texts = await self._said(body)
        completion = _completion(body, _so_many(texts, fault))
        if fault in ("abort", "error") or len(texts) < body.get("n", 1):
            end = fault if fault == "error" else "abort"
            completion["choices"] = [{**choice, "finish_reason": end} for choice in completion["choices"]]
        given = web.json_response(completion)
        if fault == "half":
            return web.Response(text=given.text[: len(given.text or "") // 2], content_type="application/json")
        return given

    async def _said(self, body: dict[str, Any]) -> list[str]:
        """By the models, or by the cache; what `abort` cuts off is empty."""
        asked = json.dumps([body["model"], body["messages"]])
        if asked in self.cache:
            return self.cache[asked]
        saying = asyncio.ensure_future(self.say(body["model"], body["messages"], body))
        self._working.add(saying)
        try:
            said = await saying
        except asyncio.CancelledError:
            return [""]
        finally:
            self._working.discard(saying)
        if self.dev:
            self.cache[asked] = said
        return said

    def _fault(self) -> str:
        fault = ""
        if self.faults:
            fault = self.faults.popleft()
        elif self.share and self._random.random() < self.share:
            fault = self._random.choice(self.befall)
        self.befallen[fault] += bool(fault)
        return fault


def _so_many(texts: list[str], fault: str) -> list[str]:
    """Of one completion `fewer` is none."""
    match fault:
        case "none":
            return []
        case "fewer":
            return texts[: min(1, len(texts) - 1)]
        case "more":
            return [*texts, *texts[:1]]
    return texts


def _error(status: int, message: str, headers: dict[str, str] | None = None) -> web.Response:
    return web.json_response({"error": {"message": message, "type": "stub"}}, status=status, headers=headers)


def _token(word: str) -> dict[str, Any]:
    """The longer a word, the less probable."""
    return {"token": word, "logprob": -len(word) / 4, "bytes": None, "top_logprobs": []}


def _completion(body: dict[str, Any], texts: list[str]) -> dict[str, Any]:
    """A token is a word; what has more of them than max_tokens is cut."""
    limit = body.get("max_tokens") or 1_000_000
    words = [text.split(" ") for text in texts]
    choices = [
        {
            "index": index,
            "message": {"role": "assistant", "content": text if len(said) <= limit else " ".join(said[:limit])},
            "finish_reason": "stop" if len(said) <= limit else "length",
            "logprobs": {"content": [_token(word) for word in said[:limit]]} if body.get("logprobs") else None,
        }
        for index, (text, said) in enumerate(zip(texts, words, strict=True))
    ]
    prompt = sum(len(message["content"].split()) for message in body["messages"])
    completion = sum(min(len(said), limit) for said in words)
    usage = {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}
    return {
        "id": "stub", "object": "chat.completion", "created": int(time.time()), "model": body["model"],
        "choices": choices, "usage": usage,
    }  # fmt: skip
