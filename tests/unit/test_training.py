"""Training: which samples are learnt, preferred or held back, and what the outcome says of it."""

from __future__ import annotations

import errno
import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bohdi_common.core.held_back import is_held_back
from bohdi_common.core.state import Failure
from bohdi_common.events import events_pb2 as pb
from bohdi_common.events.topics import FEEDBACK
from bohdi_common.log.sqlite import SqliteLog
from bohdi_common.models.port import ModelBlocked
from bohdi_common.models.versions import MANIFEST, VersionStore
from bohdi_common.runtime.shell import record_of
from services.training.handler import Training
from services.training.held_back import check
from services.training.job import Checkpointing, FineTuned, FineTuning, Masked, TrainingRegressed
from services.training.job_files import JobFolder
from services.training.lessons import Lessons, lessons_of
from services.training.samples import MissingSample, Sample, Samples, sample_of, worse_answer
from tests.unit.script import Script, request

RUN = "run"


def judged(*texts: str, best: int = 1, votes: tuple[int, ...] = (), question: str = "Why?") -> pb.HarvestJudged:
    """A counted harvest: the target's answer first, then those of a, b, c. `votes`: the choices that count."""
    return pb.HarvestJudged(
        question=question,
        answers=[pb.Answer(model=m, text=t) for m, t in zip(("target", "a", "b", "c"), texts, strict=False)],
        verdicts=[pb.Verdict(choice=choice, counted=True) for choice in votes],
        counted=True,
        best=best,
        reward=int(texts[best] != texts[0]),
    )


# ---- samples ---------------------------------------------------------------------------------------------------


def test_a_harvests_sample_is_its_best_answer_with_its_author() -> None:
    sample = sample_of(pb.Event(harvest_judged=judged("no", "yes", "maybe", best=2)))
    assert (sample.question, sample.answer, sample.author) == ("Why?", "maybe", "b")


def test_a_rehearsals_sample_is_the_targets_answer_and_has_no_worse_one() -> None:
    rehearsed = pb.RehearsalAnswered(question="Why?", answer=pb.Answer(model="target", text="so"))
    assert sample_of(pb.Event(rehearsal_answered=rehearsed)) == Sample("Why?", "so", "target", "")


@pytest.mark.parametrize(
    ("harvest", "worse"),
    [
        (judged("no", "yes", "never", votes=(1, 1, 0)), "no"),  # the target lost: its own answer, votes or not
        (judged("yes", "no", "never", best=0, votes=(0, 0, 1)), "never"),  # it won: the one with fewest votes
        (judged("yes", "no", "never", best=0, votes=(0, 0)), "no"),  # of several the first
        (judged("yes", "no", "never", "never", best=0, votes=(0, 2, 1)), "no"),  # twins have the votes of the first
        (judged("yes", "yes", "yes", best=0), ""),
        (judged("yes", "", "no", best=0), "no"),  # nothing said is no answer
        (judged("", "yes", "no", votes=(1,)), "no"),
    ],
)
def test_the_worse_answer_is_the_targets_that_lost_or_the_one_with_fewest_votes(
    harvest: pb.HarvestJudged, worse: str
) -> None:
    assert worse_answer(harvest) == worse


def test_an_answer_that_took_no_part_is_not_the_worse_one() -> None:
    harvest = judged("cut off", "yes", "no")
    harvest.answers[0].failed = "away"
    assert worse_answer(harvest) == "no"


def test_only_the_votes_that_count_tell_which_answer_is_worse() -> None:
    harvest = judged("yes", "no", "never", best=0, votes=(0, 1))
    harvest.verdicts.extend(pb.Verdict(choice=2) for _ in range(3))  # said in one order and unsaid in the other
    assert worse_answer(harvest) == "never"


def test_a_harvest_without_a_verdict_is_no_sample() -> None:
    undecided = pb.HarvestJudged(answers=[pb.Answer(text="no"), pb.Answer(text="yes")], best=-1)
    for fact in (pb.Event(event_id="x", harvest_judged=undecided), pb.Event(event_id="x", harvest_failed={})):
        with pytest.raises(MissingSample, match="event x is no sample"):
            sample_of(fact)


async def test_a_sample_is_found_by_its_place_among_the_events_of_its_run(tmp_path: Path) -> None:
    log = SqliteLog.open(tmp_path / "log", create=True)
    samples = Samples(lambda _: log)

    async def add(*of: str) -> None:
        for run_id in of:
            n = log.end(FEEDBACK.name)
            body = judged("no", f"{run_id} {n}")
            event = pb.Event(event_id=f"{run_id} {n}", run_id=run_id, producer="judging", harvest_judged=body)
            event.schema_version = 1
            await log.append([record_of(event)])

    await add("other", "run", "other", "other", "run")
    assert {n: found.answer for n, found in samples.fetch("run", [0, 1]).items()} == {0: "run 1", 1: "run 4"}
    with pytest.raises(MissingSample, match="run run has no event 2"):
        samples.fetch("run", [1, 2])
    await add("other", "run")
    assert {n: found.answer for n, found in samples.fetch("run", [2]).items()} == {2: "run 6"}
    assert {n: found.answer for n, found in samples.fetch("other", [3]).items()} == {3: "other 5"}
    await log.close()


# ---- what is held back -----------------------------------------------------------------------------------------


@given(st.text(), st.integers(0, 10**9), st.floats(0, 1), st.floats(0, 1))
def test_what_a_share_holds_back_a_larger_one_does_too(run_id: str, sequence: int, one: float, other: float) -> None:
    less, more = sorted((one, other))
    assert not is_held_back(run_id, sequence, less) or is_held_back(run_id, sequence, more)
    assert not is_held_back(run_id, sequence, 0.0)
    assert is_held_back(run_id, sequence, 1.0)


@pytest.mark.parametrize("share", [0.1, 0.5])
def test_about_the_share_is_held_back_and_other_samples_in_another_run(share: float) -> None:
    held = {sequence for sequence in range(4000) if is_held_back(RUN, sequence, share)}
    assert len(held) / 4000 == pytest.approx(share, abs=0.03)
    assert held != {sequence for sequence in range(4000) if is_held_back("another", sequence, share)}


def test_the_loss_on_what_is_held_back_may_rise_by_the_share_that_is_allowed_and_no_more() -> None:
    check(9, base=0.5, new=0.54, rise=0.1)
    with pytest.raises(TrainingRegressed):
        check(9, base=0.5, new=0.56, rise=0.1)


# ---- lessons ---------------------------------------------------------------------------------------------------


def lessons(samples: list[int], found: dict[int, Sample], **training: Any) -> Lessons:
    asked = request("training_requested", {"samples": samples}, training=training).training_requested
    return lessons_of(RUN, asked, found, lambda question: [{"role": "user", "content": question}])


def numbered(count: int) -> dict[int, Sample]:
    return {n: Sample(f"q{n}", f"a{n}", "a", f"w{n}" if n % 2 else "") for n in range(count)}


def test_without_options_every_draw_is_learnt_in_its_order() -> None:
    told = lessons([3, 1, 3, 0], {n: numbered(4)[n] for n in (0, 1, 3)})
    assert [told.examples[at].completion for at in told.order] == ["a3", "a1", "a3", "a0"]
    assert told.preferences == told.held_back == []


@given(st.lists(st.integers(0, 59), min_size=40, max_size=80))
def test_a_sample_is_either_learnt_or_held_back(samples: list[int]) -> None:
    found = {n: numbered(60)[n] for n in set(samples)}
    told = lessons(samples, found, held_back_share=0.3, dpo_beta=0.1)
    learnt = [told.examples[at].completion for at in told.order]
    held = {example.completion for example in told.held_back}
    assert learnt == [f"a{n}" for n in samples if not is_held_back(RUN, n, 0.3)]
    assert held == {f"a{n}" for n in samples if is_held_back(RUN, n, 0.3)}
    assert held.isdisjoint(pair.better for pair in told.preferences)


def test_preferences_are_different_pairs_as_drawn_first_and_bounded() -> None:
    told = lessons([5, 2, 1, 5, 3, 1], numbered(6), dpo_beta=0.1)
    assert [(pair.better, pair.worse) for pair in told.preferences] == [("a5", "w5"), ("a1", "w1"), ("a3", "w3")]
    assert [p.better for p in lessons([5, 2, 1, 3], numbered(6), dpo_beta=0.1, dpo_max_pairs=2).preferences] == [
        "a5",
        "a1",
    ]


def test_when_all_samples_are_held_back_the_share_is_named() -> None:
    held = next(n for n in range(100) if is_held_back(RUN, n, 0.5))
    with pytest.raises(ValueError, match=r"all 1 samples drawn are held back: lower training\.held_back_share"):
        lessons([held], {held: Sample("q", "a", "a")}, held_back_share=0.5)


# ---- the handler -----------------------------------------------------------------------------------------------

Outcome = Callable[..., Any]


@pytest.fixture
async def outcome(tmp_path: Path) -> AsyncIterator[Outcome]:
    """The event that comes of a training on the four harvests of a log, by a fine-tune that the test gives."""
    log = SqliteLog.open(tmp_path / "log", create=True)
    for n in range(4):
        body = judged("no", f"yes {n}", question=f"q{n}")
        event = pb.Event(event_id=str(n), run_id=RUN, schema_version=1, producer="judging", harvest_judged=body)
        await log.append([record_of(event)])
    versions = VersionStore(tmp_path / "versions")

    async def handled(
        fine_tune: Callable[[FineTuning], FineTuned],
        models: Script | None = None,
        asks: dict[str, Any] | None = None,
        **training: Any,
    ) -> pb.Event:
        service = Training(
            models or Script(lambda model, prompt: "it speaks"),
            Samples(lambda _: log),
            lambda _: versions,
            lambda model: tmp_path / model.version,
            fine_tune,
            clock=lambda: 7,
        )
        asked = request(
            "training_requested",
            {"samples": [2, 0, 1, 3, 2], "version": "r1", "base_version": "base"},
            training=training,
        )
        asked.training_requested.MergeFrom(pb.TrainingRequested(**{"request_hash": "ab", **(asks or {})}))
        (event,) = await service.handle(asked)
        return event

    yield handled
    await log.close()


def written(job: FineTuning, **figures: Any) -> FineTuned:
    (job.out / "weights").write_text("w")
    return FineTuned(steps=3, first_loss=2.0, last_loss=1.0, tokens=9, too_long=0, seconds=0.5, **figures)


async def test_a_promotion_says_what_was_masked_preferred_and_measured(outcome: Outcome, tmp_path: Path) -> None:
    counts = {"b": Masked(30, 3), "a": Masked(10, 5)}
    figures = {"preferences": 4, "preference_first_loss": 0.69, "preference_last_loss": 0.5, "held_back": 9}
    losses = {"held_back_loss_base": 1.5, "held_back_loss": 1.25}
    event = await outcome(lambda job: written(job, masked=counts, fully_masked=2, **figures, **losses))
    body = event.target_promoted
    assert body.masked_share == 0.2 and body.fully_masked == 2
    assert [(part.model, part.tokens, part.masked) for part in body.masked] == [("a", 10, 5), ("b", 30, 3)]
    assert (body.preferences, body.preference_loss_first, body.preference_loss_last) == (4, 0.69, 0.5)
    assert (body.held_back, body.held_back_loss_base, body.held_back_loss) == (9, 1.5, 1.25)
    assert json.loads((tmp_path / "versions/r1" / MANIFEST).read_bytes())["about"]["figures"]["fully_masked"] == 2


async def test_a_promotion_says_how_it_was_launched_and_leaves_no_job_behind(outcome: Outcome, tmp_path: Path) -> None:
    body = (await outcome(lambda job: written(job, resumed_step=2), checkpoint_steps=1)).target_promoted
    assert (body.launcher, body.processes, body.resumed_step) == (pb.LAUNCHER_INPROCESS, 1, 2)
    assert [path.name for path in (tmp_path / "versions").iterdir()] == ["r1"]


async def test_a_training_that_failed_says_how_it_was_launched_and_leaves_nothing(
    outcome: Outcome, tmp_path: Path
) -> None:
    def breaks(job: FineTuning) -> FineTuned:
        raise ValueError("no such folder")

    body = (await outcome(breaks)).training_failed
    assert (body.reason, body.launcher, body.processes) == ("no such folder", pb.LAUNCHER_INPROCESS, 1)
    assert list((tmp_path / "versions").iterdir()) == []


async def test_a_long_reason_is_told_by_its_beginning(outcome: Outcome) -> None:
    def breaks(job: FineTuning) -> FineTuned:
        raise ValueError("x" * 10_000)

    assert (await outcome(breaks)).training_failed.reason == "x" * 500


async def test_a_training_that_was_done_before_a_kill_is_not_done_again(outcome: Outcome, tmp_path: Path) -> None:
    def dies(job: FineTuning) -> FineTuned:
        raise KeyboardInterrupt

    jobs: list[FineTuning] = []
    first = JobFolder(tmp_path / "versions" / ".job-r1-ab")
    with pytest.raises(KeyboardInterrupt):
        await outcome(dies)
    first.perform(lambda job: jobs.append(job) or written(job), lambda: False, lambda step, loss: None)
    assert (await outcome(dies)).target_promoted.steps == 3 and len(jobs) == 1


def never(job: FineTuning) -> FineTuned:
    raise AssertionError("it was trained again")


async def test_a_version_that_stands_whole_for_the_request_is_not_made_again(outcome: Outcome, tmp_path: Path) -> None:
    """Killed between the publishing and the event, with the job's folder left as a killed process leaves it."""
    first = (await outcome(written)).target_promoted
    (tmp_path / "versions" / ".job-r1-ab").mkdir()
    assert (await outcome(never)).target_promoted == first
    assert [path.name for path in (tmp_path / "versions").iterdir()] == ["r1"]


async def test_a_version_that_is_damaged_or_of_another_request_is_made_again(outcome: Outcome, tmp_path: Path) -> None:
    await outcome(written)
    weights = tmp_path / "versions/r1/weights"
    weights.write_text("damaged")
    await outcome(written)
    assert weights.read_text() == "w"
    with pytest.raises(AssertionError, match="trained again"):
        await outcome(never, asks={"request_hash": "cd"})


async def test_a_full_disk_is_for_a_person_to_mend_and_what_may_fill_it_is_gone(
    outcome: Outcome, tmp_path: Path
) -> None:
    def fills(job: FineTuning) -> FineTuned:
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(ModelBlocked, match=r"No space left on device.*: mend that, or make room"):
        await outcome(fills)
    assert list((tmp_path / "versions").iterdir()) == []


async def test_a_training_goes_on_from_its_base_and_is_averaged_with_the_versions_named(
    outcome: Outcome, tmp_path: Path
) -> None:
    jobs: list[FineTuning] = []
    sharded = pb.Settings(training=pb.TrainingSettings(sharding=pb.SHARDING_FSDP))
    asks = {"version": "r4", "base_version": "r3", "average_with": ["r2", "r3"], "settings": sharded}
    await outcome(lambda job: jobs.append(job) or written(job), asks=asks)
    of = {name: tmp_path / name for name in ("base", "r2", "r3")}
    assert (jobs[0].base, jobs[0].root, jobs[0].average_with) == (of["r3"], of["base"], [of["r2"], of["r3"]])
    assert (jobs[0].seed, jobs[0].sharded) == (0xAB, True)


async def test_time_alone_can_make_checkpoints(outcome: Outcome) -> None:
    jobs: list[FineTuning] = []
    for seconds in (9.0, 0.0):
        asks = {"version": f"s{seconds:.0f}"}
        await outcome(lambda job: jobs.append(job) or written(job), asks=asks, checkpoint_s=seconds)
    assert [job.checkpoints and job.checkpoints.seconds for job in jobs] == [9.0, None]


async def test_checkpoints_are_of_the_request_and_in_the_folder_of_its_job(outcome: Outcome, tmp_path: Path) -> None:
    jobs: list[FineTuning] = []
    await outcome(lambda job: jobs.append(job) or written(job), checkpoint_steps=7, checkpoint_s=9.0)
    folder = JobFolder(tmp_path / "versions" / ".job-r1-ab")
    assert jobs[0].checkpoints == Checkpointing(folder.checkpoints, "ab", 7, 9.0)


async def test_settings_of_the_request_reach_the_fine_tune(outcome: Outcome) -> None:
    jobs: list[FineTuning] = []
    wanted = {
        "stm_perplexity": 2.5, "dpo_beta": 0.5, "dpo_learning_rate": 1e-4, "dpo_epochs": 3, "packing": True,
        "held_back_loss_rise": 0.25,
    }  # fmt: skip
    await outcome(lambda job: jobs.append(job) or written(job), **wanted)
    assert {name: getattr(jobs[0], name) for name in wanted} == wanted
    assert [(pair.better, pair.worse) for pair in jobs[0].preferences] == [
        ("yes 2", "no"), ("yes 0", "no"), ("yes 1", "no"), ("yes 3", "no"),
    ]  # fmt: skip
    assert {example.author for example in jobs[0].examples} == {"a"}


async def test_a_training_that_the_gate_refuses_fails_for_good_with_both_losses(outcome: Outcome) -> None:
    def regressed(job: FineTuning) -> FineTuned:
        raise TrainingRegressed(12, 0.5, 0.75, 0.1)

    body = (await outcome(regressed)).training_failed
    assert (body.failure, body.held_back, body.held_back_loss_base, body.held_back_loss) == (
        Failure.REJECTED, 12, 0.5, 0.75,
    )  # fmt: skip
    assert body.reason.startswith("the loss on 12 held-back samples rose from 0.5 to 0.75")


@pytest.mark.parametrize("answered", ["q2", "q0", "q1", "q3"])  # the first four that were drawn
async def test_a_version_that_answers_one_of_the_first_questions_drawn_is_promoted(
    outcome: Outcome, answered: str
) -> None:
    models = Script(lambda model, prompt: "it speaks" if prompt == answered else " ")
    event = await outcome(written, models)
    assert event.target_promoted.trial_answer == "it speaks"
    assert models.served == ["r1"]
    assert models.calls[-1][1][-1]["content"] == answered


async def test_a_version_that_says_nothing_gives_way_to_the_one_before_it(outcome: Outcome) -> None:
    models = Script(lambda model, prompt: " ")
    event = await outcome(written, models)
    assert event.training_failed.failure == Failure.REJECTED
    assert event.training_failed.reason == "r1 gives no answer to 4 questions that it was trained on"
    assert models.served == ["r1", "base"]
    assert [call[1][-1]["content"] for call in models.calls] == ["q2", "q0", "q1", "q3"]


async def test_examples_counts_the_draws_that_are_not_held_back(outcome: Outcome) -> None:
    share = 0.5
    event = await outcome(written, held_back_share=share)
    assert event.target_promoted.examples == sum(not is_held_back(RUN, n, share) for n in (2, 0, 1, 3, 2))
    assert 0 < event.target_promoted.examples < 5
