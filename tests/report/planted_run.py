"""A recorded run in a folder in which everybody who can write a text has written what no page may take for markup."""

from __future__ import annotations

from pathlib import Path

from bohdi_common.core.ids import derived_id
from bohdi_common.events import codec
from bohdi_common.events.events_pb2 import Event, HarvestJudged
from bohdi_common.events.topics import DEAD
from bohdi_common.log.port import Record
from bohdi_common.runtime.shell import record_of
from tests.integration.test_verify_folder import append
from tests.recorded_run import RecordedRun, settings

MARKUP = (
    "</script><script>window.planted = 1</script><img src=x onerror='window.planted = 1'>"
    "<style>* { display: none }</style><!-- {{ 7 * 7 }} <a href='javascript:window.planted = 1'>"
)
TURNED = "\u202egpj.exe\u2066\u200b\x07"  # right to left, an isolate, no width, a bell
HOSTILE = f"{MARKUP} {TURNED}"
MODEL = "c<b onclick='window.planted = 1'>\u202e"  # the third source
ACCURACY = {
    "base": {"m0 > s0": 0.25, "m1": 0.75},
    "r1": {"m0 > s0": 0.5, "m1": 1.0},
    "r2": {"m0 > s0": 0.75, "m1": 0.875},
}
SOURCE = {"m0 > s0": 1.0, "m1": 0.5}


def planted_run(folder: Path) -> Path:
    """The folder of a whole run of two rounds, with failures, rebirths, evaluations and two dead letters."""
    rules = settings(
        3, bandit={"introspection": "paper", "rounds": 3, "steps": 3, "slots": 30, "rehearsal_questions": 6}
    )
    run = RecordedRun(seed=3, settings=rules, away=0.02, withheld=0.02)
    run.run()
    records = [record_of(_planted(event)) for event in (*run.feedback, *_evaluations(run))]
    folder.mkdir()
    append(folder, [*records, *_dead()])
    return folder


def _evaluations(run: RecordedRun) -> list[Event]:
    models = [("target", version, scores) for version, scores in ACCURACY.items()] + [("c", "", SOURCE)]
    return [
        Event(
            event_id=derived_id(run.run_id, "evaluated", model, version),
            run_id=run.run_id,
            time_us=run.now_us,
            schema_version=codec.SCHEMA_VERSION,
            producer="evaluation",
            target_evaluated={
                "model": model,
                "version": version,
                "benchmark": "held-out",
                "scores": [
                    {"domain": f"{name} {HOSTILE}", "accuracy": share, "questions": 8} for name, share in scores.items()
                ],
            },
        )
        for model, version, scores in models
    ]


def _planted(event: Event) -> Event:
    match event.WhichOneof("body"):
        case "run_started":
            event.run_started.settings.sources[2].name = MODEL
        case "paths_drawn":
            for slot in event.paths_drawn.slots:
                slot.leader = _name(slot.leader)
        case "slot_continued":
            event.slot_continued.drawn.leader = _name(event.slot_continued.drawn.leader)
        case "harvest_judged":
            _plant_harvest(event.harvest_judged)
            for number, model in enumerate(("target", "a", "b", "c"), 1):
                event.usage.add(model=model, prompt_tokens=10 * number, completion_tokens=number, calls=1)
        case "harvest_failed":
            event.harvest_failed.reason = event.harvest_failed.stage = HOSTILE
        case "sprout_failed":
            event.sprout_failed.reason = HOSTILE
        case "target_promoted":
            event.target_promoted.loss_first, event.target_promoted.loss_last = 2.5, float("nan")
            event.target_promoted.steps = 7
        case "target_evaluated":
            event.target_evaluated.model = _name(event.target_evaluated.model)
    for used in event.usage:
        used.model = _name(used.model)
    return event


def _plant_harvest(judged: HarvestJudged) -> None:
    judged.leader = _name(judged.leader)
    judged.question = HOSTILE + judged.question
    for answer in judged.answers:
        answer.text = answer.text and HOSTILE + answer.text
        answer.model = _name(answer.model)
    for verdict in judged.verdicts:
        verdict.judge = _name(verdict.judge)
        verdict.reply = HOSTILE


def _name(model: str) -> str:
    return MODEL if model == "c" else model


def _dead() -> list[Record]:
    told = (("topic", "bohdi.answers"), ("partition", "0"), ("offset", "7"), ("reason", MARKUP))
    return [Record(DEAD.name, "run", f"dead {number}", b"no event", told) for number in range(2)]
