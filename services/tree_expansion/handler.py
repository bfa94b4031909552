"""Tree expansion: every source proposes names for new children of a node; valid, unknown, most voted ones are added."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Any

from bohdi_common.core import names
from bohdi_common.core.state import Failure
from bohdi_common.events import codec
from bohdi_common.events.events_pb2 import Event, ModelSettings, SproutRequested
from bohdi_common.events.topics import SPROUT_REQUESTS
from bohdi_common.models import prompts
from bohdi_common.models.port import (
    ChatModels,
    Completion,
    Message,
    ModelBlocked,
    ModelRef,
    ModelUnavailable,
    Sampling,
)
from bohdi_common.runtime.shell import Clock, wall_clock_us

CAPACITY = 16  # inputs in flight
_PROPOSALS_KEPT = 64  # distinct texts recorded per request, the most voted first
_TEXT_CHARS = 200


@dataclass
class _Tally:
    """Votes for one name, whatever its spelling; the first spelling seen stands for all."""

    model: str
    name: str
    refused: str
    votes: int = 0


@dataclass
class TreeExpansion:
    models: ChatModels
    clock: Clock = wall_clock_us
    name: str = field(default="tree_expansion", init=False)
    topic = SPROUT_REQUESTS

    async def handle(self, event: Event) -> Sequence[Event]:
        """DomainsSprouted with up to `want` names, or SproutFailed when no name found votes enough."""
        asked = event.sprout_requested
        proposals = await self._propose(event.run_id, asked)
        tallies = _count_votes(asked, proposals)
        chosen = [t for t in tallies if not t.refused and t.votes >= asked.settings.sprout.votes][: asked.want]
        body: dict[str, Any] = {
            "parent": asked.parent,
            "proposals": [
                {"model": t.model, "text": t.name[:_TEXT_CHARS], "votes": t.votes, "refused": t.refused}
                for t in tallies[:_PROPOSALS_KEPT]
            ],
        }
        if chosen:
            kind = "domains_sprouted"
            body["names"] = [{"name": t.name, "votes": t.votes} for t in chosen]
            body["prompts"] = asked.settings.prompts
        else:
            kind = "sprout_failed"
            body["failure"] = Failure.REJECTED.value
            body["reason"] = f"no valid unknown name with {asked.settings.sprout.votes} votes"
        return [codec.result(event, self.name, self.clock(), kind, body)]

    async def _propose(self, run_id: str, asked: SproutRequested) -> list[tuple[str, str]]:
        """(source, reply) for every sample of every source. Raises ModelUnavailable when no source answered."""
        settings = asked.settings
        prompt = prompts.load(settings.prompts)
        messages = prompt.ask_names(asked.path, asked.known, names_each(asked))
        replies = await asyncio.gather(
            *(self._sample(run_id, source, messages, asked) for source in settings.sources),
            return_exceptions=True,
        )
        proposals: list[tuple[str, str]] = []
        for source, reply in zip(settings.sources, replies, strict=True):
            if isinstance(reply, tuple):
                proposals += [
                    (source.name, name) for text in reply for name in _names_in(prompt, text, names_each(asked))
                ]
            elif isinstance(reply, ModelBlocked) or not isinstance(reply, ModelUnavailable):
                raise reply
        if all(isinstance(reply, ModelUnavailable) for reply in replies):
            raise ModelUnavailable(f"no source could be reached for a proposal: {replies[0]}")
        return proposals

    async def _sample(
        self, run_id: str, source: ModelSettings, messages: list[Message], asked: SproutRequested
    ) -> tuple[Completion, ...]:
        rules, form = asked.settings.sprout, prompts.load(asked.settings.prompts).form("propose", names_each(asked))
        sampling = Sampling(rules.max_tokens, source.temperature_proposal, rules.top_p, rules.samples, form=form)
        reply = await self.models.complete(ModelRef.of(source, asked_by=run_id), messages, sampling)
        return reply.completions


def names_each(asked: SproutRequested) -> int:
    """How many names one reply is asked for: in one list they differ, so that few samples vote on many."""
    return max(asked.want, asked.settings.sprout.names)


def why_no_proposal(name: str, known: Collection[str], prompt: prompts.PromptSet) -> str:
    """Why a tidied name cannot be added where the keys of names `known` are taken; empty when it can."""
    return "known" if names.key(name) in known else names.why_refused(name) or prompt.why_no_name(name)


def _names_in(prompt: prompts.PromptSet, said: Completion, most: int) -> list[str]:
    """The names in one reply, each once, at most as many as were asked for: one sample is one vote a name."""
    found = {names.key(name): names.tidy(name) for name in prompt.read_names(said.text, said.finish_reason == "length")}
    return list(found.values())[:most]


def _count_votes(asked: SproutRequested, proposals: list[tuple[str, str]]) -> list[_Tally]:
    """One tally a name, the most voted first; equal votes in the order of the names, so that the outcome does not
    depend on which source was faster."""
    prompt = prompts.load(asked.settings.prompts)
    known = {names.key(name) for name in (*asked.known, *asked.path)}
    tallies: dict[str, _Tally] = {}
    for model, name in proposals:
        key = names.key(name)
        if key not in tallies:
            tallies[key] = _Tally(model, name, why_no_proposal(name, known, prompt))
        tallies[key].votes += 1
    return sorted(tallies.values(), key=lambda tally: (-tally.votes, names.key(tally.name)))
