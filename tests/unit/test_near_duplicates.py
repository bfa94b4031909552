"""Near duplicates: a question that is so like an earlier one of its run is found, whatever process asked that."""

import asyncio
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.generation import near_duplicates
from services.generation.near_duplicates import Asked, EarlierQuestions, Index, shingles, similarity
from tests.unit.feedback import Log

QUESTION = "Name three noble gases and state one industrial use for each of them."
LIKE = "Name three noble gases, and state an industrial use for each of them!"
UNLIKE = "Which noble gas is used in the lamps of lighthouses?"
WORDS = ["gas", "lamp", "noble", "three", "which", "of", "the", "x", "7"]


def index(*questions: str, threshold: float = 0.8, size: int = 100) -> Index:
    made = Index(threshold, size)
    for number, question in enumerate(questions):
        made.add(Asked(f"request {number}", question, (0, number)))
    return made


def test_a_question_like_an_earlier_one_is_found_and_another_is_not() -> None:
    assert index(UNLIKE, QUESTION).like(LIKE, "new") == "request 1"
    assert index(QUESTION).like(UNLIKE, "new") == ""
    assert index().like(QUESTION, "new") == ""


def test_case_white_space_width_and_punctuation_make_no_difference_and_signs_do() -> None:
    assert index("What is H2O?", threshold=1.0).like(" WHAT  is Ｈ2O?\n", "new") == "request 0"
    assert index("Say, what is it?", threshold=1.0).like("“Say what is it…”", "new") == "request 0"
    assert index("What is 2 + 2?", threshold=1.0).like("What is 2 - 2?", "new") == ""


@pytest.mark.parametrize("text", ["", "?", "π", "水的沸点"])
def test_texts_shorter_than_a_shingle_are_compared_whole(text: str) -> None:
    assert index(text, threshold=1.0).like(text, "new") == "request 0"
    assert index("other", threshold=1.0).like(text, "new") == ""


def test_a_request_that_is_asked_again_does_not_meet_its_own_question() -> None:
    earlier = index(QUESTION)
    assert earlier.like(QUESTION, "request 0") == ""
    earlier.add(Asked("request 0", UNLIKE, (0, 0)))
    assert len(earlier) == 1
    assert earlier.like(QUESTION, "new") == "" and earlier.like(UNLIKE, "new") == "request 0"


@pytest.mark.parametrize("logged", [False, True])
def test_what_was_not_asked_after_all_is_withdrawn_unless_the_log_holds_it(logged: bool) -> None:
    earlier = index(QUESTION)
    if logged:
        earlier.add(Asked("request 0", QUESTION, (0, 0), logged=True))
        earlier.add(Asked("request 0", QUESTION, (0, 0)))  # delivered twice: the log holds it none the less
    earlier.withdraw("request 0")
    assert earlier.like(QUESTION, "new") == ("request 0" if logged else "")


def test_only_what_was_asked_before_a_place_counts_where_that_is_asked_for() -> None:
    earlier = index(UNLIKE, QUESTION)
    assert earlier.like(QUESTION, "new", before=(0, 1)) == ""
    assert earlier.like(QUESTION, "new", before=(0, 2)) == earlier.like(QUESTION, "new", before=(1, 0)) == "request 1"


def test_the_oldest_questions_are_forgotten() -> None:
    earlier = index(*(f"{QUESTION} {n}" * 3 for n in "abc"), QUESTION, UNLIKE, size=2)
    assert len(earlier) == 2
    assert earlier.like(QUESTION, "new") == "request 3"
    assert index(QUESTION, UNLIKE, "Why?", size=2).like(QUESTION, "new") == ""


TEXTS = st.lists(st.sampled_from(WORDS), min_size=1, max_size=12).map(" ".join)


@settings(max_examples=30)
@given(st.lists(TEXTS, max_size=6), TEXTS, st.sampled_from([0.5, 0.7, 0.85, 1.0]))
def test_what_is_found_is_as_similar_as_asked_and_the_same_text_is_always_found(
    asked: list[str], text: str, threshold: float
) -> None:
    found = index(*asked, threshold=threshold).like(text, "new")
    if found:
        assert similarity(shingles(text), shingles(asked[int(found.split()[1])])) >= threshold
    else:
        assert text not in asked


def test_of_pairs_as_similar_as_the_threshold_nearly_all_are_found() -> None:
    rng, missed = random.Random(1), 0
    for _ in range(100):
        words = [f"{rng.randrange(16**6):x}" for _ in range(14)]
        other = [*words[:-1], f"{rng.randrange(16**6):x}"]
        alike = similarity(shingles(" ".join(words)), shingles(" ".join(other)))
        missed += not index(" ".join(words), threshold=alike).like(" ".join(other), "new")
    assert missed <= 4


# ---- from the feedback log -------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["harvest_judged", "rehearsal_answered", "harvest_failed"])
async def test_whatever_became_of_an_earlier_question_it_counts(kind: str) -> None:
    log = Log()
    log.add(kind, "run", QUESTION)
    assert (await EarlierQuestions(lambda _: log).of("run", 0.8)).like(LIKE, "new") == "request 0"


async def test_questions_of_another_run_do_not_count() -> None:
    log = Log()
    log.add("harvest_judged", "other", QUESTION)
    assert (await EarlierQuestions(lambda _: log).of("run", 0.8)).like(LIKE, "new") == ""


async def test_the_log_is_read_on_from_where_it_was_read_to() -> None:
    log = Log()
    earlier = EarlierQuestions(lambda _: log)
    log.add("harvest_judged", "run", UNLIKE)
    assert (await earlier.of("run", 0.8)).like(LIKE, "new") == ""
    log.add("harvest_judged", "run", QUESTION)
    assert (await earlier.of("run", 0.8)).like(LIKE, "new") == "request 1"
    assert log.reads == [0, 1]


async def test_a_service_that_was_killed_knows_the_questions_again() -> None:
    log = Log()
    for number in range(500):
        log.add("harvest_judged", "run", f"{number} {QUESTION[number % 30 :]}")
    before, after = [await EarlierQuestions(lambda _: log).of("run", 0.8) for _ in range(2)]
    assert len(before) == len(after) == 500
    texts = [QUESTION, UNLIKE, f"7 {QUESTION}"]
    assert [before.like(t, "new") for t in texts] == [after.like(t, "new") for t in texts]


async def test_many_who_ask_at_once_share_a_reading() -> None:
    log = Log()
    earlier = EarlierQuestions(lambda _: log)
    await asyncio.gather(*(earlier.of("run", 0.8) for _ in range(50)))
    assert len(log.reads) <= 2


async def test_of_many_runs_the_indices_of_the_latest_are_kept_and_the_others_made_again() -> None:
    log = Log()
    log.add("harvest_judged", "run 0", QUESTION)
    earlier = EarlierQuestions(lambda _: log)
    for number in range(near_duplicates.RUNS_MAX + 2):
        await earlier.of(f"run {number}", 0.8)
    assert len(earlier._runs) == near_duplicates.RUNS_MAX
    assert (await earlier.of("run 0", 0.8)).like(LIKE, "new") == "request 0"
