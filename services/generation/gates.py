"""Decontamination: nothing of a benchmark enters the training data. And what every gate says when it refuses."""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any

_WORD = re.compile(r"\w+", re.UNICODE)
NGRAM_WORDS = 13  # as in the common practice of decontamination: long enough not to hit phrases of everyday language
SHORTEST_WORDS = 8  # a benchmark's question of fewer words may well be part of a longer one that asks something else
_REFUSED_CHARS = 500
_HASH_BYTES = 8


class BadBenchmark(ValueError):
    """A benchmark file that cannot be read. The message names file and line."""


def refusal(what: str, model: str, gate: str, reason: str, text: str, like: str = "") -> dict[str, Any]:
    """A Refusal of the proto; `text` is one that an event can hold."""
    return {"what": what, "model": model, "gate": gate, "reason": reason, "text": text[:_REFUSED_CHARS], "like": like}


@dataclass(frozen=True)
class Decontamination:
    """Refuses a question that a benchmark holds: the same words in the same order, or one of `ngrams` in it, which are
    hashes of so many words in a row as `lengths` says. A question costs its own words times the lengths, whatever the
    benchmarks hold."""

    questions: frozenset[int]
    ngrams: frozenset[int]
    lengths: tuple[int, ...]

    def refuses(self, question: str) -> bool:
        words = _words(question)
        if _hash(words) in self.questions:
            return True
        return any(ngram in self.ngrams for length in self.lengths for ngram in _ngrams(words, length))


@functools.lru_cache(maxsize=8)
def decontamination(files: tuple[Path, ...], words: int = 0) -> Decontamination:
    """The gate for these JSON-lines files, each line an object with a "question". `words` in a row are too many; a
    benchmark's question of fewer, but at least SHORTEST_WORDS, is refused where it stands in another whole. 0: words
    are NGRAM_WORDS, and a shorter question is refused alone where both are the same. Raises BadBenchmark."""
    questions = [_words(question) for file in files for question in read_questions(file)]
    longest = words or NGRAM_WORDS
    shortest = min(SHORTEST_WORDS, longest) if words else longest
    ngrams: set[int] = set()
    lengths: set[int] = set()
    for asked in questions:
        length = min(len(asked), longest)
        if length >= shortest:
            lengths.add(length)
            ngrams.update(_ngrams(asked, length))
    return Decontamination(frozenset(map(_hash, questions)), frozenset(ngrams), tuple(sorted(lengths)))


def read_questions(file: Path) -> list[str]:
    """The questions of one benchmark file. Raises BadBenchmark."""
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise BadBenchmark(f"{file}: cannot be read as UTF-8 text: {error}") from None
    questions = []
    for number, line in enumerate(lines, 1):
        try:
            questions.append(str(json.loads(line)["question"]))
        except (ValueError, TypeError, KeyError):
            raise BadBenchmark(f'{file}:{number}: not a JSON object with a "question"') from None
    return questions


def _words(text: str) -> list[str]:
    return _WORD.findall(text.casefold())


def _ngrams(words: list[str], length: int) -> Iterator[int]:
    return (_hash(words[i : i + length]) for i in range(len(words) - length + 1))


def _hash(words: Iterable[str]) -> int:
    """64 bits in the place of the words: a large benchmark has millions of n-grams."""
    text = " ".join(words).encode("utf-8", "surrogatepass")
    return int.from_bytes(blake2b(text, digest_size=_HASH_BYTES).digest(), "big")
