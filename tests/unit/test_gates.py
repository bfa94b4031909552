"""Decontamination: no question of a benchmark is asked."""

import json
import tempfile
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.generation.gates import NGRAM_WORDS, BadBenchmark, decontamination, read_questions

LONG = " ".join(f"word{n}" for n in range(20))


@pytest.fixture
def benchmark(tmp_path: Path) -> Path:
    file = tmp_path / "heldout.jsonl"
    file.write_text(f'{{"question": "What is 2 + 2?"}}\n{{"question": "{LONG}", "answer": "x"}}\n')
    return file


@pytest.mark.parametrize("question", ["What is 2 + 2?", "what  is 2+2", "WHAT IS 2 - 2!"])
def test_a_question_of_the_benchmark_is_refused_in_any_case_and_punctuation(benchmark: Path, question: str) -> None:
    assert decontamination((benchmark,)).refuses(question)


@pytest.mark.parametrize("question", ["What is 2 + 3?", "What is 2 + 2 + 1?", "", "2"])
def test_another_question_passes(benchmark: Path, question: str) -> None:
    assert not decontamination((benchmark,)).refuses(question)


def test_thirteen_words_in_a_row_are_enough_and_twelve_are_not(benchmark: Path) -> None:
    words = LONG.split()
    gate = decontamination((benchmark,))
    assert gate.refuses("Please: " + " ".join(words[3 : 3 + NGRAM_WORDS]))
    assert not gate.refuses("Please: " + " ".join(words[3 : 2 + NGRAM_WORDS]))


SHORT = "which gas fills the lamps of this lighthouse"  # 8 words
TINY = "name a noble gas that is heavy"  # 7


def test_a_shorter_question_of_the_benchmark_is_refused_where_it_stands_in_another_whole(tmp_path: Path) -> None:
    file = tmp_path / "b.jsonl"
    file.write_text(f'{{"question": "{SHORT}"}}\n{{"question": "{TINY}"}}\n')
    gate = decontamination((file,), NGRAM_WORDS)
    assert gate.refuses(f"Tell me, {SHORT}, and why?") and gate.refuses(TINY)
    assert not gate.refuses("Tell me which gas fills the lamps of this city")
    assert not gate.refuses(f"Please {TINY}")  # too few words to be the benchmark's alone
    assert not decontamination((file,)).refuses(f"Tell me, {SHORT}, and why?")  # as in logs from before


@pytest.mark.parametrize("words", [5, 8, 13, 20])
def test_so_many_words_in_a_row_are_too_many_as_is_asked(benchmark: Path, words: int) -> None:
    gate = decontamination((benchmark,), words)
    asked = LONG.split()
    assert gate.refuses("Please: " + " ".join(asked[:words]))
    assert not gate.refuses("Please: " + " ".join(asked[: words - 1]))


TEXTS = st.lists(st.sampled_from("abc"), max_size=16).map(" ".join)


@settings(max_examples=60)
@given(st.lists(TEXTS, max_size=5), TEXTS, st.integers(5, 13))
def test_the_gate_refuses_what_the_definition_says(held: list[str], asked: str, words: int) -> None:
    def inside(part: list[str], whole: list[str]) -> bool:
        return any(whole[i : i + len(part)] == part for i in range(len(whole) - len(part) + 1))

    def stands_in(question: list[str]) -> bool:
        if question == asked.split():
            return True
        length = min(len(question), words)
        pieces = [question[i : i + length] for i in range(len(question) - length + 1)]
        return length >= min(8, words) and any(inside(piece, asked.split()) for piece in pieces)

    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "b.jsonl"
        file.write_text("".join(json.dumps({"question": question}) + "\n" for question in held))
        gate = decontamination((file,), words)
    assert gate.refuses(asked) == any(stands_in(question.split()) for question in held)


def test_a_question_costs_the_same_whatever_the_benchmark_holds(tmp_path: Path) -> None:
    """Counted, not timed: so many look-ups as the question has n-grams of the lengths that occur."""

    class Counting(frozenset[int]):
        looked = 0

        def __contains__(self, item: object) -> bool:
            Counting.looked += 1
            return super().__contains__(item)

    looked = []
    for size in (10, 2000):
        file = tmp_path / f"{size}.jsonl"
        rows = (json.dumps({"question": " ".join(f"w{n}x{i}" for i in range(8 + n % 9))}) for n in range(size))
        file.write_text("\n".join(rows))
        gate = decontamination((file,), NGRAM_WORDS)
        Counting.looked = 0
        replace(gate, ngrams=Counting(gate.ngrams)).refuses(" ".join(f"v{i}" for i in range(30)))
        looked.append(Counting.looked)
    assert looked[0] == looked[1] == sum(30 - length + 1 for length in range(8, 14))


def test_without_benchmarks_every_question_passes() -> None:
    assert not decontamination(()).refuses("What is 2 + 2?")


def test_words_of_any_script_are_seen(tmp_path: Path) -> None:
    file = tmp_path / "b.jsonl"
    file.write_text('{"question": "水的沸点是多少？"}\n{"question": "Что такое ДНК?"}\n', encoding="utf-8")
    gate = decontamination((file,))
    assert gate.refuses("水的沸点是多少")
    assert gate.refuses("что такое днк")


@pytest.mark.parametrize("line", ["{", "[]", '{"q": "x"}', "7"])
def test_a_line_that_is_no_question_is_named(tmp_path: Path, line: str) -> None:
    file = tmp_path / "bad.jsonl"
    file.write_text('{"question": "x"}\n' + line + "\n")
    with pytest.raises(BadBenchmark, match=r"bad\.jsonl:2"):
        read_questions(file)


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadBenchmark, match="nowhere"):
        read_questions(tmp_path / "nowhere.jsonl")
