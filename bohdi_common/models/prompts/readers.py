"""What a chat model's reply says, whatever is around it: list marks, fences, labels, preambles, JSON or half of it.

Pure functions of the text. Where a reply can be read in two ways it is not read: a guess would be a name that nobody
proposed, or a vote that nobody cast. Only the first READ_CHARS characters are looked at.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

READ_CHARS = 20_000
REMARK = "a sentence, not a name"  # why a line is no name
_LINES = 200
_MARK = re.compile(r"^(?:[-*•·–—>]+\s+|\(?\d{1,3}[.):]\s*|#+\s+)+")
_QUOTES = "\"'`*_“”‘’«»„「」 \t"
_EXPLANATION = re.compile(r"\s+[-–—]+\s+|\s*[:：]\s+|\s+\(|\s+e\.g\.|\s+such as ")
_ONE_LINE_LIST = re.compile(r"\s*[,;，、；]\s*(?:and\s+)?")
_JOINED = re.compile(r"\s(?:and|&|or|y|e|et|und|и)\s", re.I)
_ITEM = re.compile(r'"([^"\\]{1,200})"\s*(?=[,\]])')
_WORDS = {
    kind: frozenset(words.split())
    for kind, words in yaml.safe_load((Path(__file__).parent / "words" / "replies.yaml").read_text("utf-8")).items()
}
_NAME_WORDS = 7
_SHORT_WORDS = 4
_FENCE = re.compile(r"```[a-zA-Z]*\n?|\n?```")
_LABEL = re.compile(
    r"^\W*(?:the\s+)?(?:exam\s+)?(?:question|q|pregunta|frage|domanda|вопрос)\s*(?:\d{1,3})?\s*[:：.)]\W*", re.I
)
_QUOTED = re.compile(r"[:：]\s*[\"“«](.+[?？؟])[\"”»]?$")
_ASKS = ("?", "？", "؟", "՞", ";")
_QUESTION_WORDS = 3
_ECHO_WORDS = 7
_WORD = re.compile(r"\w+")
_NONE = re.compile(
    r"^\W*(?:none|none of (?:them|these|the above|the answers)(?: is right| is correct| are correct)?|0)\W*$", re.I
)
_CHOICE = re.compile(r"^(?:-(?!\d)|[^\w-])*(?P<number>\d{1,2})(?!\w|[.,]\d)(?P<rest>.*)$", re.S)
_NUMBERS = ("one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
_SPELT = re.compile(rf"\b(?:answer|number|option|choice)(?: is)?:? ({'|'.join(_NUMBERS)})(?=[.,;!)\n]|$)", re.I)
_NUMBER = re.compile(r"(?<![\w.,-])(\d{1,2})(?![\w-]|[.,]\d)")


def names(text: str, cut: bool = False) -> list[str]:
    """Candidate names, in their order: a list of lines, of JSON, or of one line with commas; not yet checked. `cut`: it
    was the token limit that ended the text, and what stands there is no whole name."""
    text = _unfenced(_whole(text) if cut else text)
    strings = _json_value(text, "names")
    if strings is None and text.startswith(("{", "[")):  # cut off: what is whole in it
        strings = _ITEM.findall(text)
    if isinstance(strings, list):
        lines = [value for value in strings if isinstance(value, str)]
    else:
        lines = [line for line in text.splitlines() if line.strip()][:_LINES]
        lines = _apart(lines[0]) if len(lines) == 1 else [part for line in lines for part in _side_by_side(line)]
    found = (_name(line) for line in lines)
    return [name for name in found if name and not _NONE.match(name)]


def _whole(text: str) -> str:
    """What of a list that was cut is whole: all before its last line, or before a single line's last comma. Of half a
    JSON text the whole items are read anyway."""
    if text.lstrip().startswith(("{", "[", "```")):
        return text
    return text[: text.rfind("\n") + 1] or text[: max(text.rfind(mark) for mark in ",;，、；") + 1]


def _apart(line: str) -> list[str]:
    """The parts of a line that is a list with commas; else the line."""
    parts = _ONE_LINE_LIST.split(line)
    return parts if all(len(part.split()) <= _SHORT_WORDS for part in parts) else [line]


def _side_by_side(line: str) -> list[str]:
    """The names in a line of many that has several with commas between them, each with a capital; else the line: "Food,
    drink and tobacco" is one name, and what follows "Optics, the" explains it."""
    parts = _apart(_MARK.sub("", line.strip()))
    return [line] if any(part[:1].islower() or _JOINED.search(part) for part in parts) else parts


def why_no_name(name: str) -> str:
    """Why a line of a chat model is a remark and no name, beside what no domain may be called; empty for a name."""
    words = name.casefold().split()
    if len(words) > _NAME_WORDS or not _WORDS["remark"].isdisjoint(words):
        return REMARK
    return ""


def question(text: str, asked: str = "") -> str | None:
    """The question in a reply: the first paragraph that asks or orders something, without its label. None when there is
    none, or when it only says again what it was asked with (`asked`)."""
    text = _unfenced(text)
    value = _json_value(text, "question")
    paragraphs = [value] if isinstance(value, str) else re.split(r"\n\s*\n", text)
    for paragraph in paragraphs[:_LINES]:
        said = _MARK.sub("", _LABEL.sub("", " ".join(paragraph.split()))).strip(_QUOTES)
        if quoted := _QUOTED.search(said):
            said = quoted[1]
        if _asks(said) and not _echoes(said, asked):
            return said
    return None


def verdict(text: str, candidates: Sequence[str]) -> int | None:
    """Position in `candidates` of the answer that a judge chose by its number; None where none was, or not clearly."""
    text = _unfenced(text)
    value = _json_value(text, "best")
    if value is not None:
        return _position(value, len(candidates))
    first = next((line for line in text.splitlines() if line.strip()), "")
    if _NONE.match(first):
        return None
    choice = _CHOICE.match(first)
    if choice and not _numbers(choice["rest"]) - {int(choice["number"])}:
        return _position(int(choice["number"]), len(candidates))
    named = _numbers(text) | {1 + _NUMBERS.index(word.casefold()) for word in _SPELT.findall(text)}
    return _position(named.pop(), len(candidates)) if len(named) == 1 else None


def none_right(text: str) -> bool:
    """Whether a judge says that none of the answers is right, in so many words or by the number 0."""
    text = _unfenced(text)
    first = next((line for line in text.splitlines() if line.strip()), "")
    return bool(_NONE.match(first)) or _json_value(text, "best") == 0


def _numbers(text: str) -> set[int]:
    """All short numbers in a text, those that no answer has too: beside one of them no choice is clear."""
    return {int(number) for number in _NUMBER.findall(text)}


def _position(value: Any, candidates: int) -> int | None:
    number = int(value) if isinstance(value, str) and value.strip().isdecimal() else value
    return number - 1 if isinstance(number, int) and 1 <= number <= candidates else None


def _name(line: str) -> str:
    """The name in a line of a list; empty for what announces one."""
    bare = _MARK.sub("", line.strip()).strip(_QUOTES)
    if bare.endswith((":", "：")):
        return ""
    bare = _EXPLANATION.split(bare, maxsplit=1)[0].strip(_QUOTES)
    if " > " in bare:
        bare = bare.rsplit(" > ", 1)[1].strip(_QUOTES)
    return bare.rstrip(".,;。") if len(bare.split()) <= _SHORT_WORDS else bare


def _asks(said: str) -> bool:
    words = _WORD.findall(said.casefold())
    if not any(ch.isalpha() for ch in said) or said.endswith((":", "：")):
        return False
    spaced = said.isascii()  # a question of a script without spaces may be one word
    if any(mark in said for mark in _ASKS[:-1]) or said.endswith(_ASKS[-1]):
        return not spaced or len(words) >= _QUESTION_WORDS
    return len(words) >= _QUESTION_WORDS and (words[0] in _WORDS["order"] or words[0] in _WORDS["ask"])


def _echoes(said: str, asked: str) -> bool:
    """Whether so many words in a row are those of the request."""
    words, known = _WORD.findall(said.casefold()), f" {' '.join(_WORD.findall(asked.casefold()))} "
    runs = (" ".join(words[at : at + _ECHO_WORDS]) for at in range(len(words) - _ECHO_WORDS + 1))
    return any(f" {run} " in known for run in runs)


def _unfenced(text: str) -> str:
    """What is to be read: without code fences, from its first READ_CHARS characters."""
    return _FENCE.sub("\n", text[:READ_CHARS]).strip()


def _json_value(text: str, key: str) -> Any:
    """The value of `key` in the first JSON object of a text, or a list that stands there alone; None when none does."""
    for start in (text.find("{"), text.find("[")):
        if start < 0:
            continue
        try:
            value, _ = json.JSONDecoder().raw_decode(text, start)
        except (ValueError, RecursionError):
            continue
        if isinstance(value, dict) and key in value:
            return value[key]
        if isinstance(value, list) and key == "names" and value and all(isinstance(item, str) for item in value):
            return value
    return None
