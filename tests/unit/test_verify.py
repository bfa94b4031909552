"""The verification finds nothing in a sound log, and each kind of corruption where it stands."""

from __future__ import annotations

import functools
import json
import random
import re
from collections.abc import Callable, Iterator
from itertools import chain, zip_longest
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from bohdi.verify import Kind, Problem, Report, of_log_file, problems, results
from bohdi.verify.agreement import differences
from bohdi.verify.ledger import Ledger
from bohdi_common.core.evolve import evolve
from bohdi_common.core.ids import derived_id
from bohdi_common.core.state import Failure, RunState, state_sha256
from bohdi_common.events import codec
from bohdi_common.events import events_pb2 as pb
from bohdi_common.events.events_pb2 import Event, TrainingFailed
from bohdi_common.models.versions import VersionStore
from tests.recorded_run import RecordedRun, settings

Log = list[Event]
Path_ = tuple[Any, ...]


@functools.cache
def recorded(lockstep: bool = False) -> RecordedRun:
    """A run in which everything happens: failed sprouts, expiries, late answers, rebirths, rehearsal, two trainings."""
    introspection = "paper" if lockstep else "two_sample"
    bandit = {"slots": 14, "threshold": 0.95, "lockstep": lockstep, "introspection": introspection}
    run = RecordedRun(seed=8, away=0.02, withheld=0.04, settings=settings(8, bandit=bandit))
    run.run()
    return run


def copy(log: Log) -> Log:
    return [Event.FromString(event.SerializeToString()) for event in log]


def found(log: Log, **inputs: Any) -> list[Problem]:
    return list(problems(enumerate(log), **inputs))


def first(log: Log, kind: str, that: Callable[[Any], bool] = lambda body: True) -> int:
    """Offset of the first event of a kind that holds `that`."""
    return next(
        offset for offset, event in enumerate(log) if event.WhichOneof("body") == kind and that(getattr(event, kind))
    )


# ---- sound logs ------------------------------------------------------------------------------------------------


def in_styles() -> pb.Settings:
    """Settings with styles, which the scripted models take no notice of."""
    styled = settings(5)
    styled.harvest.question_styles[:] = ["It must rhyme.", "It must be short.", "It must be hard."]
    return styled


APART = [{"name": name, "path": name} for name in ("x", "y")]
VARIANTS: dict[str, dict[str, Any]] = {
    "plain": {},
    "models away": {"away": 0.08},
    "what a person must mend": {"away": 0.02, "blocked": 0.004},
    "what a person must mend, in lockstep": {
        "away": 0.02,
        "blocked": 0.004,
        "settings": settings(5, bandit={"lockstep": True}),
    },
    "answers after they expired": {"away": 0.02, "withheld": 0.15},
    "a broker that delivers twice": {"away": 0.02, "twice": 0.1},
    "lockstep": {"settings": settings(5, bandit={"lockstep": True})},
    "lockstep, and all that can go wrong": {
        "away": 0.04,
        "withheld": 0.1,
        "twice": 0.1,
        "settings": settings(5, bandit={"lockstep": True}),
    },
    "samples that are held back": {"settings": settings(5, training={"held_back_share": 0.3})},
    "training that grows": {"settings": settings(5, training={"passes": 0, "examples": 9, "ramp": True})},
    "paused, resumed and killed": {"away": 0.04, "disturbed": 0.1},
    "paused, resumed and killed in lockstep": {
        "away": 0.04,
        "withheld": 0.05,
        "twice": 0.05,
        "disturbed": 0.1,
        "settings": settings(5, bandit={"lockstep": True}),
    },
    "judges apart, asked three times in both orders": {
        "away": 0.02,
        "settings": settings(5, judging={"mode": "judge", "judges": APART, "verdicts": 3}),
    },
    "one of the run judges, three times": {
        "settings": settings(5, judging={"mode": "judge", "judge": "target", "verdicts": 3, "both_orders": False}),
    },
    "a panel without the author, and without votes for one's own": {
        "away": 0.02,
        "settings": settings(
            5, judging={"mode": "panel_without_author", "judges": APART, "without_own_votes": True, "verdicts": 5}
        ),
    },
    "every gate on": {"settings": settings(5, preset="chat", harvest={"near_duplicate": 0.6, "languages": ["en"]})},
    "every gate on, in lockstep": {
        "settings": settings(5, preset="chat", harvest={"near_duplicate": 0.6}, bandit={"lockstep": True})
    },
    "questions in styles": {"away": 0.02, "settings": in_styles()},
    "paper": {"settings": settings(5, preset="paper", bandit={"slots": 8, "window": 4})},
    "no growth": {
        "settings": settings(5, domains=[["x", "y", "z"]], bandit={"grow": False}),
        "domains": (("x", "y", "z"), ("x", "y", "w"), ("v", "u", "t")),
    },
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_sound_run_has_no_problem(variant: str) -> None:
    run = RecordedRun(seed=5, **VARIANTS[variant])
    state = run.run()
    report = Report()
    assert not found(run.feedback, requests=enumerate(run.requests), report=report)
    assert report.events == state.sequence == len(run.feedback)
    assert report.harvests == state.counts["harvests"] and report.late == state.counts.get("late", 0)
    assert report.requests == len(run.requests) and report.draws and report.decisions and report.samples


@pytest.mark.parametrize("kind", ["harvest_judged", "rehearsal_answered"])
def test_a_question_in_another_style_than_its_request_drew_is_found(kind: str) -> None:
    run = RecordedRun(seed=5, settings=in_styles())
    run.run()
    log = copy(run.feedback)
    body = getattr(log[first(log, kind)], kind)
    body.question_style = next(s for s in in_styles().harvest.question_styles if s != body.question_style)
    assert [problem.kind for problem in found(log)] == [Kind.SETTLEMENT]


@pytest.mark.parametrize(("refused", "wrong"), [("a sentence, not a name", 0), ("markup", 1), ("known", 1)])
def test_a_name_may_be_refused_as_a_remark_which_only_its_reader_could_tell(refused: str, wrong: int) -> None:
    proposal = pb.Proposal(model="a", text="There is nothing missing", votes=3, refused=refused)
    body = pb.SproutFailed(failure=Failure.REJECTED.value, proposals=[proposal])
    assert len(list(results.failed(body, (), results.Rules.of(settings(5))))) == wrong


@pytest.mark.parametrize("lockstep", [False, True])
def test_a_run_cut_off_anywhere_has_no_problem(lockstep: bool) -> None:
    log = recorded(lockstep).feedback
    for end in range(0, len(log), 7):
        assert not found(log[:end])


@pytest.mark.parametrize("lockstep", [False, True])
def test_the_recorded_run_holds_what_the_corruptions_need(lockstep: bool) -> None:
    counts: dict[str, int] = {}
    for event in recorded(lockstep).feedback:
        counts[codec.kind_of(event)] = counts.get(codec.kind_of(event), 0) + 1
    assert {"slot_expired", "sprout_failed", "rehearsal_answered", "nodes_reborn", "target_promoted"} <= counts.keys()


def test_two_runs_in_one_stream_are_each_held_to_their_own() -> None:
    runs = [RecordedRun(run_id=name, seed=seed, away=0.03) for name, seed in (("one", 1), ("two", 2))]
    for run in runs:
        run.run()
    pairs = zip_longest(*(run.feedback for run in runs))
    log = copy([event for event in chain.from_iterable(pairs) if event is not None])
    report = Report()
    assert not found(log, requests=enumerate([*runs[0].requests, *runs[1].requests]), report=report)
    assert report.runs == 2
    offset = next(o for o, e in enumerate(log) if e.run_id == "two" and e.HasField("paths_drawn"))
    log[offset].paths_drawn.slots[0].leader = "nobody"
    sequence = sum(event.run_id == "two" for event in log[:offset])
    assert f"feedback offset {offset}, run sequence {sequence} of two" in {problem.where for problem in found(log)}


def test_a_second_delivery_is_late_and_moves_nothing() -> None:
    log = recorded().feedback
    report = Report()
    assert not found([*log, log[first(log, "harvest_judged")], log[first(log, "paths_drawn")]], report=report)
    assert report.late >= 2


def by_hand(kind: str, **body: Any) -> Event:
    return Event(event_id=derived_id("by hand"), run_id="run", producer="cli", schema_version=1, **{kind: body})


@pytest.mark.parametrize("lockstep", [False, True])
def test_a_run_that_a_person_ends_anywhere_has_no_problem(lockstep: bool) -> None:
    """What is in flight then still comes in; nothing more is decided."""
    for action in range(1, 300, 9):
        bandit = {"lockstep": lockstep, "introspection": "paper"}
        run = RecordedRun(seed=5, away=0.02, withheld=0.05, cancelled=action, settings=settings(5, bandit=bandit))
        state = run.run()
        assert state.finished in ("cancelled by hand", "all rounds done")
        assert not found(run.feedback, requests=enumerate(run.requests))


def test_a_run_that_is_over_cannot_be_ended_by_a_person() -> None:
    before, after = Report(), Report()
    assert not found(recorded().feedback, report=before)
    assert not found([*recorded().feedback, by_hand("run_finished", reason="too late")], report=after)
    assert after.late == before.late + 1


# ---- one corruption of each kind -------------------------------------------------------------------------------

CORRUPTIONS: dict[str, tuple[Kind, Callable[[Log], int]]] = {}


def corruption(kind: Kind) -> Callable[[Callable[[Log], int]], Callable[[Log], int]]:
    """Registers a function that corrupts a log in place and gives the offset at which a problem `kind` must show."""

    def register(corrupt: Callable[[Log], int]) -> Callable[[Log], int]:
        CORRUPTIONS[corrupt.__name__] = (kind, corrupt)
        return corrupt

    return register


@corruption(Kind.VERDICT)
def a_reward_that_the_verdicts_do_not_give(log: Log) -> int:
    at = first(log, "harvest_judged", lambda judged: judged.counted)
    log[at].harvest_judged.reward ^= 1
    return at


@corruption(Kind.VERDICT)
def a_verdict_counted_by_nobodys_vote(log: Log) -> int:
    at = first(log, "harvest_judged", lambda judged: not judged.counted)
    log[at].harvest_judged.counted = True
    log[at].harvest_judged.best = 1
    return at


@corruption(Kind.VERDICT)
def a_best_answer_without_a_majority(log: Log) -> int:
    at = first(log, "harvest_judged", lambda judged: judged.counted and judged.best > 0)
    log[at].harvest_judged.best = 0
    return at


@corruption(Kind.VERDICT)
def an_order_that_is_no_permutation(log: Log) -> int:
    at = first(log, "harvest_judged", lambda judged: bool(judged.verdicts))
    order = log[at].harvest_judged.verdicts[0].order
    order[0] = order[1]
    return at


@corruption(Kind.VERDICT)
def a_second_verdict_on_the_same_order(log: Log) -> int:
    at = first(log, "harvest_judged", lambda judged: bool(judged.verdicts))
    verdicts = log[at].harvest_judged.verdicts
    verdicts[1].order[:] = list(verdicts[0].order)
    return at


@corruption(Kind.VERDICT)
def an_answer_made_identical_to_the_targets(log: Log) -> int:
    at = first(log, "harvest_judged", lambda j: len(j.verdicts) > 0 and j.reward and not j.answers[0].failed)
    judged = log[at].harvest_judged
    judged.answers[judged.best].text = judged.answers[0].text
    return at


@corruption(Kind.SETTLEMENT)
def a_result_to_a_request_that_nobody_made(log: Log) -> int:
    at = first(log, "harvest_judged")
    log[at].harvest_judged.request_hash = "0" * 32
    return at


@corruption(Kind.SETTLEMENT)
def a_verdict_about_another_domain(log: Log) -> int:
    at = first(log, "harvest_judged", lambda judged: judged.counted)
    log[at].harvest_judged.path[2] = "elsewhere"
    return at


@corruption(Kind.HASH)
def a_request_hash_that_is_not_that_of_the_path(log: Log) -> int:
    at = first(log, "slot_continued", lambda body: len(body.drawn.path) == 3)
    log[at].slot_continued.drawn.request_hash = derived_id("something else")
    return at


@corruption(Kind.DECISION)
def a_decision_based_on_a_state_after_it(log: Log) -> int:
    at = first(log, "paths_drawn")
    log[at].paths_drawn.based_on = at + 3
    return at


@corruption(Kind.DECISION)
def a_decision_based_on_a_state_that_did_not_call_for_it(log: Log) -> int:
    at = first(log, "training_drawn")
    log[at].training_drawn.based_on = 2
    return at


@corruption(Kind.DRAW)
def a_leader_who_is_no_source(log: Log) -> int:
    at = first(log, "paths_drawn")
    log[at].paths_drawn.slots[3].leader = "nobody"
    return at


@corruption(Kind.DRAW)
def a_path_of_nodes_that_are_no_path(log: Log) -> int:
    at = first(log, "slot_continued", lambda body: len(body.drawn.path) == 3)
    log[at].slot_continued.drawn.path[0] += 1
    return at


@corruption(Kind.DRAW)
def a_draw_of_an_arm_before_it_was_born(log: Log) -> int:
    at = first(log, "slot_continued", lambda body: len(body.drawn.path) > 0)
    log[at].slot_continued.based_on = 2
    return at


@corruption(Kind.DRAW)
def a_draw_of_an_arm_that_is_closed(log: Log) -> int:
    """Root's unk arm is closed by its failures; then a slot of the next step is made to end on it."""
    closed = {"sprout_failures": 1, "slots": 14}
    run = RecordedRun(seed=7, settings=settings(7, bandit=closed))
    run.run()
    log[:] = copy(run.feedback)
    failed = next(i for i, e in enumerate(log) if e.HasField("sprout_failed") and e.sprout_failed.parent == 0)
    at = first(log, "paths_drawn", lambda body: not body.rehearsal and body.based_on > failed)
    log[at].paths_drawn.slots[0].path[:] = []
    log[at].paths_drawn.slots[0].request_hash = ""
    return at


@corruption(Kind.DRAW)
def a_step_that_lacks_a_slot(log: Log) -> int:
    at = first(log, "paths_drawn")
    del log[at].paths_drawn.slots[-1]
    return at


@corruption(Kind.SPROUT)
def a_domain_that_nobody_proposed(log: Log) -> int:
    at = first(log, "domains_sprouted")
    log[at].domains_sprouted.names[0].name = "smuggled in"
    return at


@corruption(Kind.SPROUT)
def a_failed_sprout_with_a_name_that_had_votes(log: Log) -> int:
    at = first(log, "sprout_failed", lambda body: body.failure == Failure.REJECTED)
    log[at].sprout_failed.proposals.add(model="a", text="quite new", votes=9)
    return at


@corruption(Kind.REBIRTH)
def a_rebirth_to_another_window(log: Log) -> int:
    at = first(log, "nodes_reborn", lambda body: bool(body.rebirths))
    rebirth = log[at].nodes_reborn.rebirths[0]
    rebirth.window_sum = rebirth.window_sum - 1 if rebirth.window_sum else 1
    return at


@corruption(Kind.REBIRTH)
def a_rebirth_above_the_threshold(log: Log) -> int:
    at = first(log, "nodes_reborn", lambda body: bool(body.rebirths))
    log[at].nodes_reborn.rebirths[0].p_value = 0.99
    return at


@corruption(Kind.TRAINING)
def a_training_on_what_is_no_sample(log: Log) -> int:
    at = first(log, "training_drawn")
    log[at].training_drawn.samples[0] = 0
    return at


@corruption(Kind.TRAINING)
def a_training_on_a_harvest_without_a_verdict(log: Log) -> int:
    at = first(log, "training_drawn")
    log[at].training_drawn.samples[0] = first(log, "harvest_judged", lambda judged: not judged.counted)
    return at


@corruption(Kind.TRAINING)
def a_training_from_a_version_that_is_not_the_last(log: Log) -> int:
    at = first(log, "training_drawn", lambda body: body.version == "r2")
    log[at].training_drawn.base_version = "base"
    return at


@corruption(Kind.TRAINING)
def a_promotion_of_fewer_samples_than_were_asked(log: Log) -> int:
    at = first(log, "target_promoted")
    log[at].target_promoted.examples -= 1
    return at


@corruption(Kind.TRAINING)
def held_back_samples_measured_though_none_are_held_back(log: Log) -> int:
    at = first(log, "target_promoted")
    log[at].target_promoted.held_back = 8
    return at


@corruption(Kind.TRAINING)
def masked_tokens_though_masking_is_off(log: Log) -> int:
    at = first(log, "target_promoted")
    log[at].target_promoted.masked.add(model="a", tokens=10, masked=0)
    return at


@corruption(Kind.TRAINING)
def preferences_though_there_is_no_beta(log: Log) -> int:
    at = first(log, "target_promoted")
    log[at].target_promoted.preferences = 1
    return at


@corruption(Kind.VERSION)
def a_harvest_by_a_version_that_was_never_promoted(log: Log) -> int:
    at = first(log, "harvest_judged")
    log[at].harvest_judged.target_version = "r9"
    log[at].harvest_judged.answers[0].version = "r9"
    return at


@corruption(Kind.ID)
def an_event_id_that_does_not_follow(log: Log) -> int:
    at = first(log, "nodes_reborn")
    log[at].event_id = derived_id("another")
    return at


@corruption(Kind.ID)
def a_result_under_another_results_id(log: Log) -> int:
    at = first(log, "harvest_judged")
    log[at].event_id = log[first(log[at + 1 :], "harvest_judged") + at + 1].event_id
    return at


@corruption(Kind.ENVELOPE)
def a_schema_version_that_is_not_known(log: Log) -> int:
    at = first(log, "harvest_judged")
    log[at].schema_version = 0
    return at


@corruption(Kind.ENVELOPE)
def a_result_that_names_another_slot(log: Log) -> int:
    at = first(log, "rehearsal_answered")
    log[at].slot += 1
    return at


@corruption(Kind.ENVELOPE)
def a_verdict_written_by_the_bandit(log: Log) -> int:
    at = first(log, "harvest_judged")
    log[at].producer = "bandit"
    return at


@corruption(Kind.ENVELOPE)
def a_decision_with_another_cause(log: Log) -> int:
    at = first(log, "paths_drawn")
    log[at].cause_id = log[at - 1].event_id + "x"
    return at


@corruption(Kind.RUN)
def a_run_finished_early(log: Log) -> int:
    end = log[-1]
    assert end.HasField("run_finished") or log.pop()
    at = first(log, "target_promoted") + 1
    log.insert(at, log[first(log, "run_finished")])
    return at


@corruption(Kind.RUN)
def a_decision_to_finish_passed_off_as_a_persons(log: Log) -> int:
    """In the middle of the run, where the bandit's own would be found."""
    at = first(log, "target_promoted") + 1
    log.insert(at, log.pop())
    log[at].producer, log[at].cause_id = "cli", ""
    log[at].round = log[at].step = 0
    return at


@corruption(Kind.ID)
def a_person_who_finishes_passed_off_as_the_bandit(log: Log) -> int:
    at = first(log, "target_promoted")
    log.insert(at, by_hand("run_finished", reason="cancelled by hand"))
    log[at].producer = "bandit"
    return at


@corruption(Kind.DECISION)
def a_decision_made_after_a_person_ended_the_run(log: Log) -> int:
    at = first(log, "nodes_reborn")
    log.insert(at, by_hand("run_finished", reason="cancelled by hand"))
    log[at + 1].nodes_reborn.based_on = at + 1
    return at + 1


@corruption(Kind.ENVELOPE)
def a_result_written_by_a_person(log: Log) -> int:
    at = first(log, "harvest_judged")
    log[at].producer = "cli"
    return at


@corruption(Kind.ENVELOPE)
def a_resume_by_the_bandit(log: Log) -> int:
    log.insert(9, by_hand("run_resumed"))
    log[9].producer = "bandit"
    return 9


@corruption(Kind.RUN)
def a_result_before_the_start(log: Log) -> int:
    log.insert(0, log[first(log, "harvest_judged")])
    return 0


@corruption(Kind.DRAW)
def a_slot_that_goes_on_beside_its_new_domain(log: Log) -> int:
    """The level above is drawn again, though the new domain is open."""
    at = first(log, "slot_continued", lambda body: len(body.drawn.path) == 1)
    log[at].slot_continued.drawn.path[:] = []
    return at


@corruption(Kind.TRAINING)
def a_training_on_fewer_samples_than_are_due(log: Log) -> int:
    at = first(log, "training_drawn")
    drawn = log[at].training_drawn
    del drawn.samples[4:]
    parts = (drawn.version, drawn.base_version, *drawn.average_with, *drawn.samples)
    drawn.request_hash = derived_id("run", "training", *parts)
    return at


@corruption(Kind.TRAINING)
def an_average_with_none(log: Log) -> int:
    at = first(log, "training_drawn", lambda body: len(body.average_with) > 0)
    drawn = log[at].training_drawn
    drawn.average_with[:] = []
    drawn.request_hash = derived_id("run", "training", drawn.version, drawn.base_version, *drawn.samples)
    return at


@corruption(Kind.RUN)
def a_pause_by_the_bandit_without_a_cause(log: Log) -> int:
    at = first(log, "nodes_reborn")
    paused = Event(event_id=derived_id("run", "run_paused", 0, 0), run_id="run", producer="bandit", schema_version=1)
    paused.run_paused.reason = "tired"
    log.insert(at, paused)
    return at


@corruption(Kind.DECISION)
def a_decision_made_while_the_run_was_paused(log: Log) -> int:
    at = first(log, "nodes_reborn")
    log.insert(at, by_hand("run_paused", reason="a person"))
    log[at + 1].nodes_reborn.based_on = at + 1
    return at + 1


@pytest.mark.parametrize("lockstep", [False, True])
@pytest.mark.parametrize("sentence", CORRUPTIONS)
def test_finds_and_places(sentence: str, lockstep: bool) -> None:
    kind, corrupt = CORRUPTIONS[sentence]
    log = copy(recorded(lockstep).feedback)
    at = corrupt(log)
    assert (f"feedback offset {at}, run sequence {at} of run", kind) in {(p.where, p.kind) for p in found(log)}


def _rehearsed_on_an_unk_arm(log: Log) -> int:
    at = first(log, "paths_drawn", lambda body: body.rehearsal)
    log[at].paths_drawn.slots[0].path[:] = []
    return at


def _given_up_though_arms_are_open(log: Log) -> int:
    at = first(log, "slot_continued", lambda body: not body.given_up)
    log[at].slot_continued.given_up = True
    del log[at].slot_continued.drawn.path[:]
    log[at].slot_continued.drawn.leader = log[at].slot_continued.drawn.request_hash = ""
    return at


def _goes_on_as_another_slot(log: Log) -> int:
    at = first(log, "slot_continued")
    log[at].slot += 1
    return at


@pytest.mark.parametrize("lockstep", [False, True])
@pytest.mark.parametrize(
    ("corrupt", "wrong"),
    [
        (_rehearsed_on_an_unk_arm, "a rehearsal on an unk arm"),
        (_given_up_though_arms_are_open, r"given up after \d failed sprouts, with arms open"),
        (_goes_on_as_another_slot, r"slot \d+ goes on as slot \d+"),
    ],
)
def test_what_is_wrong_with_a_slot_is_said(corrupt: Callable[[Log], int], wrong: str, lockstep: bool) -> None:
    log = copy(recorded(lockstep).feedback)
    at = corrupt(log)
    assert [p for p in found(log) if p.where.startswith(f"feedback offset {at},") and re.search(wrong, p.what)]


LEARNING = settings(
    5,
    training={
        "held_back_share": 0.3, "stm_perplexity": 2.5, "dpo_beta": 0.1, "dpo_max_pairs": 5,
        "launcher": "torchrun", "processes": 2,
    },
)  # fmt: skip


@pytest.mark.parametrize(
    ("said", "wrong"),
    [
        ({"held_back": 1, "held_back_loss_base": 1.0, "held_back_loss": 1.05}, ""),
        ({"held_back": 1, "held_back_loss_base": 1.0, "held_back_loss": 1.2}, "promoted, though the held-back loss"),
        ({"held_back": 10_000, "held_back_loss_base": 1.0, "held_back_loss": 0.5}, "10000 held-back samples measured"),
        ({"held_back_loss": 0.5}, "a held-back loss without held-back samples"),
        ({"held_back": 1, "held_back_loss_base": float("nan"), "held_back_loss": 0.5}, "cannot be"),
        ({"launcher": pb.LAUNCHER_TORCHRUN, "processes": 2, "resumed_step": 1}, ""),
        ({"launcher": pb.LAUNCHER_TORCHRUN, "processes": 1}, "in 1 processes, asked were 2 and 2"),
        ({"launcher": pb.LAUNCHER_INPROCESS, "processes": 2}, "launched by 1 in 2 processes"),
        ({"masked": [{"model": "a", "tokens": 4, "masked": 1}], "masked_share": 0.25}, ""),
        ({"masked": [{"model": "a", "tokens": 4, "masked": 1}], "masked_share": 0.5}, "a masked share of 0.5"),
        ({"masked": [{"model": "a", "tokens": 4, "masked": 5}], "masked_share": 1.25}, "more tokens masked"),
        ({"preferences": 5}, ""),
        ({"preferences": 6}, "6 preference pairs"),
    ],
)
def test_what_a_promotion_says_of_its_training_must_agree(said: dict[str, Any], wrong: str) -> None:
    run = RecordedRun(seed=5, settings=LEARNING)
    run.run()
    log = copy(run.feedback)
    at = first(log, "target_promoted")
    log[at].target_promoted.MergeFrom(type(log[at].target_promoted)(**said))
    assert [wrong in problem.what for problem in found(log)] == [True] * bool(wrong)


@pytest.mark.parametrize(("loss", "problems_of_it"), [(1.2, 0), (1.05, 1)])
def test_a_refusal_of_the_gate_must_be_borne_out_by_its_losses(loss: float, problems_of_it: int) -> None:
    run = RecordedRun(seed=5, settings=LEARNING)
    run.run()
    log = copy(run.feedback)[: first(run.feedback, "target_promoted") + 1]
    promoted, failure = log[-1].target_promoted, Failure.REJECTED.value
    asked = {"request_hash": promoted.request_hash, "version": promoted.version, "failure": failure}
    losses = {"held_back": 1, "held_back_loss_base": 1.0, "held_back_loss": loss}
    log[-1].ClearField("target_promoted")
    log[-1].training_failed.MergeFrom(TrainingFailed(**asked, **losses))
    log[-1].event_id = derived_id(log[-1].run_id, "training_failed", asked["request_hash"])
    assert len(found(log)) == problems_of_it


@pytest.mark.parametrize(
    "kind", ["paths_drawn", "slot_continued", "domains_sprouted", "harvest_judged", "nodes_reborn"]
)
def test_finds_that_an_event_is_missing(kind: str) -> None:
    log = copy(recorded().feedback)
    del log[first(log, kind)]
    assert found(log)


def _reward_twice(state: RunState) -> None:
    state.tree.alpha[2] += 1


def _lose_a_pair(state: RunState) -> None:
    next(iter(state.pairs.values())).pop()


def _forget_a_late_one(state: RunState) -> None:
    state.counts["late"] = 0


@pytest.mark.parametrize(
    ("spoil", "names"),
    [(_reward_twice, "arm 2 "), (_lose_a_pair, "pairs in store"), (_forget_a_late_one, "late events")],
)
def test_a_fold_that_adds_up_to_something_else_is_found(spoil: Callable[[RunState], None], names: str) -> None:
    ledger, state = Ledger("run", Report()), RunState()
    for event in recorded().feedback:
        ledger.take(event)
        evolve(state, event)
    assert not list(differences(ledger, state))
    spoil(state)
    (difference,) = differences(ledger, state)
    assert difference.startswith(names)


@functools.cache
def judged_apart() -> Log:
    judging = {"mode": "judge", "judges": APART, "verdicts": 3, "without_own_votes": True}
    run = RecordedRun(seed=5, settings=settings(5, preset="chat", judging=judging, harvest={"near_duplicate": 0.6}))
    run.run()
    return run.feedback


def _contradicts_itself(judged: Any) -> bool:
    return any(
        0 <= there.choice != back.choice
        for there, back in zip(judged.verdicts[::2], judged.verdicts[1::2], strict=True)
    )


def _two_verdicts(judged: Any) -> None:
    del judged.verdicts[4:6]


def _a_judge_of_the_panel(judged: Any) -> None:
    for verdict in judged.verdicts[:6]:
        verdict.judge = "a"


def _one_order_twice(judged: Any) -> None:
    for number in (2, 3):
        judged.verdicts[number].order[:] = list(judged.verdicts[number - 2].order)


def _none_right(judged: Any) -> None:
    judged.none_right = True


def _none_right_and_a_choice(judged: Any) -> None:
    """In a pair that came to no vote, so that nothing else is wrong."""
    pairs = zip(judged.verdicts[::2], judged.verdicts[1::2], strict=True)
    next(head for head, reverse in pairs if 0 <= head.choice != reverse.choice).none_right = True


def _cut(judged: Any) -> None:
    next(answer for answer in judged.answers if not answer.failed).finish_reason = "length"


def _declines(judged: Any) -> None:
    for answer in judged.answers:
        answer.text = answer.text and "I can't help with that."


def _a_gate_that_is_off(judged: Any) -> None:
    judged.refused.add(what="question", model="a", gate="language")


def _a_gate_for_the_other(judged: Any) -> None:
    judged.refused.add(what="question", model="a", gate="cut")


def _a_question_by_nobody(judged: Any) -> None:
    judged.refused.add(what="question", model="x", gate="near_duplicate")


@pytest.mark.parametrize(
    ("kind", "corrupt"),
    [
        *((Kind.VERDICT, corrupt) for corrupt in (_two_verdicts, _a_judge_of_the_panel, _one_order_twice)),
        *((Kind.VERDICT, corrupt) for corrupt in (_none_right, _none_right_and_a_choice)),
        *((Kind.GATE, corrupt) for corrupt in (_cut, _declines)),
        *((Kind.GATE, corrupt) for corrupt in (_a_gate_that_is_off, _a_gate_for_the_other, _a_question_by_nobody)),
    ],
)
def test_finds_what_judges_and_gates_cannot_have_done(kind: Kind, corrupt: Callable[[Any], None]) -> None:
    log = copy(judged_apart())
    assert not found(log)
    at = first(log, "harvest_judged", lambda j: j.counted and len(j.verdicts) == 12 and _contradicts_itself(j))
    corrupt(log[at].harvest_judged)
    assert kind in {problem.kind for problem in found(log) if f"offset {at}," in problem.where}


def test_the_recorded_runs_with_gates_hold_refusals_of_questions() -> None:
    assert any(r.gate == "near_duplicate" for e in judged_apart() for r in e.harvest_failed.refused)


# ---- beside the log --------------------------------------------------------------------------------------------


def test_a_question_of_a_benchmark_is_found(tmp_path: Path) -> None:
    log = recorded().feedback
    at = first(log, "harvest_judged")
    benchmark = tmp_path / "benchmark.jsonl"
    benchmark.write_text(json.dumps({"question": log[at].harvest_judged.question}))
    report = Report()
    gated = found(log, benchmarks=[benchmark], report=report)
    assert {problem.kind for problem in gated} == {Kind.GATE}
    assert f"offset {at}," in gated[0].where and report.questions_gated >= report.harvests


def promoted(folder: Path) -> Log:
    run = RecordedRun(seed=3, versions=VersionStore(folder))
    run.run()
    return run.feedback


def test_promoted_folders_are_held_to_their_checksums_and_absent_ones_are_counted(tmp_path: Path) -> None:
    log = promoted(tmp_path)
    report = Report()
    assert not found(log, versions=tmp_path, report=report)
    assert (report.versions, report.versions_absent) == (2, 0)
    report = Report()
    assert not found(log, versions=tmp_path / "elsewhere", report=report)
    assert (report.versions, report.versions_absent) == (0, 2)
    (tmp_path / "r1" / "weights").write_text("other weights")
    (problem,) = found(log, versions=tmp_path)
    assert problem.kind == Kind.VERSION and "r1/weights" in problem.what
    assert f"offset {first(log, 'target_promoted')}," in problem.where


def test_a_manifest_that_was_not_the_promoted_one_is_found(tmp_path: Path) -> None:
    log = copy(promoted(tmp_path))
    log[first(log, "target_promoted")].target_promoted.manifest_digest = "0" * 64
    (problem,) = found(log, versions=tmp_path)
    assert problem.kind == Kind.VERSION and "manifest" in problem.what


def _other_leader(request: Event) -> None:
    request.harvest_requested.leader = "b" if request.harvest_requested.leader != "b" else "a"


def _nobodys(request: Event) -> None:
    getattr(request, codec.kind_of(request)).request_hash = "0" * 32


def _other_sample(request: Event) -> None:
    request.training_requested.samples[0] += 1


def _forgotten_child(request: Event) -> None:
    request.sprout_requested.known.append("unheard of")


def _another_name(request: Event) -> None:
    request.sprout_requested.want += 1


def _other_settings(request: Event) -> None:
    getattr(request, codec.kind_of(request)).settings.seed += 1


@pytest.mark.parametrize(
    ("kind", "corrupt"),
    [
        ("harvest_requested", _other_leader),
        ("harvest_requested", _nobodys),
        ("sprout_requested", _nobodys),
        ("training_requested", _nobodys),
        ("training_requested", _other_sample),
        ("sprout_requested", _forgotten_child),
        ("sprout_requested", _another_name),
        ("answers_written", _nobodys),
        ("harvest_requested", _other_settings),
    ],
)
def test_a_request_that_no_decision_made_is_found(kind: str, corrupt: Callable[[Event], None]) -> None:
    run = recorded()
    asked = copy(run.requests)
    at = first(asked, kind)
    corrupt(asked[at])
    where = {problem.where for problem in found(run.feedback, requests=enumerate(asked))}
    assert where == {f"{codec.topic_of(asked[at]).name} offset {at} of run"}


def test_the_findings_of_the_log_file_come_first() -> None:
    both = list(chain(of_log_file(["bohdi.feedback offset 3: checksum"]), problems([])))
    assert [(problem.kind, str(problem)) for problem in both] == [
        (Kind.LOG, "log file: bohdi.feedback offset 3: checksum")
    ]


# ---- any single field ------------------------------------------------------------------------------------------

# What a log cannot prove of itself: why somebody stopped or failed, and the rules, which only draws follow from (the
# request topics repeat the settings, and are held to them).
FREE = (
    "run_started.settings.",
    "run_paused.reason",
    "run_finished.reason",
    "harvest_failed.failure",
    "sprout_failed.failure",
)


def fields(message: Any, above: Path_ = ()) -> Iterator[Path_]:
    for descriptor, value in message.ListFields():
        if descriptor.is_repeated:
            for index, item in enumerate(value):
                here = (*above, descriptor.name, index)
                yield from fields(item, here) if descriptor.message_type else [here]
        elif descriptor.message_type:
            yield from fields(value, (*above, descriptor.name))
        else:
            yield (*above, descriptor.name)


def changed(value: Any, rng: random.Random) -> Any:
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return max(0, value + rng.choice([-2, -1, 1, 2]))
    if isinstance(value, float):
        return value / 2 + 0.1
    return value + "x" if rng.random() < 0.5 else value[1:]


def mutate(event: Event, rng: random.Random) -> str:
    """Changes one field that is set; gives its name."""
    path = rng.choice(list(fields(event)))
    holder: Any = event
    for part in path[:-1]:
        holder = holder[part] if isinstance(part, int) else getattr(holder, part)
    if isinstance(path[-1], int):
        holder[path[-1]] = changed(holder[path[-1]], rng)
    else:
        setattr(holder, path[-1], changed(getattr(holder, path[-1]), rng))
    return ".".join(part for part in path if isinstance(part, str))


def state_hashes(log: Log) -> dict[str, str]:
    states: dict[str, RunState] = {}
    for event in log:
        evolve(states.setdefault(event.run_id, RunState()), event)
    return {run_id: state_sha256(state) for run_id, state in states.items()}


@given(seed=st.integers(0, 2**32), lockstep=st.booleans())
@hypothesis_settings(max_examples=150, deadline=None)
def test_any_change_of_one_field_is_found_or_moves_nothing(seed: int, lockstep: bool) -> None:
    rng = random.Random(seed)
    log = copy(recorded(lockstep).feedback)
    event = rng.choice(log)
    name = mutate(event, rng)
    when_it_ended = name == "time_us" and event is log[-1]  # no later event tells of that
    if not when_it_ended and not name.startswith(FREE) and not found(log):
        assert state_hashes(log) == state_hashes(recorded(lockstep).feedback), name


def disturb(log: Log, rng: random.Random) -> None:
    """Loses, repeats, moves or changes an event."""
    at, other = rng.randrange(1, len(log)), rng.randrange(1, len(log))
    match rng.randrange(4):
        case 0:
            del log[at]
        case 1:
            log.insert(other, log[at])
        case 2:
            log.insert(min(at + rng.randrange(8), len(log) - 1), log.pop(at))
        case _:
            mutate(log[at], rng)


@given(seed=st.integers(0, 2**32), lockstep=st.booleans())
@hypothesis_settings(max_examples=150, deadline=None)
def test_whatever_is_done_to_a_log_the_fold_and_the_ledger_add_it_up_alike(seed: int, lockstep: bool) -> None:
    """What is wrong is reported where it stands, and not once more as a difference at the end."""
    rng = random.Random(seed)
    log = copy(recorded(lockstep).feedback)
    for _ in range(rng.choice([1, 2, 5])):
        disturb(log, rng)
    ledger, state = Ledger("run", Report()), RunState()
    for event in log:
        ledger.take(event)
        evolve(state, event)
    assert not list(differences(ledger, state))


# ---- evaluations -----------------------------------------------------------------------------------------------


def evaluated(producer: str = "evaluation", **changes: Any) -> Log:
    """A run that was evaluated after its end: by the harness, or, without one, on held-out questions."""
    log = copy(recorded().feedback)
    score = {"domain": "tiny", "metric": "acc,none", "value": 12.5}
    by_harness = {"harness": "lm_eval 0", "tasks_digest": "digest", "limit": 5, "scores": [score]}
    body = {"model": "target", "version": "r1", "benchmark": "tiny"} | by_harness | changes
    about = [body["model"], body["version"], body["benchmark"]]
    about += [body["tasks_digest"], body["limit"]] if body["harness"] else []
    event_id = derived_id("run", "target_evaluated", *about)
    event = codec.by_hand("run", event_id, log[-1].time_us + 1, "target_evaluated", body)
    event.producer = producer
    return [*log, event]


HELD_OUT = {"harness": "", "tasks_digest": "", "limit": 0, "scores": [{"domain": "m > s > l", "accuracy": 0.5}]}


@pytest.mark.parametrize("producer", ["evaluation", "cli"])
def test_scores_of_the_harness_are_sound_whoever_asked_for_them(producer: str) -> None:
    assert not found(evaluated(producer))


def test_held_out_accuracy_is_sound() -> None:
    assert not found(evaluated(**HELD_OUT))


@pytest.mark.parametrize(
    ("producer", "changes"),
    [
        ("cli", HELD_OUT),
        ("evaluation", HELD_OUT | {"scores": [{"domain": "d", "accuracy": 1.5}]}),
        ("evaluation", HELD_OUT | {"scores": [{"domain": "d", "metric": "acc", "value": 0.5}]}),
        ("evaluation", HELD_OUT | {"limit": 5}),
        ("evaluation", {"scores": []}),
        ("evaluation", {"tasks_digest": ""}),
        ("evaluation", {"scores": [{"domain": "tiny", "accuracy": 0.5}]}),
        ("evaluation", {"scores": [{"domain": "tiny", "metric": "ppl", "value": float("nan")}]}),
        ("training", {}),
    ],
)
def test_an_evaluation_that_contradicts_itself_is_found(producer: str, changes: dict[str, Any]) -> None:
    problems_found = found(evaluated(producer, **changes))
    assert [problem.kind for problem in problems_found] == [Kind.ENVELOPE]


def test_the_id_of_an_evaluation_follows_from_the_tasks_as_they_were() -> None:
    log = evaluated()
    log[-1].target_evaluated.tasks_digest = "another"
    assert [problem.kind for problem in found(log)] == [Kind.ID]
