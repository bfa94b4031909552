"""What people are told of a run: refusals by gate and reason, judges, outcomes without a right answer, evaluations."""

from typing import Any

from bohdi import figures
from bohdi.figures import Figures
from bohdi_common.core.state import RunState
from bohdi_common.events import codec
from bohdi_common.events.events_pb2 import Event, Score, TargetEvaluated

REFUSED = {"what": "question", "model": "a", "gate": "benchmark", "reason": "stands in a benchmark"}
CUT = {"what": "answer", "model": "a", "gate": "cut", "reason": "cut by the token limit"}


def told(*events: dict[str, Any]) -> Figures:
    found = Figures()
    for event in events:
        found.add(Event(event_id="e", run_id="run", **event))
    return found


def test_refusals_are_counted_by_what_by_gate_and_by_reason() -> None:
    found = told(
        {"harvest_failed": {"stage": "gate", "refused": [REFUSED, REFUSED]}},
        {"harvest_judged": {"refused": [REFUSED, CUT]}},
    )
    counts = {
        "answer": {"cut": {"cut by the token limit": 1}},
        "question": {"benchmark": {"stands in a benchmark": 3}},
    }
    assert figures.refusals(found) == counts
    assert figures.status(found, RunState())["refusals"] == figures.summary(found, RunState(), "")["refusals"] == counts
    assert figures.refusal_lines(counts) == [
        "1 answer refused by cut: cut by the token limit",
        "3 questions refused by benchmark: stands in a benchmark",
    ]


def judged(position: int, order: list[int], **body: Any) -> dict[str, Any]:
    answers = [{"model": model, "text": model} for model in ("target", "a", "b")]
    verdict = {"judge": "a", "order": order, "choice": order[position], "counted": True}
    return {"harvest_judged": {"answers": answers, "verdicts": [verdict], **body}}


def test_judges_are_told_of_and_a_bias_beyond_chance_is_named_in_a_line() -> None:
    orders = [[0, 1, 2], [1, 2, 0], [2, 0, 1]] * 10
    found = told(*(judged(0, order) for order in orders))
    standing = figures.status(found, RunState())
    assert standing["judges"]["a"]["positions"][0]["share"] == 1.0
    assert standing["judges"] == figures.summary(found, RunState(), "")["judges"]
    (line,) = figures.judge_lines(standing["judges"])
    assert line.startswith("a: 30 votes on 30 harvests, chooses position 1 1.00 for 0.33")
    fair = told(*(judged(number % 3, order) for number, order in enumerate(orders * 3)))
    assert "position" not in figures.judge_lines(figures.status(fair, RunState())["judges"])[0]


def test_harvests_of_which_no_answer_is_right_are_counted() -> None:
    found = told({"harvest_judged": {"none_right": True}}, {"harvest_judged": {}})
    assert figures.status(found, RunState())["none_right"] == 1
    assert figures.summary(found, RunState(), "")["none_right"] == 1


def test_a_run_without_harvests_has_neither() -> None:
    standing = figures.status(Figures(), RunState())
    assert (standing["refusals"], standing["judges"]) == ({}, {})


def evaluated(time_us: int, scores: list[Score], harness: str = "", benchmark: str = "questions") -> Event:
    body = TargetEvaluated(model="target", version="r1", benchmark=benchmark, harness=harness, scores=scores)
    return codec.by_hand("run", f"e{time_us}", time_us, "target_evaluated", body)


def test_what_the_harness_gives_stands_beside_the_held_out_accuracy_and_the_last_of_the_same_tasks_counts() -> None:
    figures = Figures()
    figures.add(evaluated(1, [Score(domain="m > s > l", accuracy=0.75)]))
    for time_us, value in ((2, 0.25), (3, 0.5)):
        score = Score(domain="tiny", metric="acc,none", value=value, stderr=0.1, questions=9)
        figures.add(evaluated(time_us, [score], "lm_eval 0", "tiny"))
    assert figures.accuracy == {("target", "r1"): {"m > s > l": 0.75}}
    expected = {"task": "tiny", "metric": "acc,none", "value": 0.5, "stderr": 0.1, "questions": 9}
    assert figures.tasks == {("target", "r1", "tiny"): [expected]}
