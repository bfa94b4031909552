"""Provenance: what is told of a sample, a domain and a version is what the log and the fold have."""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Sequence
from typing import Any

import pytest

from bohdi import why_view
from bohdi.analysis import why
from bohdi.analysis.off_policy import reach
from bohdi_common.core.evolve import evolve
from bohdi_common.core.state import RunState
from bohdi_common.core.tree import LEAF_LEVEL, ROOT, Tree
from bohdi_common.events.events_pb2 import Event
from bohdi_common.runtime.config import BadConfig
from tests import closed_loop
from tests.closed_loop import Loop
from tests.recorded_run import RecordedRun, settings


def recorded(lockstep: bool = False, **shares: float) -> list[Event]:
    bandit = {"introspection": "paper", "lockstep": lockstep, "rounds": 3, "slots": 14}
    run = RecordedRun(seed=3, settings=settings(3, bandit=bandit, training={"held_back_share": 0.1}), **shares)
    run.run()
    return run.feedback


@pytest.fixture(scope="module", params=[False, True], ids=["at once", "in lockstep"])
def feedback(request: pytest.FixtureRequest) -> list[Event]:
    return recorded(request.param, away=0.02, withheld=0.1)


def state_after(feedback: Sequence[Event], count: int) -> RunState:
    state = RunState()
    for event in feedback[:count]:
        evolve(state, event)
    return state


def trained(state: RunState) -> list[int]:
    return sorted(sequence for pairs in state.pairs.values() for sequence in pairs)


def test_a_sample_is_told_with_all_answers_verdicts_and_trainings(feedback: list[Event]) -> None:
    sequence = trained(state_after(feedback, len(feedback)))[0]
    judged, told = feedback[sequence].harvest_judged, why.sample(lambda: feedback, str(sequence))
    assert (told["question"], told["leader"], told["prompts"]) == (judged.question, judged.leader, "micro-v1")
    assert [answer["text"] for answer in told["answers"]] == [answer.text for answer in judged.answers]
    assert [verdict["order"] for verdict in told["verdicts"]] == [list(v.order) for v in judged.verdicts]
    assert told["answers"][told["best"]]["text"] == judged.answers[judged.best].text
    assert told["took_effect"]
    uses = {
        event.training_drawn.version: list(event.training_drawn.samples).count(sequence)
        for event in feedback
        if sequence in event.training_drawn.samples
    }
    assert {used["version"]: used["draws"] for used in told["trainings"]} == uses
    assert told == why.sample(lambda: feedback, feedback[sequence].event_id[:12])


def test_a_draw_comes_with_its_probability_in_the_state_it_was_made_in(feedback: list[Event]) -> None:
    compared: Counter[str] = Counter()
    for sequence in trained(state_after(feedback, len(feedback)))[::2]:
        for draw in why.sample(lambda: feedback, str(sequence))["draws"]:
            assert draw["probability"] == pytest.approx(chance(draw, state_after(feedback, draw["based_on"])))
            assert draw["probability"] == pytest.approx(math.prod(turn["probability"] for turn in draw["turns"]))
            compared[draw["kind"]] += 1
    assert min(compared["paths_drawn"], compared["slot_continued"]) > 5


def test_a_draw_that_was_written_after_the_tree_had_moved_is_still_of_the_state_before() -> None:
    loop = Loop(settings=closed_loop.settings(bandit={"rounds": 1, "slots": 20}), order=random.Random(2))
    moved = 0
    for sequence in trained(loop.run())[::3]:
        for draw in why.sample(lambda: loop.log, str(sequence))["draws"]:
            assert draw["probability"] == pytest.approx(chance(draw, state_after(loop.log, draw["based_on"])))
            moved += draw["probability"] != pytest.approx(chance(draw, state_after(loop.log, draw["sequence"])))
    assert moved


def chance(draw: dict[str, Any], state: RunState) -> float:
    """By the way from Root to every arm, which is worked out for all arms at once."""
    assert state.rules is not None
    reached = reach(state.tree, state.rules.sharpness)
    start, end = (at(state.tree, draw[name]) for name in ("from", "to"))
    arm = end if len(draw["to"]) == LEAF_LEVEL else state.tree.unk_of[end]
    return float(reached[arm] / reached[start])


def at(tree: Tree, names: Sequence[str]) -> int:
    node = ROOT
    for name in names:
        found = tree.child_named(node, name)
        assert found is not None
        node = found
    return node


def test_every_sample_that_took_effect_has_the_decision_that_asked_for_it(feedback: list[Event]) -> None:
    for sequence in trained(state_after(feedback, len(feedback))):
        draws = why.sample(lambda: feedback, str(sequence))["draws"]
        assert draws and draws[-1]["to"] == list(feedback[sequence].harvest_judged.path)


def test_a_late_harvest_says_that_it_had_no_effect(feedback: list[Event]) -> None:
    known = set(trained(state_after(feedback, len(feedback))))
    late = [n for n, event in enumerate(feedback) if event.harvest_judged.counted and n not in known]
    assert late
    told = why.sample(lambda: feedback, str(late[0]))
    assert not told["took_effect"] and told["trainings"] == []
    assert any("without effect" in line for line in why_view.sample(told, 5))


def test_the_rewards_and_rebirths_of_a_node_make_its_posterior(feedback: list[Event]) -> None:
    tree = state_after(feedback, len(feedback)).tree
    reborn = 0
    for node in (node for node in range(1, len(tree)) if not tree.is_unk[node]):
        told = why.node(lambda: feedback, " > ".join(tree.path_names(node)))
        assert told["node"] == node
        assert told["posterior"]["alpha"] == tree.alpha[node]
        since = told["rebirths"][-1]["sequence"] if told["rebirths"] else -1
        start = told["rebirths"][-1]["after"] if told["rebirths"] else told["prior"]
        rewards = [reward["reward"] for reward in told["rewards"] if reward["sequence"] > since]
        assert tree.alpha[node] == start["alpha"] + sum(rewards)
        assert tree.beta[node] == start["beta"] + len(rewards) - sum(rewards)
        reborn += len(told["rebirths"])
    recorded_rebirths = [rebirth for event in feedback for rebirth in event.nodes_reborn.rebirths]
    assert reborn == len(recorded_rebirths) > 0


def test_a_node_is_told_with_who_proposed_it(feedback: list[Event]) -> None:
    told = why.node(lambda: feedback, " M0>s1 ")
    born = told["born"]
    sprouted = feedback[born["sprout_sequence"]].domains_sprouted
    proposals = {said.model: said.votes for said in sprouted.proposals if said.text == "s1"}
    assert born["by"] == "a sprout" and proposals
    assert {said["model"]: said["votes"] for said in born["proposals"]} == proposals
    assert born["sequence"] >= born["sprout_sequence"]


def test_a_domain_that_was_given_is_of_the_start() -> None:
    run = RecordedRun(seed=3, settings=settings(3), domains=(("Maths", "Algebra", "Groups"),))
    run.run()
    assert why.node(lambda: run.feedback, "maths > algebra")["born"]["by"] == "the start of the run"


def test_a_version_is_told_with_its_samples_and_its_result(feedback: list[Event]) -> None:
    drawn = next(event.training_drawn for event in feedback if event.training_drawn.version == "r2")
    told = why.version(lambda: feedback, "r2")
    assert {row["sequence"]: row["draws"] for row in told["samples"]} == Counter(drawn.samples)
    assert sum(told["by_author"].values()) == sum(told["by_domain"].values()) == len(drawn.samples)
    assert (told["base_version"], told["result"]["outcome"]) == ("r1", "promoted")
    assert why.version(lambda: feedback, "last")["version"] == "r3"
    assert why.version(lambda: feedback, "base")["target"]["name"] == "target"


def test_a_training_that_failed_tells_why() -> None:
    feedback = recorded(blocked=0.02)
    failed = next(event.training_failed for event in feedback if event.HasField("training_failed"))
    told = why.version(lambda: feedback, failed.version)
    assert told["result"]["failure"] == "FAILURE_CLASS_BLOCKED"
    assert any("the disk is full" in line for line in why_view.version(told, 5))


@pytest.fixture(scope="module")
def whole() -> list[Event]:
    return recorded()


@pytest.mark.parametrize(
    ("question", "said", "complaint"),
    [
        (why.sample, "0", "the event there is a run_started"),
        (why.sample, "999999", "the run has"),
        (why.sample, "abc", "6 digits of an event's id or more"),
        (why.node, "m0 > other", "no domain 'other' under m0: there are s"),
        (why.node, "", "no domain '' under Root"),
        (why.version, "r99", "there are base, r1, r2, r3"),
    ],
)
def test_what_is_not_there_is_one_line_that_says_what_is(
    whole: list[Event], question: Any, said: str, complaint: str
) -> None:
    with pytest.raises(BadConfig, match=complaint) as error:
        question(lambda: whole, said)
    assert "\n" not in str(error.value)


def test_no_word_of_a_model_reaches_the_terminal_as_it_is(feedback: list[Event]) -> None:
    sequence = trained(state_after(feedback, len(feedback)))[0]
    hostile = Event()
    hostile.CopyFrom(feedback[sequence])
    judged = hostile.harvest_judged
    evil = "\x1b]0;owned\x07\r\u202e\x9b2J"
    judged.question = judged.answers[0].text = judged.verdicts[0].reply = judged.question_style = evil * 200
    events = [*feedback[:sequence], hostile, *feedback[sequence + 1 :]]
    lines = list(why_view.sample(why.sample(lambda: events, str(sequence)), 50))
    assert all(line.isprintable() and len(line) < 9_000 for line in lines)
    assert any("\\x1b]0;owned" in line for line in lines)
