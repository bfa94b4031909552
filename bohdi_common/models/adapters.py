"""The one place where an adapter of the chat-model port is chosen."""

from __future__ import annotations

import os

from bohdi_common.models.places import FolderOf
from bohdi_common.models.port import ChatModels


def local_models(folder_of: FolderOf) -> ChatModels:
    """Models in this process by transformers. Imports torch: seconds, so only when needed."""
    prepare_torch()
    from bohdi_common.models.local import LocalModels

    return LocalModels(folder_of)


def prepare_torch() -> None:
    """What every process with torch in it sets before anything else."""
    os.environ.setdefault("HF_HUB_OFFLINE", "1")  # every model is a folder; nothing is ever asked of the network
    import torch

    torch.set_num_threads(1)  # two were up to 15 times slower where cores are shared
    torch.set_flush_denormal(True)
