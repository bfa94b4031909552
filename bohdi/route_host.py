"""`bohdi route` put together: a profile, the models of a run or of a configuration, and the proxy before them."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from bohdi import domain_text, profile_file, run_places
from bohdi.profiles import Profile
from bohdi.run_folder import resolved, why_no_model
from bohdi.run_places import RunPlace, events
from bohdi_common.core.state import BASE_VERSION
from bohdi_common.events import events_pb2 as pb
from bohdi_common.models.adapters import models
from bohdi_common.models.places import model_folder, place
from bohdi_common.models.port import ModelRef
from bohdi_common.runtime import config as configs
from bohdi_common.runtime.config import BadConfig, Config

try:
    from bohdi.route_proxy import Candidate, Proxy, serve
except ModuleNotFoundError as error:
    raise BadConfig(f"{error.name} is not installed: pip install 'bohdi[route]'") from None


@dataclass
class Plan:
    """What is to be served, and a line for each model of the profile that cannot be."""

    profile: Profile
    candidates: dict[str, Candidate] = field(default_factory=dict)
    left_out: list[str] = field(default_factory=list)
    folder_of: Callable[[ModelRef], Path] = field(default=lambda model: place(model.path))


def by_file(file: Path, config: Path | None) -> Plan:
    """By a profile file, with the models of a configuration. Raises BadConfig."""
    if config is None:
        raise BadConfig(f"{file}: a profile does not say where the models are: give --config, or the run's folder")
    plan = Plan(profile_file.load(file))
    _fill(plan, _settings(resolved(configs.load(config), config.parent)), str(config), here=False)
    return plan


def by_run(run: RunPlace, config: Path | None, strength: float, from_round: int) -> Plan:
    """By a run's log, with its models, or with those of the same names of a configuration. Raises BadConfig, NoRun,
    LogError."""
    profile, _ = profile_file.read_run(run.run_id, events(run), strength, from_round)
    plan = Plan(profile, folder_of=lambda model: model_folder(run.versions, model))
    settings = _settings(resolved(configs.load(config), config.parent)) if config else run_places.settings(run)
    _fill(plan, settings, str(config or run.how_to), here=True)
    return plan


def _settings(config: Config) -> pb.Settings:
    named = (config.target.name, *(source.name for source in config.sources), *config.harvest.benchmarks)
    return config.settings(0, dict.fromkeys(named, ""))


def _fill(plan: Plan, settings: pb.Settings, where: str, here: bool) -> None:
    """The profile's models, as far as `settings` have them. `here`: the target's versions are where `plan` looks."""
    profile = plan.profile
    known: Mapping[str, pb.ModelSettings] = {m.name: m for m in (settings.target, *settings.sources)}
    for name in profile.models:
        if name not in known:
            plan.left_out.append(f"{name} is left out: {where} has no model of this name")
            continue
        version = profile.target_version if name == profile.target else ""
        ref = ModelRef.of(known[name], version, profile.run_id if version else "")
        if ref.endpoint is None and version not in ("", BASE_VERSION) and not here:
            plan.left_out.append(f"{name} is left out: {version} stands in its run's folder: give that, not a profile")
        elif ref.endpoint is None and (why := why_no_model(plan.folder_of(ref))):
            plan.left_out.append(f"{name} is left out: {plan.folder_of(ref)}: {why}")
        else:
            plan.candidates[name] = Candidate(ref, known[name].temperature_answer)
    if not plan.candidates:
        raise BadConfig("\n".join([*plan.left_out, "no model is left to send questions to"]))


def address(listen: str, option: str = "--listen") -> tuple[str, int]:
    """HOST and PORT of `HOST:PORT` (`[HOST]:PORT` for IPv6), as `option` was given. Raises BadConfig."""
    host, colon, port = listen.rpartition(":")
    if not colon or not host or not port.isdecimal() or int(port) > 65_535:
        raise BadConfig(f"{option}: not HOST:PORT: {listen!r}: give 127.0.0.1:8080, say")
    return host.removeprefix("[").removesuffix("]"), int(port)


async def host(plan: Plan, where: tuple[str, int], listening: Callable[[str], None]) -> None:
    """Serves until SIGINT or SIGTERM. Raises NoScikitLearn, OSError."""
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    told = await asyncio.to_thread(domain_text.learnt, plan.profile.pairs)
    chat = models(plan.folder_of)
    try:
        await serve(Proxy(plan.profile, plan.candidates, chat, told), *where, stop, listening)
    finally:
        await chat.close()
