"""From answers and verdicts to a reward."""

import random
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.judging import votes
from services.judging.votes import ABSTAINED, NO_ANSWER_IS_RIGHT, NO_VERDICT, NONE_RIGHT, TARGET, Outcome

Judge = Callable[[list[int]], int]  # from the order shown to the position chosen


def test_identical_answers_are_one_candidate_and_the_target_stands_for_its_own() -> None:
    assert votes.candidates(["four", "five", " four ", "five\n"]) == [0, 1]
    assert votes.candidates(["a  b", "a b"]) == [0]


def test_answers_that_failed_are_no_candidates() -> None:
    assert votes.candidates([None, "five", None, "four"]) == [1, 3]


def test_the_order_follows_from_the_request_and_the_judge_alone() -> None:
    assert votes.shuffled([0, 1, 2, 3], "request", "judge") == votes.shuffled([3, 2, 1, 0], "request", "judge")


def test_over_many_requests_every_candidate_is_shown_first_equally_often() -> None:
    first = [votes.shuffled([0, 1, 2, 3], f"request {n}", "judge")[0] for n in range(4000)]
    assert all(abs(first.count(item) - 1000) < 140 for item in range(4))


@given(st.integers(2, 6), st.integers(1, 15))
def test_in_as_many_verdicts_as_there_are_candidates_each_stands_once_at_every_place(k: int, count: int) -> None:
    given_orders = votes.orders(range(k), count, "request", "judge")
    assert len(given_orders) == count and all(sorted(order) == list(range(k)) for order in given_orders)
    for start in range(0, count - k + 1, k):
        square = given_orders[start : start + k]
        assert all(len({order[place] for order in square}) == k for place in range(k))


def test_the_first_order_is_the_shuffle_and_another_square_begins_with_another() -> None:
    given_orders = votes.orders([0, 1, 2, 3], 8, "request", "judge")
    assert given_orders[0] == votes.shuffled([0, 1, 2, 3], "request", "judge")
    squares = [votes.orders(range(4), 5, f"request {n}", "judge")[::4] for n in range(20)]
    assert any(first != second for first, second in squares)


def test_in_the_papers_way_the_first_order_has_the_target_first() -> None:
    assert votes.orders([0, 2, 3], 1, "request", "judge", target_first=True) == [[0, 2, 3]]
    assert votes.orders([0, 2, 3], 3, "request", "judge", target_first=True)[1:] == [[2, 3, 0], [3, 0, 2]]
    later = [votes.orders([0, 2, 3], 4, f"request {n}", "judge", target_first=True)[3] for n in range(20)]
    assert any(order != [0, 2, 3] for order in later)


def test_a_judge_that_goes_by_position_votes_for_none_when_asked_as_often_as_there_are_candidates() -> None:
    """What balance is for: the one shown first is another in every verdict."""
    for n in range(50):
        cast = [order[0] for order in votes.orders(range(3), 3, f"request {n}", "judge")]
        assert votes.majority(cast) == ABSTAINED


def test_the_candidate_that_stands_for_an_answer_is_the_first_that_says_the_same() -> None:
    texts = ["four", None, " four", "five"]
    assert [votes.standing_for(texts, index) for index in range(4)] == [0, ABSTAINED, 0, 3]


@pytest.mark.parametrize(
    ("choices", "vote"),
    [
        ([NONE_RIGHT, NONE_RIGHT], NONE_RIGHT),
        ([NONE_RIGHT, ABSTAINED], ABSTAINED),
        ([2, 2], 2),
        ([2, 1], ABSTAINED),
        ([2, ABSTAINED], ABSTAINED),
        ([1], 1),
        ([], ABSTAINED),
    ],
)
def test_a_judge_votes_only_where_its_verdicts_agree(choices: list[int], vote: int) -> None:
    assert votes.agreed(choices) == vote


@pytest.mark.parametrize(
    ("cast", "outcome"),
    [
        ([], NO_VERDICT),
        ([ABSTAINED, ABSTAINED], NO_VERDICT),
        ([2, 1], NO_VERDICT),
        ([1, 1, 0, 0], NO_VERDICT),
        ([2, 1, 0], NO_VERDICT),
        ([2, 2, 0], Outcome(True, 2, 1)),
        ([0, 0, 2], Outcome(True, TARGET, 0)),
        ([2, ABSTAINED, ABSTAINED], Outcome(True, 2, 1)),
        ([0], Outcome(True, TARGET, 0)),
        ([NONE_RIGHT], NO_ANSWER_IS_RIGHT),
        ([NONE_RIGHT, NONE_RIGHT, 2], NO_ANSWER_IS_RIGHT),
        ([NONE_RIGHT, 2, 2], Outcome(True, 2, 1)),
        ([NONE_RIGHT, 2], NO_VERDICT),
        ([NONE_RIGHT, ABSTAINED, ABSTAINED], NO_ANSWER_IS_RIGHT),
    ],
)
def test_more_than_half_of_the_votes_cast_decide(cast: list[int], outcome: Outcome) -> None:
    assert votes.decided(cast, target_answered=True) == outcome


def test_a_target_that_gave_no_answer_has_lost_where_there_is_a_verdict() -> None:
    assert votes.decided([1, 1], target_answered=False) == Outcome(True, 1, 1)


def test_where_all_say_the_same_the_target_has_not_lost() -> None:
    assert votes.unanimous() == Outcome(True, TARGET, 0)


@given(st.lists(st.integers(NONE_RIGHT, 4), max_size=9), st.booleans())
def test_a_reward_needs_a_verdict_and_is_that_of_the_best(cast: list[int], target_answered: bool) -> None:
    outcome = votes.decided(cast, target_answered)
    if outcome.counted:
        assert 2 * cast.count(outcome.best) > len([vote for vote in cast if vote != ABSTAINED])
        assert outcome.reward == (outcome.best != TARGET or not target_answered)
    else:
        assert outcome in (NO_VERDICT, NO_ANSWER_IS_RIGHT)


def outcomes(judge: Judge, judges: int, answers: int, harvests: int = 2000) -> list[Outcome]:
    """Outcomes of harvests in which all answers differ and every judge is asked in both orders."""
    items = list(range(answers))
    out = []
    for n in range(harvests):
        cast = []
        for j in range(judges):
            order = votes.shuffled(items, f"request {n}", f"judge {j}")
            cast.append(votes.agreed([shown[judge(shown)] for shown in (order, order[::-1])]))
        out.append(votes.decided(cast, target_answered=True))
    return out


@pytest.mark.parametrize("judge", [lambda shown: 0, lambda shown: -1], ids=["the first shown", "the last shown"])
@pytest.mark.parametrize("answers", [2, 3, 4, 6])
def test_judges_that_go_by_the_ends_of_the_list_move_no_posterior(judge: Judge, answers: int) -> None:
    assert set(outcomes(judge, judges=3, answers=answers)) == {NO_VERDICT}


def test_judges_that_go_by_the_middle_of_the_list_are_not_found_out() -> None:
    """The middle of three is the middle of the reverse too: both orders cannot see such a judge. What it says is then
    the shuffle's: for three answers a judge's vote is the target with probability 1/3."""
    found = outcomes(lambda shown: 1, judges=1, answers=3)
    assert all(outcome.counted for outcome in found)
    assert abs(sum(outcome.reward for outcome in found) / len(found) - 2 / 3) < 0.05


@pytest.mark.parametrize(("answers", "verdicts"), [(2, 0.5), (4, 0.25)])
def test_of_a_judge_that_tosses_a_coin_both_orders_leave_one_verdict_in_k(answers: int, verdicts: float) -> None:
    """What still moves. A judge that picks any of k answers with equal chance agrees with itself once in k, and then
    for any of them alike: so a harvest still has a verdict with probability 1/k, and the reward of those is
    (k - 1)/k on average: 1/2 of the harvests at 1/2 for k = 2, 1/4 at 3/4 for k = 4. Both orders take away a bias of
    position and slow noise down by the factor k; they do not turn noise into silence, and the posterior mean of such
    a leaf still drifts to (k - 1)/k."""
    rng = random.Random(1)
    found = outcomes(lambda shown: rng.randrange(len(shown)), judges=1, answers=answers, harvests=20_000)
    counted = [outcome for outcome in found if outcome.counted]
    assert abs(len(counted) / len(found) - verdicts) < 0.02
    assert abs(sum(outcome.reward for outcome in counted) / len(counted) - (answers - 1) / answers) < 0.03
