"""Replies of a real model that were labelled by reading them (labelled.jsonl says how), and what the parser makes of
each."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from bohdi_common.core import names
from bohdi_common.models import prompts
from tests.real.outputs import valid

FILE = Path(__file__).with_name("labelled.jsonl")


def labelled() -> list[dict[str, Any]]:
    """All labelled replies; the file's first line is about them."""
    lines = FILE.read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines[1:]]


def read(reply: dict[str, Any]) -> list[str] | str | int | None:
    """What a run would take the reply for, in the form of a label. Of names all are read, though there may be more than
    were asked for."""
    prompt = prompts.load(reply["prompts"])
    match reply["kind"]:
        case "propose":
            first: dict[str, str] = {}
            for name in valid(reply | {"most": None}, prompt):
                first.setdefault(names.key(name), name)
            return list(first.values())
        case "verdict":
            good = valid(reply, prompt)
            return None if not good else good[0] if good[0] == "none" else int(good[0])
    return next(iter(valid(reply, prompt)), None)
