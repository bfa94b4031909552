"""The one place where an adapter of the chat-model port is chosen."""

from __future__ import annotations

import asyncio
import os

from bohdi_common.models.places import FolderOf
from bohdi_common.models.port import ChatModels, Message, ModelRef, Reply, Sampling


def models(folder_of: FolderOf) -> ChatModels:
    """Every model by its own adapter."""
    return _ByAdapter(folder_of)


class _ByAdapter:
    """Models behind servers, and models in this process. An adapter is imported and made when a model of its kind is
    asked first, beside the event loop: torch takes seconds, and a service whose models are all behind servers has
    none."""

    def __init__(self, folder_of: FolderOf) -> None:
        self._folder_of = folder_of
        self._local: ChatModels | None = None
        self._http: ChatModels | None = None
        self._making = asyncio.Lock()

    async def complete(self, model: ModelRef, messages: list[Message], sampling: Sampling) -> Reply:
        """See the port."""
        adapter = await self._adapter(model)
        return await adapter.complete(model, messages, sampling)

    async def serve(self, model: ModelRef, before: ModelRef) -> None:
        """See the port."""
        adapter = await self._adapter(model)
        await adapter.serve(model, before)

    async def close(self) -> None:
        """See the port."""
        for adapter in (self._local, self._http):
            if adapter is not None:
                await adapter.close()

    async def _adapter(self, model: ModelRef) -> ChatModels:
        async with self._making:
            if model.endpoint is not None:
                if self._http is None:
                    self._http = await asyncio.to_thread(_http_models, self._folder_of)
                return self._http
            if self._local is None:
                await asyncio.to_thread(_import_local)
                # Not in that thread: whether denormals are flushed is each thread's own, and new ones have it from the
                # one that makes them.
                self._local = _local_models(self._folder_of)
            return self._local


def _local_models(folder_of: FolderOf) -> ChatModels:
    """Models in this process by transformers."""
    prepare_torch()
    from bohdi_common.models.local import LocalModels

    return LocalModels(folder_of)


def _import_local() -> None:
    prepare_torch()
    import bohdi_common.models.local  # noqa: F401


def _http_models(folder_of: FolderOf) -> ChatModels:
    from bohdi_common.models.http import HttpModels

    return HttpModels(folder_of)


def prepare_torch() -> None:
    """What every process with torch in it sets before anything else."""
    os.environ.setdefault("HF_HUB_OFFLINE", "1")  # every model is a folder; nothing is ever asked of the network
    import torch

    torch.set_num_threads(1)  # two were up to 15 times slower where cores are shared
    torch.set_flush_denormal(True)
