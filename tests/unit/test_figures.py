"""What people are told of a run's evaluations."""

from __future__ import annotations

from bohdi.figures import Figures
from bohdi_common.events import codec
from bohdi_common.events.events_pb2 import Event, Score, TargetEvaluated


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
