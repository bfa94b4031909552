"""All checks of a configuration in their order, each bounded in time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from bohdi.doctor import asked, contexts, folders, machine, servers, speed
from bohdi.doctor.ahead import SPROUTS_SHARED, Ahead, Lengths, ahead, at_most
from bohdi.doctor.finding import Finding
from bohdi.run_folder import resolved
from bohdi_common.core import budget
from bohdi_common.core.state import Rules
from bohdi_common.models.http import HttpModels
from bohdi_common.models.places import place
from bohdi_common.models.port import Endpoint, ModelRef, ModelRefused, ModelUnavailable
from bohdi_common.runtime.config import BadConfig, Config, Model
from services.training.forecast import operations_per_token
from services.training.speed import training_operations_per_second

_CHARS_PER_TOKEN = 4.0  # of a prompt, roughly


@dataclass
class Examination:
    """`say` is told each finding as it comes. `beside`: the folder from which the configuration's paths are seen."""

    config: Config
    beside: Path
    store: Path
    timeout_s: float
    say: Callable[[Finding], None]
    found: dict[str, folders.Looked] = field(default_factory=dict)
    speeds: dict[str, speed.Speed] = field(default_factory=dict)
    training_tokens_s: float = 0.0
    failed: set[str] = field(default_factory=set)

    async def whole(self, calls: bool) -> tuple[Ahead, Ahead | None]:
        """Every check; without `calls` those that ask no model. Gives the forecast at most, and as measured."""
        self._tell(self._files())
        self._tell(folders.look(self.config, self.beside, self.found))
        self._tell(folders.lora(self.config, self.found.get(self.config.target.name)))
        self._templates()
        if calls:
            await self._servers()
        here = machine.this_machine()
        self._tell(machine.memory_of(self.config, self.found, here))
        self._tell(machine.disk(self.config, self.found.get(self.config.target.name), self.store))
        if calls:
            await self._speeds()
        self._training_speed(here)
        return self._forecast()

    def _tell(self, findings: Iterable[Finding]) -> None:
        for finding in findings:
            if finding.level == "fail":
                self.failed.add(finding.what)
            self.say(finding)

    def _files(self) -> Iterable[Finding]:
        """What the configuration names beside models."""
        bare = [model.model_copy(update={"path": ""}) for model in folders.everybody(self.config)]
        sources = len(self.config.sources)
        judging = self.config.judging.model_copy(update={"judges": tuple(bare[sources + 1 :])})
        without = {"sources": tuple(bare[:sources]), "target": bare[sources], "judging": judging}
        try:
            resolved(self.config.model_copy(update=without), self.beside)
        except BadConfig as error:
            yield from (Finding("fail", "files", line) for line in str(error).splitlines())

    def _templates(self) -> None:
        for model in folders.everybody(self.config):
            if model.adapter == "local" and model.name in self.found:
                requests = asked.asked_of(self.config, model)
                self._tell(contexts.rendered(model.name, self.found[model.name], requests))

    async def _servers(self) -> None:
        models = HttpModels(lambda model: place(model.path, self.beside))
        try:
            for model in folders.everybody(self.config):
                if (ref := _ref(model)).endpoint is not None:
                    requests = asked.asked_of(self.config, model)
                    async for finding in servers.answering(models, ref, ref.endpoint, requests, self.timeout_s):
                        self._tell([finding])
        finally:
            await models.close()

    async def _speeds(self) -> None:
        if "memory of the models" in self.failed:
            self._tell([Finding("warn", "speed", "not measured: the models do not fit in memory")])
            return
        models = HttpModels(lambda model: place(model.path, self.beside))
        try:
            for model in folders.everybody(self.config):
                if any(f"{model.name} " in f"{what} " for what in self.failed):
                    continue  # said already, and why
                self._tell([await self._speed(models, model)])
        finally:
            await models.close()

    async def _speed(self, models: HttpModels, model: Model) -> Finding:
        what, ref = f"speed of {model.name}", _ref(model)
        requests = speed.requests_of(self.config, model)
        at_once = min(speed.AT_ONCE, model.concurrency)
        try:
            async with asyncio.timeout(self.timeout_s):
                if ref.endpoint is None:
                    ref = replace(ref, path=str(place(model.path, self.beside)))
                    measured = await speed.burst_apart(ref, requests, at_once)
                else:
                    measured = await speed.burst(models, ref, requests, at_once)
        except TimeoutError:
            return Finding("warn", what, f"not measured within {self.timeout_s:g} s: raise --timeout")
        except (ModelUnavailable, ModelRefused) as error:
            return Finding("fail", what, str(error))
        self.speeds[model.name] = measured
        figures = [f"{measured.tokens_s:.0f} tokens/s, {at_once * len(requests)} requests at once"]
        figures += [f"a mean {kind} of {mean:.0f} tokens" for kind, mean in sorted(measured.lengths.items())]
        return Finding("ok", what, "; ".join(figures))

    def _training_speed(self, here: machine.Machine) -> None:
        target = self.found.get(self.config.target.name)
        if target is None:
            return
        plan = machine.plan_of(self.config, target.positions, here.on_gpu)
        operations_s = training_operations_per_second()
        self.training_tokens_s = operations_s / operations_per_token(target.shape, plan)
        told = f"about {self.training_tokens_s:.3g} tokens/s, at {operations_s / 1e9:.3g} GFLOP/s on the {here.device}"
        self._tell([Finding("ok", "speed of the training", told)])

    def _forecast(self) -> tuple[Ahead, Ahead | None]:
        rules = Rules.of(self.config.settings(0, _no_digests(self.config)))
        around = _around(self.config)
        tokens_s = {name: measured.tokens_s for name, measured in self.speeds.items()}
        longest = at_most(self.config, around)
        most = ahead(self.config, rules, longest, tokens_s, self.training_tokens_s)
        likely = _measured(longest, self.speeds)
        about = ahead(self.config, rules, likely, tokens_s, self.training_tokens_s) if self.speeds else None
        self._tell(_caps(self.config, most))
        return most, about


def _measured(longest: Lengths, speeds: Mapping[str, speed.Speed]) -> Lengths:
    """Texts as long as the burst's, on average over the models, where they ended by themselves."""

    def mean(kind: str, otherwise: float) -> float:
        known = [measured.lengths[kind] for measured in speeds.values() if kind in measured.lengths]
        return sum(known) / len(known) if known else otherwise

    return replace(
        longest,
        question=mean("question", longest.question),
        answer=mean("answer", longest.answer),
        proposal=mean("proposal", longest.proposal),
        verdict=mean("verdict", longest.verdict),
        sprouts=SPROUTS_SHARED,
    )


def _around(config: Config) -> dict[str, float]:
    """Tokens of the requests themselves, by kind."""
    return {
        request.kind: sum(len(message["content"]) for message in request.messages) / _CHARS_PER_TOKEN
        for model in folders.everybody(config)
        for request in asked.asked_of(config, model)
    }


def _caps(config: Config, most: Ahead) -> Iterable[Finding]:
    for name in budget.CAPS:
        cap = getattr(config.budget, name)
        if 0 < cap < most.spent[name]:
            told = f"the whole run may want {most.spent[name]:.4g} {name}, and pauses at its cap of {cap:g}"
            yield Finding("warn", "budget", f"{told}: `bohdi resume` takes a larger one")


def _no_digests(config: Config) -> dict[str, str]:
    return dict.fromkeys((*(m.name for m in folders.everybody(config)), *config.harvest.benchmarks), "")


def _ref(model: Model) -> ModelRef:
    endpoint = None
    if model.adapter == "http":
        where = (model.key_env, model.concurrency, model.timeout_s, model.structured)
        endpoint = Endpoint(model.urls, model.served_name or model.name, *where)
    return ModelRef(model.name, path=model.path, endpoint=endpoint, system=model.system)
