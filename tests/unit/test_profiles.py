"""Win rates by domain: what counts as a win, and how an estimate leans on that of the domain above."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bohdi import profile_file, profiles
from bohdi.profiles import Contest, Tally, contest_of, gain, rates, shrunk
from bohdi_common.events.events_pb2 import Answer, HarvestJudged
from bohdi_common.runtime.config import BadConfig
from tests.recorded_run import RecordedRun

MODELS = ("target", "a", "b")
LEAVES = [(m, f"{m}{s}", f"{m}{s}{leaf}") for m in "xy" for s in "12" for leaf in "pq"]

contests = st.builds(
    lambda path, winners, question: Contest(path, f"q{question}", MODELS, tuple(sorted(winners))),
    st.sampled_from(LEAVES),
    st.sets(st.sampled_from(MODELS), min_size=1),
    st.integers(0, 50),
)
strengths = st.floats(0.1, 100)


def tally_of(some: list[Contest]) -> Tally:
    tally = Tally()
    for contest in some:
        tally.add(contest)
    return tally


def judged(*answers: tuple[str, str, str], best: int, counted: bool = True) -> HarvestJudged:
    """Answers as model, text and why it failed."""
    said = [Answer(model=model, text=text, failed=failed) for model, text, failed in answers]
    return HarvestJudged(path=("x", "x1", "x1p"), question="q", answers=said, best=best, counted=counted)


# ---- what is a win ---------------------------------------------------------------------------------------------


def test_the_best_answers_model_wins() -> None:
    contest = contest_of(judged(("target", "one", ""), ("a", "two", ""), ("b", "three", ""), best=1))
    assert contest is not None
    assert [contest.share(model) for model in MODELS] == [0, 1, 0]


def test_those_who_said_the_same_share_the_win() -> None:
    contest = contest_of(judged(("target", "one", ""), ("a", "two  words", ""), ("b", "two words", ""), best=1))
    assert contest is not None
    assert [contest.share(model) for model in MODELS] == [0, 0.5, 0.5]


def test_an_empty_answer_has_lost_and_a_model_that_was_away_took_no_part() -> None:
    contest = contest_of(judged(("target", "", "empty"), ("a", "two", ""), ("b", "", "b is away"), best=1))
    assert contest is not None
    assert contest.entrants == ("target", "a")


def test_a_harvest_without_a_verdict_is_no_contest() -> None:
    assert contest_of(judged(("target", "one", ""), ("a", "two", ""), best=-1, counted=False)) is None
    assert contest_of(judged(("target", "one", ""), ("a", "two", ""), best=1, counted=False)) is None


def test_a_harvest_counts_in_its_domain_and_in_all_above_it_and_nowhere_else() -> None:
    tally = tally_of(
        [Contest(("x", "x1", "x1p"), "q", MODELS, ("a",)), Contest(("x", "x2", "x2p"), "q", MODELS, ("b",))]
    )
    counted = {path: (tally.wins(path, "a"), tally.harvests(path, "a")) for path in tally.domains()}
    assert counted == {
        (): (1, 2), ("x",): (1, 2), ("x", "x1"): (1, 1), ("x", "x1", "x1p"): (1, 1),
        ("x", "x2"): (0, 1), ("x", "x2", "x2p"): (0, 1),
    }  # fmt: skip


# ---- the estimate ----------------------------------------------------------------------------------------------


@given(st.lists(contests, max_size=30), strengths)
def test_a_domain_without_harvests_has_its_parents_estimate(some: list[Contest], strength: float) -> None:
    unseen = (*LEAVES[0][:2], "nobody asked here")
    estimates = rates(tally_of(some), MODELS, [unseen], strength)
    for model in MODELS:
        assert estimates[unseen][model].rate == pytest.approx(estimates[unseen[:-1]][model].rate)
        assert estimates[unseen][model].harvests == 0


def test_without_any_harvest_every_model_has_an_even_chance() -> None:
    assert [rate.rate for rate in rates(Tally(), MODELS)[()].values()] == pytest.approx([1 / 3] * 3)


@given(st.integers(0, 100), st.floats(0.01, 0.99), strengths)
def test_with_many_harvests_the_estimate_is_the_observed_share(percent: int, prior: float, strength: float) -> None:
    estimate = shrunk(percent * 10_000, 1_000_000, prior, strength)
    assert estimate.rate == pytest.approx(percent / 100, abs=2e-4)
    assert estimate.high - estimate.low < 0.01


@given(st.lists(contests, max_size=60), strengths)
def test_rates_and_their_intervals_are_shares_and_the_models_add_up_to_one(some: list[Contest], by: float) -> None:
    for domain in rates(tally_of(some), MODELS, (), by).values():
        assert all(0 <= r.low <= r.high <= 1 and 0 < r.rate < 1 for r in domain.values())
        assert sum(r.rate for r in domain.values()) == pytest.approx(1)


@given(st.lists(contests, max_size=60), st.randoms())
def test_the_order_of_events_makes_no_difference(some: list[Contest], chance: random.Random) -> None:
    other = list(some)
    chance.shuffle(other)
    assert rates(tally_of(some), MODELS) == rates(tally_of(other), MODELS)


@given(st.lists(contests, max_size=60), st.sets(st.sampled_from(LEAVES)))
def test_some_domains_alone_have_the_rates_that_they_have_among_all(
    some: list[Contest], chosen: set[profiles.Path]
) -> None:
    tally = tally_of(some)
    everywhere, alone = rates(tally, MODELS), rates(tally.only(chosen), MODELS)
    assert alone == {path: of for path, of in everywhere.items() if path in alone}
    assert chosen & set(everywhere) <= set(alone)


def test_three_wins_of_four_lean_on_the_parent_by_the_prior() -> None:
    estimate = shrunk(3, 4, prior=0.25, strength=4)
    assert estimate.rate == pytest.approx((4 * 0.25 + 3) / (4 + 4))
    assert (estimate.low, estimate.high) == pytest.approx((0.225, 0.775), abs=0.001)  # Beta(4, 4), by its symmetry


@pytest.mark.parametrize("strength", [0.5, 20])
def test_a_stronger_prior_holds_an_estimate_nearer_to_its_parent(strength: float) -> None:
    weak, strong = shrunk(5, 5, 0.2, strength), shrunk(5, 5, 0.2, 2 * strength)
    assert 0.2 < strong.rate < weak.rate < 1


def test_the_interval_holds_nine_in_ten_of_what_the_posterior_gives() -> None:
    estimate = shrunk(7, 20, 0.5, 5)
    chance = random.Random(1)
    drawn = [chance.betavariate(5 * 0.5 + 7, 5 * 0.5 + 13) for _ in range(20_000)]
    inside = sum(estimate.low <= value <= estimate.high for value in drawn) / len(drawn)
    assert inside == pytest.approx(0.9, abs=0.01)


# ---- a run -----------------------------------------------------------------------------------------------------


def test_an_event_that_the_log_holds_twice_counts_once() -> None:
    run = RecordedRun(twice=0.5)
    run.run()
    once = {event.event_id: event for event in run.feedback if event.HasField("harvest_judged")}
    counted = [event for event in once.values() if event.harvest_judged.counted]
    profile, reading = profile_file.read_run("run", run.feedback)
    assert len(run.feedback) > len({event.event_id for event in run.feedback})
    assert profile.rates[()]["a"].harvests <= len(reading.contests) == len(counted) > 10


def test_rounds_before_the_first_that_is_asked_for_are_left_out() -> None:
    run = RecordedRun()
    run.run()
    late = [e for e in run.feedback if e.HasField("harvest_judged") and e.harvest_judged.counted and e.round >= 1]
    _, reading = profile_file.read_run("run", run.feedback, from_round=1)
    assert len(reading.contests) == len(late) > 0
    with pytest.raises(BadConfig, match="no harvest was judged from round 9 on"):
        profile_file.read_run("run", run.feedback, from_round=9)


def test_every_node_of_the_tree_is_in_the_profile_and_paths_are_found_as_the_tree_finds_them() -> None:
    run = RecordedRun()
    state = run.run()
    profile, _ = profile_file.read_run("run", run.feedback)
    assert len(profile.rates) == 1 + sum(state.tree.nodes_by_level[1:])
    leaf = next(path for path in profile.rates if len(path) == 3)
    assert profile.nearest([f" {name.upper()} " for name in leaf]) == leaf
    assert profile.nearest([*leaf[:2], "never heard of"]) == leaf[:2]
    assert profile.nearest(["never heard of"]) == ()


def test_a_profile_is_read_back_from_its_file_as_it_was(tmp_path: Path) -> None:
    run = RecordedRun()
    run.run()
    profile, _ = profile_file.read_run("run", run.feedback)
    file = tmp_path / "profile.json"
    file.write_text(json.dumps(profile_file.as_json(profile)))
    again = profile_file.load(file)
    assert (again.rates, again.models, list(again.pairs)) == (profile.rates, profile.models, list(profile.pairs))


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("{", "not JSON"),
        ("[]", "no profile"),
        ('{"kind": "bohdi profile", "version": 2}', "version"),
        ("\udcff", "cannot be read"),
    ],
)
def test_a_file_that_is_no_profile_is_refused_in_one_line(tmp_path: Path, text: str, told: str) -> None:
    file = tmp_path / "profile.json"
    file.write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(BadConfig) as refused:
        profile_file.load(file)
    assert str(file) in str(refused.value)
    assert told in str(refused.value)
    assert "\n" not in str(refused.value)


# ---- what it is worth ------------------------------------------------------------------------------------------


def test_where_every_field_has_its_expert_routing_wins_all_and_a_single_model_its_own_field() -> None:
    experts = {"x": "a", "y": "b"}
    some = [Contest(path, f"{path} {n}", MODELS, (experts[path[0]],)) for path in LEAVES for n in range(40)]
    found = gain(some, MODELS)
    assert found is not None
    assert found.routed == 1.0
    assert found.single == pytest.approx(0.5, abs=0.1)
    assert found.held_out == sum(profiles.is_held_out(contest.question) for contest in some)


def test_what_is_held_out_teaches_nothing_that_it_is_checked_by() -> None:
    chance = random.Random(1)
    some = [Contest(("x", "x1", f"own {n}"), f"q {n}", MODELS, (chance.choice(MODELS),)) for n in range(400)]
    found = gain(some, MODELS)
    assert found is not None
    assert found.routed < 0.6  # each stands alone in its leaf, and whoever has seen it knows its winner
