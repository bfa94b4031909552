"""Gates that a question passes before it is asked. Decontamination: nothing of a benchmark enters the training data."""

from __future__ import annotations

import functools
import json
import re
from dataclasses import dataclass
from pathlib import Path

_WORD = re.compile(r"\w+", re.UNICODE)
NGRAM_WORDS = 13  # as in the common practice of decontamination: long enough not to hit phrases of everyday language


class BadBenchmark(ValueError):
    """A benchmark file that cannot be read. The message names file and line."""


@dataclass(frozen=True)
class Decontamination:
    """Refuses a question that a benchmark holds: the same words in the same order, or 13 of them in a row."""

    questions: frozenset[str]
    ngrams: frozenset[str]

    def refuses(self, question: str) -> bool:
        words = _words(question)
        return " ".join(words) in self.questions or not self.ngrams.isdisjoint(_ngrams(words))


@functools.lru_cache(maxsize=8)
def decontamination(files: tuple[Path, ...]) -> Decontamination:
    """The gate for these JSON-lines files, each line an object with a "question". Raises BadBenchmark."""
    questions = [_words(question) for file in files for question in read_questions(file)]
    return Decontamination(
        frozenset(" ".join(words) for words in questions),
        frozenset(ngram for words in questions for ngram in _ngrams(words)),
    )


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


def _ngrams(words: list[str]) -> set[str]:
    return {" ".join(words[i : i + NGRAM_WORDS]) for i in range(len(words) - NGRAM_WORDS + 1)}
