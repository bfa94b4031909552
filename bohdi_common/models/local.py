"""The chat-model port on transformers: models in this process, the requests of concurrent callers in one batch.

A request waits a few milliseconds for others to the same model with the same sampling; then one worker thread
generates for all of them, left-padded. On a model of 0.2M parameters a step costs about the same for one row as for
thirty, which is where the throughput comes from. One thread, not one a model: generation at this size is half Python,
so a second one waits for the first at the interpreter's lock. On two cores it made 80 callers asking 4 models at once
a tenth faster when the cores were idle, and a third slower when they were not.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Event
from typing import Any, Literal

import torch
from jinja2 import TemplateError
from transformers import GenerationConfig, StoppingCriteria, StoppingCriteriaList

from bohdi_common.models.huggingface import load_model, load_tokenizer, positions_of
from bohdi_common.models.port import Completion, Message, ModelRef, ModelRefused, ModelUnavailable, Reply, Sampling
from bohdi_common.models.versions import is_adapter

# What one batch may take, prompt, padding and completion together: it bounds the key-value cache.
MAX_PADDED_TOKENS = 32_768
# Requests held at once; further callers wait at the door.
MAX_HELD = 4_096
MAX_LOADED = 8
# Of one name: requests made under the version before a promotion may still be on their way.
MAX_VERSIONS = 2


@dataclass(frozen=True, eq=False)
class _Request:
    messages: list[Message]
    sampling: Sampling
    reply: asyncio.Future[Reply]
    asked_s: float


@dataclass(frozen=True)
class _Loaded:
    model: Any
    tokenizer: Any
    positions: int | None
    ends: tuple[int, ...]


@dataclass(frozen=True)
class _Row:
    """One completion to generate: for which request of the job, its prompt, and how many new tokens it may have."""

    request: int
    prompt: list[int]
    room: int


class LocalModels:
    """Models in this process, each loaded from `folder_of(model)` when it is first asked and kept within bounds."""

    def __init__(
        self,
        folder_of: Callable[[ModelRef], Path],
        *,
        gather_ms: float = 3.0,
        max_batch: int = 128,
        device: Literal["auto", "cpu", "cuda"] = "auto",
    ) -> None:
        self._folder_of = folder_of
        self._gather_s = gather_ms / 1000
        self._max_batch = max_batch
        self._device = ("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device
        self._waiting: dict[ModelRef, list[_Request]] = {}
        self._serving: dict[ModelRef, asyncio.Task[None]] = {}
        self._held: set[_Request] = set()
        self._door = asyncio.Semaphore(MAX_HELD)
        self._turn = asyncio.Lock()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="local-models")
        self._loaded: OrderedDict[ModelRef, _Loaded] = OrderedDict()
        self._closing = Event()

    async def complete(self, model: ModelRef, messages: list[Message], sampling: Sampling) -> Reply:
        """See the port. `seconds` counts from the call to the reply, waiting included."""
        asked_s = time.monotonic()
        async with self._door:
            if self._closing.is_set():
                raise ModelUnavailable("the local models are closed")
            request = _Request(model.told(messages), sampling, asyncio.get_running_loop().create_future(), asked_s)
            self._held.add(request)
            self._waiting.setdefault(model, []).append(request)
            if model not in self._serving:
                self._serving[model] = asyncio.create_task(self._serve(model))
            try:
                return await request.reply
            finally:
                self._held.discard(request)

    async def serve(self, model: ModelRef, before: ModelRef) -> None:
        """See the port. A version is loaded when it is first asked."""

    async def close(self) -> None:
        """See the port. Returns once the worker thread has left the token it was at."""
        self._closing.set()
        self._waiting.clear()
        for request in self._held:
            _fail(request, ModelUnavailable("the local models were closed"))
        await asyncio.gather(*self._serving.values(), return_exceptions=True)
        self._thread.shutdown()
        self._loaded.clear()

    async def _serve(self, model: ModelRef) -> None:
        """Answers what waits for `model`, batch after batch, until nothing does."""
        try:
            while self._waiting.get(model):
                await asyncio.sleep(self._gather_s)
                async with self._turn:
                    await self._answer(model, self._take(model))
        finally:
            del self._serving[model]

    def _take(self, model: ModelRef) -> list[_Request]:
        """Removes from the queue the requests that share the oldest one's sampling, `max_batch` rows at most."""
        waiting = [r for r in self._waiting.pop(model, []) if not r.reply.done()]
        taken: list[_Request] = []
        left: list[_Request] = []
        rows = 0
        for request in waiting:
            fits = not taken or rows + request.sampling.n <= self._max_batch
            if fits and replace(request.sampling, n=1) == replace(waiting[0].sampling, n=1):
                taken.append(request)
                rows += request.sampling.n
            else:
                left.append(request)
        if left:
            self._waiting[model] = left
        return taken

    async def _answer(self, model: ModelRef, requests: list[_Request]) -> None:
        """Generates in a worker thread and hands every request its reply or its own error."""
        if not requests:
            return
        try:
            loop = asyncio.get_running_loop()
            outcomes = await loop.run_in_executor(self._thread, self._generate, model, requests)
        except Exception as error:
            outcomes = [ModelUnavailable(f"{model.name}: {error}")] * len(requests)
        for request, outcome in zip(requests, outcomes, strict=True):
            if isinstance(outcome, Exception):
                _fail(request, outcome)
            elif not request.reply.done():
                request.reply.set_result(outcome)

    # ---- in the worker thread ----

    def _generate(self, model: ModelRef, requests: Sequence[_Request]) -> list[Reply | Exception]:
        """One outcome per request, in order. A request that fails by itself takes no other one with it."""
        loaded = self._load(model)
        prompts: dict[int, list[int]] = {}
        failed: dict[int, Exception] = {}
        for i, request in enumerate(requests):
            try:
                prompts[i] = _prompt(loaded, request.messages)
            except ModelRefused as error:
                failed[i] = error
        rows = [
            _Row(i, prompt, _room(loaded, prompt, requests[i].sampling))
            for i, prompt in prompts.items()
            for _ in range(requests[i].sampling.n)
        ]
        completions: list[list[Completion]] = [[] for _ in requests]
        for batch in batches(rows, self._max_batch, MAX_PADDED_TOKENS):
            try:
                for row, completion in zip(batch, self._batch(loaded, batch, requests[0].sampling), strict=True):
                    completions[row.request].append(completion)
            except Exception as error:
                failed |= {row.request: ModelUnavailable(f"{model.name}: {error}") for row in batch}
        now_s = time.monotonic()
        return [
            failed[i] if i in failed else Reply(tuple(completions[i]), len(prompts[i]), now_s - request.asked_s)
            for i, request in enumerate(requests)
        ]

    def _batch(self, loaded: _Loaded, rows: Sequence[_Row], sampling: Sampling) -> list[Completion]:
        """One completion per row; all rows have the same room."""
        width = max(len(row.prompt) for row in rows)
        pad = loaded.tokenizer.pad_token_id
        ids = torch.tensor([[pad] * (width - len(row.prompt)) + row.prompt for row in rows])
        mask = torch.tensor([[0] * (width - len(row.prompt)) + [1] * len(row.prompt) for row in rows])
        halts: list[StoppingCriteria] = [_Closing(self._closing)]
        if sampling.stop:
            halts.append(_Stops(loaded.tokenizer, sampling.stop, width))
        out = loaded.model.generate(
            input_ids=ids.to(self._device),
            attention_mask=mask.to(self._device),
            generation_config=_config(loaded, sampling, rows[0].room),
            stopping_criteria=StoppingCriteriaList(halts),
        )
        if self._closing.is_set():
            raise ModelUnavailable("the local models were closed")
        return [_completion(loaded, tokens, sampling) for tokens in out[:, width:].tolist()]

    def _load(self, model: ModelRef) -> _Loaded:
        """The model, from memory or its folder. Raises what transformers raises for a folder that it cannot load."""
        if model not in self._loaded:
            folder = self._folder_of(model)
            tokenizer = load_tokenizer(folder)
            dtype = torch.bfloat16 if self._device == "cuda" else torch.float32
            base = self._folder_of(replace(model, version="")) if is_adapter(folder) else None
            network = load_model(folder, dtype, base)
            self._make_room(model.name)
            self._loaded[model] = _prepared(network.to(self._device).eval(), tokenizer)
        self._loaded.move_to_end(model)
        return self._loaded[model]

    def _make_room(self, name: str) -> None:
        """Drops what was used longest ago, so that one more model of this name can be kept."""
        versions = [ref for ref in self._loaded if ref.name == name]
        for ref in versions[: max(0, len(versions) - MAX_VERSIONS + 1)]:
            del self._loaded[ref]
        while len(self._loaded) >= MAX_LOADED:
            self._loaded.popitem(last=False)


def batches(rows: Sequence[_Row], max_rows: int, max_padded_tokens: int) -> Iterator[list[_Row]]:
    """`rows` in batches of equal room and like length: `max_rows` and `max_padded_tokens` at most, one row at least."""
    batch: list[_Row] = []
    for row in sorted(rows, key=lambda r: (r.room, len(r.prompt))):
        padded_tokens = (len(batch) + 1) * (len(row.prompt) + row.room)
        if batch and (len(batch) == max_rows or batch[0].room != row.room or padded_tokens > max_padded_tokens):
            yield batch
            batch = []
        batch.append(row)
    if batch:
        yield batch


class _Closing(StoppingCriteria):
    """Halts every row once `closing` is set."""

    def __init__(self, closing: Event) -> None:
        self._closing = closing

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor, **_: Any) -> torch.Tensor:
        return input_ids.new_full((len(input_ids),), self._closing.is_set(), dtype=torch.bool)


class _Stops(StoppingCriteria):
    """Halts a row once one of the `stops` is in what it wrote after the first `width` tokens."""

    def __init__(self, tokenizer: Any, stops: Sequence[str], width: int) -> None:
        self._tokenizer = tokenizer
        self._stops = stops
        self._width = width
        # No token is shorter than a byte, but for special ones; the slack is for those and a decoder's first space.
        self._window = max(len(stop.encode()) for stop in stops) + 8

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor, **_: Any) -> torch.Tensor:
        start = max(self._width, input_ids.shape[1] - self._window)
        tails = self._tokenizer.batch_decode(input_ids[:, start:], skip_special_tokens=True)
        halted = [any(stop in tail for stop in self._stops) for tail in tails]
        return torch.tensor(halted, device=input_ids.device)


def _prepared(model: Any, tokenizer: Any) -> _Loaded:
    """`model` with nothing of its own to say about sampling (a top_k, a repetition penalty): the caller says it."""
    own = model.generation_config.eos_token_id
    ends = {tokenizer.eos_token_id, *(own if isinstance(own, list) else [own])} - {None}
    model.generation_config = GenerationConfig(eos_token_id=sorted(ends), pad_token_id=tokenizer.pad_token_id)
    return _Loaded(model, tokenizer, positions_of(model), tuple(sorted(ends)))


def _prompt(loaded: _Loaded, messages: list[Message]) -> list[int]:
    """The prompt's token ids. Raises ModelRefused for messages that this model can never be given."""
    try:
        text = loaded.tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    except TemplateError as error:
        raise ModelRefused(f"the chat template refuses the messages: {error}") from error
    ids: list[int] = loaded.tokenizer(text, add_special_tokens=False)["input_ids"]
    if not ids:
        raise ModelRefused("the prompt is empty")
    if loaded.positions is not None and len(ids) >= loaded.positions:
        raise ModelRefused(
            f"the prompt has {len(ids)} tokens, and the model takes {loaded.positions}, its answer's too"
        )
    return ids


def _room(loaded: _Loaded, prompt: list[int], sampling: Sampling) -> int:
    """How many new tokens fit, in tokens."""
    return sampling.max_tokens if loaded.positions is None else min(sampling.max_tokens, loaded.positions - len(prompt))


def _config(loaded: _Loaded, sampling: Sampling, room: int) -> GenerationConfig:
    if sampling.temperature == 0:
        return GenerationConfig(max_new_tokens=room, do_sample=False)
    return GenerationConfig(
        max_new_tokens=room, do_sample=True, temperature=sampling.temperature, top_p=sampling.top_p, top_k=0
    )


def _completion(loaded: _Loaded, tokens: list[int], sampling: Sampling) -> Completion:
    """The text up to the model's end token or the first stop string, whichever comes first, neither included."""
    length = next((i for i, token in enumerate(tokens) if token in loaded.ends), len(tokens))
    text = loaded.tokenizer.decode(tokens[:length], skip_special_tokens=True)
    cut = min((at for stop in sampling.stop if (at := text.find(stop)) >= 0), default=None)
    if cut is not None:
        return Completion(text[:cut], "stop", _tokens_until_stop(loaded, tokens[:length], sampling.stop))
    return Completion(text, "stop" if length < len(tokens) else "length", length)


def _tokens_until_stop(loaded: _Loaded, tokens: list[int], stops: Sequence[str]) -> int:
    """How many of `tokens` were written when the first of `stops` was complete: later ones are padding."""
    for length in range(1, len(tokens)):
        text = loaded.tokenizer.decode(tokens[:length], skip_special_tokens=True)
        if any(stop in text for stop in stops):
            return length
    return len(tokens)


def _fail(request: _Request, error: Exception) -> None:
    if not request.reply.done():
        request.reply.set_exception(error)
