"""The report's parts: what is collected is bounded, what is shown is plain, what is said follows from the figures."""

from __future__ import annotations

import json
import re
import unicodedata
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bohdi.report import collected as of_log
from bohdi.report import contents as of_page
from bohdi.report import moments as of_moments
from bohdi.report.collected import Collected
from bohdi.report.contents import Contents, DomainsToRead, contents
from bohdi.report.moments import Thinned, evenly
from bohdi.report.page import page
from bohdi.report.plain import plain
from bohdi.report.words import verdict
from bohdi_common.core.state import RunState
from bohdi_common.events.events_pb2 import Event
from tests.closed_loop import RUN_ID, Loop, World, settings
from tests.recorded_run import RecordedRun

TEXTS = st.text(st.characters(exclude_categories=()), max_size=200)


# ---- plain texts -------------------------------------------------------------------------------------------------


@given(TEXTS)
def test_what_is_shown_hides_and_turns_nothing(text: str) -> None:
    shown = plain(text, 1_000)
    shown.encode("utf-8")
    assert all(unicodedata.category(char)[0] != "C" or char in "\n\t\u200c\u200d" for char in shown)


@given(st.text(st.characters(categories=("L", "N", "P", "S", "Zs")), max_size=200))
def test_text_that_hides_nothing_is_shown_as_it_is(text: str) -> None:
    assert plain(text, 1_000) == text


def test_what_hides_or_turns_stands_as_its_number() -> None:
    assert plain("\u202egpj.exe\x00\ud800", 100) == "<U+202E>gpj.exe<U+0000><U+D800>"
    assert plain("a\r\nb\rc\td", 100) == "a\nb\nc\td"
    assert plain("نمی\u200cخواهم", 100) == "نمی\u200cخواهم"


def test_a_tower_of_marks_is_cut_to_one_that_stays_on_its_line() -> None:
    assert plain("a" + "\u0300" * 50 + "b", 100) == "a" + "\u0300" * 8 + "b"


def test_a_long_text_says_how_much_was_left_out() -> None:
    assert plain("x" * 12, 10) == "x" * 10 + " … (2 characters more)"


# ---- what is kept of a long run ------------------------------------------------------------------------------------


@given(st.integers(0, 3_000), st.sampled_from([2, 8, 64]))
def test_a_series_of_any_length_is_thinned_evenly_to_so_many(length: int, most: int) -> None:
    series: Thinned[int] = Thinned(most)
    for number in range(length):
        if series.due():
            series.add(number)
    assert len(series.kept) <= most
    assert series.kept == list(range(0, length, series.every))
    assert length < most or len(series.kept) >= most // 2


@given(st.lists(st.integers(), max_size=200), st.integers(2, 70))
def test_an_even_choice_has_the_first_and_the_last(items: list[int], most: int) -> None:
    chosen = evenly(items, most)
    assert len(chosen) == min(len(items), most)
    assert not items or (chosen[0], chosen[-1]) == (items[0], items[-1])


def collected(events: list[Event]) -> Collected:
    found = Collected(events[0].run_id)
    for offset, event in enumerate(events):
        found.add(event, offset)
    return found


def looped(rounds: int = 3, width: tuple[int, int, int] = (3, 3, 3), **world: Any) -> list[Event]:
    bandit = {"rounds": rounds, "steps": 3, "slots": 12, "window": 10}
    loop = Loop(World(width=width, **world), settings(bandit=bandit))
    loop.run()
    return loop.log


def made(found: Collected) -> Contents:
    return contents(found, DomainsToRead.of(found), {}, [], 0)


def test_a_run_of_many_rounds_keeps_its_start_and_its_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(of_moments, "MOST", 8)
    monkeypatch.setattr(of_page, "ROUNDS_MAX", 8)
    found = collected(looped(rounds=20))
    told = made(found)
    assert len(found.moments.ends.kept) <= 8 and len(found.moments.steps.kept) <= 8
    labels = [moment["label"] for moment in told.tree["moments"]]
    assert labels[0] == "start" and labels[-1] == "the end"
    assert len(told.rounds) == 8 and told.rounds[-1]["round"] == 20
    assert any(line.startswith("rounds: ") for line in told.left_out)


def test_moments_are_those_that_a_fold_goes_through() -> None:
    events = looped()
    found = collected(events)
    for moment in found.all_moments():
        state = Collected(RUN_ID)
        for offset, event in enumerate(events[: moment.sequence]):
            state.add(event, offset)
        assert state.state.tree.alpha.tolist() == moment.alpha.tolist()
        assert state.state.pair_count == moment.harvests[0]
        assert (state.state.round, state.state.target_version) == (moment.round, moment.version)


def test_of_a_large_tree_the_domains_with_the_most_harvests_are_shown_with_all_above_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(of_page, "NODES_MAX", 12)
    found = collected(looped())
    tree = made(found).tree
    assert len(tree["nodes"]) == 12
    assert all(
        node["parent"] < row and (node["level"] == 1) == (node["parent"] < 0) for row, node in enumerate(tree["nodes"])
    )
    harvests = tree["moments"][-1]["harvests"]
    last = found.all_moments()[-1].harvests
    left_out = set(range(1, len(last))) - {node["node"] for node in tree["nodes"]}
    assert min(harvests) >= max(int(last[node]) for node in left_out if not found.state.tree.is_unk[node])
    assert "12" not in made(found).left_out[0] and "the fewest harvests" in made(found).left_out[0]


def test_what_is_spent_failed_and_judged_sums_to_what_the_fold_counted() -> None:
    run = RecordedRun(seed=5, away=0.1, withheld=0.1, twice=0.1)
    state: RunState = run.run()
    found = collected(run.feedback)
    assert sum(round.harvests for round in found.rounds.values()) == state.counts["harvests"] == state.pair_count
    assert sum(round.no_verdict for round in found.rounds.values()) == state.counts["no_verdict"]
    tokens = sum(used.prompt_tokens + used.completion_tokens for used in found.usage.values())
    assert tokens == state.spent_tokens == sum(round.tokens.total() for round in found.rounds.values())
    lost = {kind.what: 0 for kind in found.failures}
    for kind, count in found.failures.items():
        lost[kind.what] += count
    assert lost["slot"] == state.counts["expired"]
    assert found.tally.harvests((), "target") <= state.counts["harvests"]


def test_money_is_counted_as_the_budget_counts_it() -> None:
    rules = settings()
    rules.sources[0].price_prompt, rules.sources[0].price_completion = 3.0, 7.5
    started = {"settings": rules}
    events = [Event(event_id="1", run_id="r", run_started=started)]
    for number in range(3):
        used = {"model": "a", "prompt_tokens": 11 + number, "completion_tokens": 3, "calls": 2}
        events.append(Event(event_id=f"{number}", run_id="r", usage=[used], target_evaluated={"model": "a"}))
    found = collected(events)
    assert found.usage["a"].cost_micros == found.state.spent_micros > 0
    assert made(found).spending["models"][0]["calls"] == 6


def test_failures_of_endless_kinds_are_counted_in_few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(of_log, "_FAILURES", 5)
    run = RecordedRun(seed=5, away=0.2)
    run.run()
    for number, event in enumerate(run.feedback):
        if event.HasField("harvest_failed"):
            event.harvest_failed.reason = f"reason {number}"
    found = collected(run.feedback)
    failed = sum(event.HasField("harvest_failed") for event in run.feedback)
    others = [count for kind, count in found.failures.items() if kind.reason == "(other reasons)"]
    assert 5 < len(found.failures) <= 8 and sum(others) >= failed - 5 > 5


# ---- samples, words, the page --------------------------------------------------------------------------------------


def test_the_most_improved_lose_fewer_of_their_last_harvests_than_of_their_first() -> None:
    better = lambda path, version: 0.05 if path[0] == "m0" and version != "base" else 0.9  # noqa: E731
    found = collected(looped(rounds=6, width=(2, 1, 1), loses=better))
    improved = DomainsToRead.of(found).improved
    assert found.state.tree.path_names(improved[0])[0] == "m0"
    gain = made(found).improved[0]["gain"]
    assert gain["first"] > 0.5 > gain["last"] and gain["of"] >= 4


def test_an_unfinished_run_a_paused_one_and_one_without_harvests_are_told_as_such() -> None:
    events = looped()
    say = lambda upto: verdict(made(found := collected(upto)), found)  # noqa: E731
    assert say(events[:1])[:2] == [
        "Nothing was trained yet.",
        "The run is not over: 0 of 3 rounds are done, and round 1 is in deciding.",
    ]
    assert "No harvest came to a verdict yet." in say(events[:1])
    half = say(events[: len(events) // 2])
    assert half[0] == "Whether the target got better was not measured."
    assert re.match(r"The run is not over: 1 of 3 rounds is done, and round 2 is in ", half[1])
    paused = Event(event_id="p", run_id=RUN_ID, run_paused={"reason": "a person"})
    assert "The run is paused, 0 of 3 rounds are done: a person." in say([*events[:5], paused])
    assert "The run is finished: 3 rounds of 3 are done." in say(events)


@pytest.mark.parametrize(
    ("accuracy", "headline"),
    [
        ({"base": 0.5, "r1": 0.5}, "The target did not get better."),
        ({"base": 0.5, "r1": 0.7}, "The target got better, but a source is as good still."),
        ({"base": 0.5, "r1": 0.9}, "The target got better, and is better than every source."),
    ],
)
def test_the_headline_goes_by_what_was_held_out(accuracy: dict[str, float], headline: str) -> None:
    events = looped(rounds=1)
    scored = [("target", version, share) for version, share in accuracy.items()] + [("a", "", 0.8)]
    for model, version, share in scored:
        score = {"domain": "d", "accuracy": share}
        body = {"model": model, "version": version, "scores": [score]}
        events.append(Event(event_id=f"{model}{version}", run_id=RUN_ID, target_evaluated=body))
    found = collected(events)
    assert verdict(made(found), found)[0] == headline


def test_the_same_log_gives_the_same_page_and_only_its_own_scripts_may_run() -> None:
    html = page(made(collected(looped())), ["so it is"], "window.Plotly = 1;")
    assert html == page(made(collected(looped())), ["so it is"], "window.Plotly = 1;")
    policy = re.search(r'http-equiv="Content-Security-Policy" content="([^"]*)"', html)
    assert policy is not None
    scripts = policy[1].replace("&#39;", "'").split("; ")[1]
    assert re.fullmatch(r"script-src 'sha256-[\w+/=]{44}' 'sha256-[\w+/=]{44}'", scripts)
    assert html.count("<script>") == 2


def test_data_for_the_script_cannot_end_it_and_is_read_back_whole() -> None:
    told = made(collected(looped()))
    hostile = "</script><script>alert(1)</script>&lt;<!--\u2028"
    told = replace(told, run=told.run | {"target": hostile, "share": float("inf")})
    html = page(told, [hostile], "")
    data = re.search(r'<script type="application/json" id="data">(.*?)</script>', html, re.S)
    assert data is not None and not set("<>&").intersection(data[1])
    assert json.loads(data[1])["run"] == plain_of(told.run) | {"share": None}
    assert "<script>alert" not in html


def plain_of(row: dict[str, Any]) -> dict[str, Any]:
    return {name: plain(value, 1_500) if isinstance(value, str) else value for name, value in row.items()}
