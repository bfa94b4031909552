"""Generation: the leader writes a question for a leaf, the target and all sources answer it.

A rehearsal is the same with the target alone, and needs no judge.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bohdi_common.core.state import Failure
from bohdi_common.events import codec
from bohdi_common.events.events_pb2 import Event, HarvestRequested, HarvestSettings
from bohdi_common.events.topics import HARVEST_REQUESTS
from bohdi_common.models import prompts
from bohdi_common.models.port import (
    ChatModels,
    ModelBlocked,
    ModelRef,
    ModelRefused,
    ModelUnavailable,
    Reply,
    Sampling,
    Usage,
)
from bohdi_common.runtime.shell import Clock, wall_clock_us
from services.generation import languages, styles
from services.generation.answer_gates import why_out
from services.generation.gates import decontamination, refusal
from services.generation.near_duplicates import Asked, EarlierQuestions, Index

CAPACITY = 128  # inputs in flight: a whole step waits for models that answer in batches
_TEXT_BYTES = 256 * 1024  # of one text in an event; five sources' answers still fit a record
_GREEDY = 0.0


@dataclass
class Generation:
    """`earlier` knows what was asked before; `benchmark_of` finds the file that the settings name."""

    models: ChatModels
    earlier: EarlierQuestions
    benchmark_of: Callable[[str], Path] = Path
    clock: Clock = wall_clock_us
    name: str = field(default="generation", init=False)
    topic = HARVEST_REQUESTS

    async def handle(self, event: Event) -> Sequence[Event]:
        """AnswersWritten, or RehearsalAnswered for a rehearsal; HarvestFailed when question or answers were no good."""
        if event.harvest_requested.settings.harvest.languages:
            await languages.ready()
        try:
            return [await self._harvest(event)]
        except BaseException:
            self.earlier.withdraw(event.run_id, event.harvest_requested.request_hash)
            raise

    async def _harvest(self, event: Event) -> Event:
        asked = event.harvest_requested
        usage = Usage()
        question, refused = await self._question(event, usage)
        if question is None:
            return self._unasked(event, refused)
        common = {
            "path": list(asked.path),
            "question": question,
            "leader": asked.leader,
            "prompts": asked.settings.prompts,
            "question_style": _style(event),
            "question_prompt_tokens": usage.prompt_tokens,
            "question_completion_tokens": usage.completion_tokens,
        }
        if asked.rehearsal:
            return await self._rehearse(event, question, common, refused)
        answers = await self._answers(event, question, refused)
        usable = [answer for answer in answers if not answer["failed"]]
        if len(usable) < 2:
            return self._failed(event, "fewer than two models answered", "answers", refused, question)
        body = common | {
            "target_version": asked.target_version,
            "answers": answers,
            "settings": asked.settings,
            "refused": refused,
        }
        return codec.result(event, self.name, self.clock(), "answers_written", body)

    async def _question(self, event: Event, usage: Usage) -> tuple[str | None, list[dict[str, Any]]]:
        """The first question of the leader's samples that passes the gates, or None; and what the gates refused."""
        asked = event.harvest_requested
        settings, rules = asked.settings, asked.settings.harvest
        prompt = prompts.load(settings.prompts)
        leader = next(source for source in settings.sources if source.name == asked.leader)
        sampling = Sampling(
            rules.question_max_tokens, leader.temperature_question, rules.question_top_p, rules.question_samples,
            form=prompt.form("question"),
        )  # fmt: skip
        messages = prompt.ask_question(asked.path, _style(event))
        reply = await self.models.complete(ModelRef.of(leader, asked_by=event.run_id), messages, sampling)
        usage.add(reply)
        earlier = await self.earlier.of(event.run_id, rules.near_duplicate) if rules.near_duplicate else None
        refused: list[dict[str, Any]] = []
        for completion in reply.completions:
            question = prompt.read_question(completion.text)
            if question is None or completion.finish_reason == "length":
                continue
            question = _bounded(question)[0]
            gate, reason, like = self._why_not(event, question, earlier)
            if not gate:
                if earlier is not None:
                    earlier.add(Asked(asked.request_hash, question, (event.round, event.step)))
                return question, refused
            refused.append(refusal("question", asked.leader, gate, reason, question, like))
        return None, refused

    def _why_not(self, event: Event, question: str, earlier: Index | None) -> tuple[str, str, str]:
        """(gate, reason, request of the earlier question that it is like) of the gate that refuses a question, or three
        empty texts."""
        asked = event.harvest_requested
        rules = asked.settings.harvest
        files = tuple(self.benchmark_of(name) for name in rules.benchmarks)
        if decontamination(files, rules.decontamination_words).refuses(question):
            return "benchmark", "stands in a benchmark", ""
        if rules.languages and (language := languages.other_language(question, rules.languages)):
            return "language", f"in {language}", ""
        if earlier is not None:
            # In lockstep a run is the same whenever results come: what else is asked in this step must not count.
            before = (event.round, event.step) if asked.settings.bandit.lockstep else None
            if like := earlier.like(question, asked.request_hash, before):
                return "near_duplicate", "like an earlier question", like
        return "", "", ""

    async def _answers(self, event: Event, question: str, refused: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """The target's answer, then each source's; what gates refuse of them goes into `refused` too. A source that is
        away takes no part; without the target there is nothing to learn, so its absence is raised, and so is that of a
        source that a person must mend."""
        asked = event.harvest_requested
        settings = asked.settings
        target = ModelRef.of(settings.target, asked.target_version, event.run_id)
        calls = [self._answer(asked, target, question, settings.target.temperature_answer)]
        calls += [
            self._answer(asked, ModelRef.of(source, asked_by=event.run_id), question, source.temperature_answer)
            for source in settings.sources
        ]
        answers = []
        for call, outcome in enumerate(await asyncio.gather(*calls, return_exceptions=True)):
            model = settings.target if call == 0 else settings.sources[call - 1]
            if isinstance(outcome, dict):
                answers.append(outcome)
                refused += _gated(outcome, settings.harvest)
            elif isinstance(outcome, ModelBlocked):
                raise outcome
            elif isinstance(outcome, ModelRefused) or (isinstance(outcome, ModelUnavailable) and call > 0):
                answers.append({"model": model.name, "failed": str(outcome)[:200]})
            else:
                raise outcome
        return answers

    async def _rehearse(
        self, event: Event, question: str, common: dict[str, Any], refused: list[dict[str, Any]]
    ) -> Event:
        """The target's own answer, greedy: what it would say is what it is to keep saying."""
        asked = event.harvest_requested
        target = ModelRef.of(asked.settings.target, asked.target_version, event.run_id)
        answer = await self._answer(asked, target, question, _GREEDY)
        refused += _gated(answer, asked.settings.harvest)
        if answer["failed"]:
            return self._failed(event, f"the target's answer: {answer['failed']}", "answers", refused, question)
        return codec.result(event, self.name, self.clock(), "rehearsal_answered", common | {"answer": answer})

    async def _answer(
        self, asked: HarvestRequested, model: ModelRef, question: str, temperature: float
    ) -> dict[str, Any]:
        rules = asked.settings.harvest
        messages = prompts.load(asked.settings.prompts).ask_answer(question)
        sampling = Sampling(rules.answer_max_tokens, temperature, rules.answer_top_p, logprobs=True)
        return _answer_fields(model, await self.models.complete(model, messages, sampling))

    def _unasked(self, event: Event, refused: list[dict[str, Any]]) -> Event:
        """No question to ask: the leader wrote none, or none that passes the gates."""
        if not refused:
            return self._failed(event, "the leader wrote no question", "question", refused)
        gates = ", ".join(dict.fromkeys(what["gate"] for what in refused))
        return self._failed(event, f"every question was refused: {gates}", "gate", refused)

    def _failed(
        self, event: Event, reason: str, stage: str, refused: list[dict[str, Any]], question: str = ""
    ) -> Event:
        failed = {"failure": Failure.REJECTED.value, "reason": reason, "stage": stage}
        body = failed | {"question": question, "refused": refused}
        return codec.result(event, self.name, self.clock(), "harvest_failed", body)


def _style(event: Event) -> str:
    asked = event.harvest_requested
    offered, seed = asked.settings.harvest.question_styles, asked.settings.seed
    return styles.drawn(offered, seed, event.round, event.step, event.slot, asked.path)


def _gated(answer: dict[str, Any], rules: HarvestSettings) -> list[dict[str, Any]]:
    """Holds an answer to the gates: one that is refused takes no part from here on, and its refusal is given."""
    if answer["failed"]:
        return []
    gate, reason = why_out(answer["text"], answer["finish_reason"] == "length", rules.drop_refusals, rules.drop_cut)
    if not gate and rules.languages and (language := languages.other_language(answer["text"], rules.languages)):
        gate, reason = "language", f"in {language}"
    if not gate:
        return []
    answer["failed"] = f"{gate}: {reason}"
    return [refusal("answer", answer["model"], gate, reason, answer["text"])]


def _answer_fields(model: ModelRef, reply: Reply) -> dict[str, Any]:
    """An Answer of the proto. An empty one takes no part; one that the token limit cut does, unless a gate says
    otherwise: judges see what is missing."""
    completion = reply.completions[0]
    text, truncated = _bounded(completion.text.strip())
    return {
        "model": model.name,
        "version": model.version,
        "text": text,
        "truncated": truncated,
        "finish_reason": completion.finish_reason,
        "prompt_tokens": reply.prompt_tokens,
        "completion_tokens": completion.completion_tokens,
        "seconds": reply.seconds,
        "failed": "" if text else "empty",
        "mean_logprob": completion.mean_logprob,
    }


def _bounded(text: str) -> tuple[str, bool]:
    """The text within the record limit, and whether it was cut."""
    raw = text.encode("utf-8", "replace")
    if len(raw) <= _TEXT_BYTES:
        return raw.decode("utf-8"), False
    return raw[:_TEXT_BYTES].decode("utf-8", "ignore"), True
