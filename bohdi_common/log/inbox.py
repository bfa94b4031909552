"""The command inbox: a spool folder by which other processes hand records to the host, the log's only writer.

A command is one file: a line with the CRC-32 of the rest, a line of JSON with the record's topic, key and event id,
and the record's value. File names sort in the order of putting.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import secrets
import time
from pathlib import Path
from zlib import crc32

from bohdi_common.log.port import EventLog, LogError, Record

COMMANDS_MAX = 1000
COMMANDS_TAKEN_MAX = 100  # At a time, so that the host holds at most 100 MiB of them.
COMMAND_BYTES_MAX = 1024 * 1024
SUFFIX = ".command"
REFUSED = "refused"  # Folder inside the inbox for files that are no commands.

_logger = logging.getLogger(__name__)


def put(folder: Path, record: Record) -> Path:
    """Leaves `record` for the host and gives the file that holds it; survives a power cut once it returns.

    Raises LogError if the inbox is full, the record over COMMAND_BYTES_MAX, or the folder cannot be written; ValueError
    if a text of the record has no UTF-8."""
    content = _encode(record)
    if len(content) > COMMAND_BYTES_MAX:
        raise LogError(f"{folder}: a command of {len(content)} bytes is over the limit of {COMMAND_BYTES_MAX}")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if len(_waiting(folder)) >= COMMANDS_MAX:
            raise LogError(f"{folder}: {COMMANDS_MAX} commands wait already; start the run's host, which takes them")
        path = folder / f"{time.time_ns():020d}-{os.getpid()}-{secrets.token_hex(4)}{SUFFIX}"
        aside = path.with_suffix(".part")
        with aside.open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        aside.rename(path)
        _sync_folder(folder)
    except OSError as error:
        raise LogError(f"{folder}: the command cannot be left there ({error})") from error
    return path


def take(folder: Path) -> list[tuple[Path, Record]]:
    """The commands that wait, in order, at most COMMANDS_TAKEN_MAX; removes none.

    Files that are no commands are moved into REFUSED, with a warning. Raises LogError if the folder cannot be read or
    written."""
    taken: list[tuple[Path, Record]] = []
    try:
        for path in _waiting(folder)[:COMMANDS_TAKEN_MAX]:
            try:
                taken.append((path, _decode(_content(path))))
            except (ValueError, RecursionError) as error:  # JSON can be too deep.
                _refuse(path, error)
    except OSError as error:
        raise LogError(f"{folder}: the inbox cannot be read ({error})") from error
    return taken


async def drain(folder: Path, log: EventLog) -> int:
    """Appends the commands that `take` gives and returns their number; removes each once `log` has it for good.

    A crash between the two repeats the append, which the event id makes harmless. Raises LogError; the command that
    failed and those behind it go on waiting."""
    commands = await asyncio.to_thread(take, folder)
    for path, record in commands:
        await log.append([record])
        path.unlink(missing_ok=True)
    return len(commands)


def _waiting(folder: Path) -> list[Path]:
    """Command files in the order of putting; none if the folder is not there yet."""
    return sorted(folder.glob(f"*{SUFFIX}")) if folder.is_dir() else []


def _content(path: Path) -> bytes:
    """The file's bytes. Raises ValueError if it is no plain file or too long."""
    if path.is_symlink() or not path.is_file():
        raise ValueError("not a plain file")
    with path.open("rb") as file:
        content = file.read(COMMAND_BYTES_MAX + 1)
    if len(content) > COMMAND_BYTES_MAX:
        raise ValueError(f"over {COMMAND_BYTES_MAX} bytes")
    return content


def _encode(record: Record) -> bytes:
    header = json.dumps({"topic": record.topic, "key": record.key, "event_id": record.event_id}, ensure_ascii=False)
    body = header.encode() + b"\n" + record.value
    return b"%08x\n" % crc32(body) + body


def _decode(content: bytes) -> Record:
    """The record of a command file. Raises ValueError if it is none, or is not as it was written."""
    checksum, _, body = content.partition(b"\n")
    if checksum != b"%08x" % crc32(body):
        raise ValueError("not a command, or damaged")
    header, _, value = body.partition(b"\n")
    fields = json.loads(header)
    names = ["topic", "key", "event_id"]
    if not isinstance(fields, dict) or list(fields) != names:
        raise ValueError(f"its header is not an object of {', '.join(names)}")
    for text in fields.values():
        if not isinstance(text, str):
            raise ValueError(f"its header holds {text!r}, which is no text")
        text.encode()  # JSON can spell a lone surrogate, which no log takes: a ValueError.
    return Record(value=value, **fields)


def _refuse(path: Path, reason: Exception) -> None:
    refused = path.parent / REFUSED
    refused.mkdir(exist_ok=True)
    path.rename(refused / path.name)
    _logger.warning("%s: no command (%s); moved to %s", path, reason, refused)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
