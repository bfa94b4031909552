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
from bohdi_common.events.events_pb2 import Event, HarvestRequested
from bohdi_common.events.topics import HARVEST_REQUESTS
from bohdi_common.models import prompts
from bohdi_common.models.port import ChatModels, ModelRef, ModelRefused, ModelUnavailable, Reply, Sampling, Usage
from bohdi_common.runtime.shell import Clock, wall_clock_us
from services.generation.gates import decontamination

CAPACITY = 128  # inputs in flight: a whole step waits for models that answer in batches
_TEXT_BYTES = 256 * 1024  # of one text in an event; five sources' answers still fit a record
_GREEDY = 0.0


@dataclass
class Generation:
    """`benchmark_of` finds the file that the settings name."""

    models: ChatModels
    benchmark_of: Callable[[str], Path] = Path
    clock: Clock = wall_clock_us
    name: str = field(default="generation", init=False)
    topic = HARVEST_REQUESTS

    async def handle(self, event: Event) -> Sequence[Event]:
        """AnswersWritten, or RehearsalAnswered for a rehearsal; HarvestFailed when question or answers were no good."""
        asked = event.harvest_requested
        usage = Usage()
        question, why_not = await self._question(event.run_id, asked, usage)
        if question is None:
            return [self._failed(event, why_not, stage="gate" if "benchmark" in why_not else "question")]
        common = {
            "path": list(asked.path),
            "question": question,
            "leader": asked.leader,
            "prompts": asked.settings.prompts,
            "question_prompt_tokens": usage.prompt_tokens,
            "question_completion_tokens": usage.completion_tokens,
        }
        if asked.rehearsal:
            return [await self._rehearse(event, question, common)]
        answers = await self._answers(event, question)
        usable = [answer for answer in answers if not answer["failed"]]
        if len(usable) < 2:
            return [self._failed(event, "fewer than two models answered", "answers", question)]
        body = common | {"target_version": asked.target_version, "answers": answers, "settings": asked.settings}
        return [codec.result(event, self.name, self.clock(), "answers_written", body)]

    async def _question(self, run_id: str, asked: HarvestRequested, usage: Usage) -> tuple[str | None, str]:
        """The first question of the leader's samples that passes the gates, or None and why there is none."""
        settings = asked.settings
        prompt = prompts.load(settings.prompts)
        leader = next(source for source in settings.sources if source.name == asked.leader)
        rules = settings.harvest
        sampling = Sampling(
            rules.question_max_tokens, leader.temperature_question, rules.question_top_p, rules.question_samples,
            form=prompt.form("question"),
        )  # fmt: skip
        reply = await self.models.complete(
            ModelRef.of(leader, asked_by=run_id), prompt.ask_question(asked.path), sampling
        )
        usage.add(reply)
        gate = decontamination(tuple(self.benchmark_of(name) for name in rules.benchmarks))
        why_not = "the leader wrote no question"
        for completion in reply.completions:
            question = prompt.read_question(completion.text)
            if question is None or completion.finish_reason == "length":
                continue
            if not gate.refuses(question):
                return _bounded(question)[0], ""
            why_not = "every question stands in a benchmark"
        return None, why_not

    async def _answers(self, event: Event, question: str) -> list[dict[str, Any]]:
        """The target's answer, then each source's. A source that is away takes no part; without the target there is
        nothing to learn, so its absence is raised."""
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
            elif isinstance(outcome, ModelRefused) or (isinstance(outcome, ModelUnavailable) and call > 0):
                answers.append({"model": model.name, "failed": str(outcome)[:200]})
            else:
                raise outcome
        return answers

    async def _rehearse(self, event: Event, question: str, common: dict[str, Any]) -> Event:
        """The target's own answer, greedy: what it would say is what it is to keep saying."""
        asked = event.harvest_requested
        target = ModelRef.of(asked.settings.target, asked.target_version, event.run_id)
        answer = await self._answer(asked, target, question, _GREEDY)
        if answer["failed"]:
            return self._failed(event, f"the target's answer: {answer['failed']}", "answers", question)
        return codec.result(event, self.name, self.clock(), "rehearsal_answered", common | {"answer": answer})

    async def _answer(
        self, asked: HarvestRequested, model: ModelRef, question: str, temperature: float
    ) -> dict[str, Any]:
        rules = asked.settings.harvest
        messages = prompts.load(asked.settings.prompts).ask_answer(question)
        sampling = Sampling(rules.answer_max_tokens, temperature, rules.answer_top_p)
        return _answer_fields(model, await self.models.complete(model, messages, sampling))

    def _failed(self, event: Event, reason: str, stage: str, question: str = "") -> Event:
        body = {"failure": Failure.REJECTED.value, "reason": reason, "stage": stage, "question": question}
        return codec.result(event, self.name, self.clock(), "harvest_failed", body)


def _answer_fields(model: ModelRef, reply: Reply) -> dict[str, Any]:
    """An Answer of the proto. An answer that the token limit cut takes part (judges see what is missing); an empty one
    does not."""
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
    }


def _bounded(text: str) -> tuple[str, bool]:
    """The text within the record limit, and whether it was cut."""
    raw = text.encode("utf-8", "replace")
    if len(raw) <= _TEXT_BYTES:
        return raw.decode("utf-8"), False
    return raw[:_TEXT_BYTES].decode("utf-8", "ignore"), True
