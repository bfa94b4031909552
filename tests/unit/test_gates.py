"""Decontamination: no question of a benchmark is asked."""

from pathlib import Path

import pytest

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
