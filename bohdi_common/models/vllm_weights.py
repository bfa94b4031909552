"""Versions of a target on vLLM's servers as whole weights, which a server reads in place of those that it has.

A server has one set of weights at a time, and a name for it: `default` from its start on, any other once it is told so
(vLLM 0.32 and newer; VLLM_SERVER_DEV_MODE=1 brings the endpoints). The name given here is RUN/VERSION#CHANGE, CHANGE
being drawn anew for every change: a server that had one name before and after it answered had those weights all the
while, whoever else changes weights and however often it was started again.

A change says so first, by the name RUN/VERSION!CHANGE; whoever is killed within it leaves that, and the next to ask for
the version makes the change again. A lock in the run's folder of versions lets one at a time make changes. Whoever asks
takes a server forward to its version, after a new start say; back only who publishes versions, when one will not do.
"""

from __future__ import annotations

import asyncio
import fcntl
import logging
import secrets
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import openai
from openai import AsyncOpenAI

from bohdi_common.models.port import ModelRef

AT_START = "default"
LOCK = ".weights-are-changed"  # in the folder of the run's versions
_CHANGE_S = 900.0  # of large weights from a slow disk
_POLL_S = 0.2

_log = logging.getLogger("bohdi")


class NotChanged(Exception):
    """A server's weights could not be changed; the message says why, and what to do."""


def fits(name: str, model: ModelRef) -> bool:
    """Whether the weights of that name are those of `model`, a target in any version."""
    if name == AT_START:
        return not model.is_version
    return name.startswith(f"{model.run_id}/{model.version}#")


def _parts(name: str) -> tuple[str, str]:
    """Run and version of a name, changed to or being changed to; of the weights of the start two empty texts."""
    if name == AT_START:
        return "", ""
    run, _, version = name.partition("/")
    return run, version.partition("#")[0].partition("!")[0]


def _place(version: str) -> int:
    """In the order of a run's versions: base, r1, r2, ..."""
    return int(version[1:]) if version[1:].isdecimal() else 0


async def name_of(client: AsyncOpenAI) -> str:
    """What the server calls its weights. Raises NotChanged for a server that has no name for them, and what the client
    raises."""
    told = await _request(client, "GET", "/weight_info")
    if not isinstance(told, dict) or "weight_version" not in told:
        raise NotChanged("does not say which weights it has: check that the URL is that of a vLLM")
    return str(told["weight_version"])


async def change(client: AsyncOpenAI, model: ModelRef, folder: Path, lock: Path, back: bool = False) -> str:
    """Makes the server read the weights of `model` from `folder`, unless it has them; gives their name. Requests under
    way are answered before, by the old weights; those that come meanwhile wait. `back`: from a later version too.
    Raises NotChanged, and what the client raises."""
    async with _alone(lock):
        name = await name_of(client)
        if fits(name, model):
            return name
        run, version = _parts(name)
        if run not in ("", model.run_id):
            raise NotChanged(f"has weights of the run {run}: start it again, or give this run servers of its own")
        if not back and _place(version) > _place(model.version):
            raise NotChanged(f"has {version} by now: it is not asked for {model.version} any more")
        _log.warning("%s has the weights %s: loading those of %s", client.base_url, name, model.version)
        return await _changed(client, model, folder)


async def _changed(client: AsyncOpenAI, model: ModelRef, folder: Path) -> str:
    drawn = secrets.token_hex(8)
    name = f"{model.run_id}/{model.version}#{drawn}"
    await _request(client, "POST", "/update_weight_version", {"new_version": name.replace("#", "!")})
    await _request(client, "POST", "/pause?mode=wait")  # otherwise it cuts off what is under way
    try:
        await _read_in(client, folder)
        cleared = await _request(client, "POST", "/reset_prefix_cache")
        if not cleared["success"]:
            raise NotChanged("could not clear its prefix cache, which the old weights have made")
    except BaseException:
        with suppress(openai.OpenAIError, NotChanged):
            await _request(client, "POST", "/resume")
        raise
    await _request(client, "POST", "/resume")
    await _request(client, "POST", "/update_weight_version", {"new_version": name})
    return name


async def _read_in(client: AsyncOpenAI, folder: Path) -> None:
    """Where a folder cannot be read, vLLM may go on with the old weights, or its engine ends and the server with it."""
    call = {"method": "reload_weights", "kwargs": {"weights_path": str(folder.absolute())}}
    try:
        await _request(client, "POST", "/collective_rpc", call)
    except (openai.InternalServerError, openai.APIConnectionError) as error:
        raise NotChanged(f"could not read the weights in {folder}: it must see that folder ({error})") from None


async def _request(client: AsyncOpenAI, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
    """The JSON that an endpoint of the server itself, not below /v1, answers. Asked once: what was asked may go on."""
    url = f"{str(client.base_url).rstrip('/').removesuffix('/v1')}{path}"
    options: Any = {"timeout": _CHANGE_S, "max_retries": 0}
    try:
        if method == "GET":
            return await client.get(url, cast_to=object, options=options)
        return await client.post(url, cast_to=object, body=body, options=options)
    except openai.NotFoundError:
        raise NotChanged(
            f"has no {path.partition('?')[0]}: for a target that is trained whole it must be vLLM 0.32 or newer, "
            "started with VLLM_SERVER_DEV_MODE=1; or set training.lora_rank"
        ) from None


@asynccontextmanager
async def _alone(lock: Path) -> AsyncIterator[None]:
    """One at a time among all that see the file. Raises NotChanged when the one before takes too long."""
    lock.parent.mkdir(parents=True, exist_ok=True)
    with lock.open("ab") as file:
        until_s = time.monotonic() + _CHANGE_S
        while not _taken(file.fileno()):
            if time.monotonic() > until_s:
                raise NotChanged(f"somebody else has been changing weights for {_CHANGE_S:.0f} s ({lock})")
            await asyncio.sleep(_POLL_S)
        yield  # closing the file lets go


def _taken(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
