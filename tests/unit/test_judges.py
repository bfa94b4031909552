"""How far judges can be trusted: what the events say of a simulated judge is what it is."""

import random
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bohdi.judges import Judges, wilson
from bohdi_common.events.events_pb2 import HarvestJudged

Picks = Callable[[random.Random, list[int]], int]  # from the order shown to the answer chosen

MODELS = ("target", "a", "b", "c")


def harvest(rng: random.Random, judges: dict[str, Picks], both_orders: bool = True, answers: int = 4) -> HarvestJudged:
    """A harvest whose answers are of different lengths, judged: every judge sees a shuffled order and its reverse."""
    lengths = rng.sample(range(10, 200), answers)
    judged = HarvestJudged(answers=[{"model": m, "text": m * n} for m, n in zip(MODELS, lengths, strict=False)])
    for name, picks in judges.items():
        order = rng.sample(range(answers), answers)
        orders = [order, order[::-1]] if both_orders else [order]
        choices = [picks(rng, shown) for shown in orders]
        for number, (shown, choice) in enumerate(zip(orders, choices, strict=True)):
            counted = number == 0 and len(set(choices)) == 1 and choice >= 0
            judged.verdicts.add(judge=name, order=shown, choice=choice, counted=counted)
    return judged


def told(judges: dict[str, Picks], harvests: int, seed: int = 0, **how: Any) -> dict[str, dict[str, Any]]:
    rng, found = random.Random(seed), Judges(both_orders=how.get("both_orders", True))
    for _ in range(harvests):
        found.add(harvest(rng, judges, **how))
    return found.told()


def mostly_first(bias: float) -> Picks:
    """Chooses what is shown first with probability `bias`, else any with equal chance: the first in all with
    probability bias + (1 - bias) / k."""
    return lambda rng, shown: shown[0] if rng.random() < bias else rng.choice(shown)


def fair(rng: random.Random, shown: list[int]) -> int:
    return rng.choice(shown)


def covers(share: dict[str, Any], truth: float) -> bool:
    return bool(share["low"] <= truth <= share["high"])


@pytest.mark.parametrize("bias", [0.0, 0.2, 0.6, 1.0])
@pytest.mark.parametrize("both_orders", [False, True])
def test_the_interval_of_the_position_bias_covers_the_truth_in_about_95_of_100_runs(
    bias: float, both_orders: bool
) -> None:
    truth = bias + (1 - bias) / 4
    runs = [told({"j": mostly_first(bias)}, 40, seed, both_orders=both_orders)["j"] for seed in range(150)]
    assert sum(covers(run["positions"][0], truth) for run in runs) >= 135  # an interval half as wide would give 100
    assert runs[0]["positions"][0]["expected"] == 0.25


def test_a_bias_of_position_is_found_and_a_fair_judge_is_not_accused() -> None:
    judges = told({"biased": mostly_first(0.3), "fair": fair}, 400)
    first = judges["biased"]["positions"][0]
    assert first["low"] > first["expected"]
    assert all(covers(share, share["expected"]) for share in judges["fair"]["positions"])
    assert covers(judges["fair"]["last_position"], 0.25)


def test_a_bias_of_length_is_found_as_large_as_it_is() -> None:
    def mostly_long(rng: random.Random, shown: list[int]) -> int:
        return LONGEST[-1] if rng.random() < 0.5 else rng.choice(shown)

    LONGEST: list[int] = []
    rng, found = random.Random(3), Judges()
    for _ in range(600):
        lengths = rng.sample(range(10, 200), 4)
        LONGEST.append(lengths.index(max(lengths)))
        judged = HarvestJudged(answers=[{"model": m, "text": m[0] * n} for m, n in zip(MODELS, lengths, strict=True)])
        order = rng.sample(range(4), 4)
        judged.verdicts.add(judge="j", order=order, choice=mostly_long(rng, order), counted=True)
        found.add(judged)
    longest = found.told()["j"]["longest"]
    assert covers(longest, 0.5 + 0.5 / 4) and longest["low"] > longest["expected"] == 0.25


def test_a_judge_that_prefers_its_own_answer_stands_out_from_the_others() -> None:
    def prefers_a(rng: random.Random, shown: list[int]) -> int:
        return 1 if rng.random() < 0.6 else rng.choice(shown)

    judges = told({"a": prefers_a, "b": fair, "c": fair}, 400)
    assert covers(judges["a"]["own"], 0.6 + 0.4 / 4) and judges["a"]["own"]["low"] > judges["a"]["own"]["expected"]
    judges = told({"a": fair, "b": fair, "c": fair}, 400)
    assert all(covers(judges[j]["own"], judges[j]["own"]["expected"]) for j in "abc")


def test_where_answers_are_identical_the_first_stands_for_the_judges_own() -> None:
    judged = HarvestJudged(
        answers=[{"model": "target", "text": "4"}, {"model": "a", "text": " 4"}, {"model": "b", "text": "5"}]
    )
    for judge in ("a", "b"):
        judged.verdicts.add(judge=judge, order=[2, 0], choice=0, counted=True)
    found = Judges()
    found.add(judged)
    assert found.told()["a"]["own"]["share"] == 1.0 and found.told()["b"]["own"]["share"] == 0.0


def test_agreement_between_orders_is_the_share_of_pairs_with_one_choice() -> None:
    judges = told({"first": mostly_first(1.0), "steady": lambda rng, shown: 2, "noise": fair}, 400)
    assert judges["first"]["agrees_between_orders"]["share"] == 0.0 and judges["first"]["votes"] == 0
    assert judges["steady"]["agrees_between_orders"]["share"] == 1.0 and judges["steady"]["votes"] == 400
    assert covers(judges["noise"]["agrees_between_orders"], 0.25)
    assert told({"j": fair}, 5, both_orders=False)["j"]["agrees_between_orders"] is None


def test_agreement_with_the_outcome_and_with_the_other_judges() -> None:
    found = Judges()
    judged = HarvestJudged(answers=[{"model": m, "text": m} for m in MODELS], counted=True, best=2)
    for judge, choice in (("a", 2), ("b", 2), ("c", 1)):
        judged.verdicts.add(judge=judge, order=[0, 1, 2, 3], choice=choice, counted=True)
    found.add(judged)
    judges = found.told()
    assert [judges[j]["agrees_with_outcome"]["share"] for j in "abc"] == [1.0, 1.0, 0.0]
    assert judges["a"]["agrees_with_others"] is None  # of the others one says this and one that
    assert judges["c"]["agrees_with_others"]["share"] == 0.0


def test_none_right_and_abstentions_are_told_apart() -> None:
    judged = HarvestJudged(answers=[{"model": m, "text": m} for m in MODELS], none_right=True, best=-1)
    judged.verdicts.add(judge="a", order=[0, 1, 2, 3], choice=-1, none_right=True, counted=True)
    judged.verdicts.add(judge="b", order=[0, 1, 2, 3], choice=-1)
    found = Judges()
    found.add(judged)
    judges = found.told()
    assert (judges["a"]["none_right"], judges["a"]["abstentions"], judges["a"]["votes"]) == (1, 0, 1)
    assert judges["a"]["agrees_with_outcome"]["share"] == 1.0
    assert (judges["b"]["none_right"], judges["b"]["abstentions"], judges["b"]["votes"]) == (0, 1, 0)


VERDICTS = st.lists(
    st.builds(
        dict, judge=st.sampled_from("ab"), order=st.lists(st.integers(0, 5), max_size=4), choice=st.integers(-2, 6),
        counted=st.booleans(), none_right=st.booleans(),
    ),
    max_size=5,
)  # fmt: skip


@given(VERDICTS, st.integers(0, 4), st.booleans())
def test_no_event_breaks_the_measure(verdicts: list[dict[str, Any]], answers: int, both_orders: bool) -> None:
    """Another program may have written it."""
    found = Judges(both_orders)
    found.add(HarvestJudged(answers=[{"model": "a", "text": "x" * n} for n in range(answers)], verdicts=verdicts))
    for judge in found.told().values():
        assert all(0 <= share["low"] <= share["high"] <= 1 for share in judge["positions"])


@given(st.floats(0, 1), st.integers(1, 10_000))
def test_the_interval_holds_the_share_and_is_never_a_point(share: float, trials: int) -> None:
    low, high = wilson(share, trials)
    assert 0 <= low <= share + 1e-9 and share - 1e-9 <= high <= 1 and low < high
