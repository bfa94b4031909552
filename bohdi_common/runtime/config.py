"""The one typed configuration of a run: a YAML file, checked whole before anything starts.

Unknown keys and impossible values are refused, each by its path in the file, its value and the mend. The sections
`bandit`, `sprout`, `harvest`, `judging` and `training` have the names and fields of the messages in the proto, which is
where each is explained; `RunStarted` carries them resolved.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from bohdi_common.core import names
from bohdi_common.core.limits import PRICE_MAX
from bohdi_common.core.tree import LEAF_LEVEL
from bohdi_common.events import events_pb2 as pb
from bohdi_common.models import prompts

_INTROSPECTION = {
    "off": pb.INTROSPECTION_OFF,
    "paper": pb.INTROSPECTION_PAPER,
    "two_sample": pb.INTROSPECTION_TWO_SAMPLE,
}
_JUDGING = {
    "leader": pb.JUDGING_MODE_LEADER,
    "panel": pb.JUDGING_MODE_PANEL,
    "judge": pb.JUDGING_MODE_JUDGE,
    "panel_without_author": pb.JUDGING_MODE_PANEL_WITHOUT_AUTHOR,
}
_LAUNCHERS = {
    "inprocess": pb.LAUNCHER_INPROCESS,
    "torchrun": pb.LAUNCHER_TORCHRUN,
    "trainjob": pb.LAUNCHER_TRAINJOB,
}
_SHARDINGS = {"none": pb.SHARDING_NONE, "fsdp": pb.SHARDING_FSDP}

_NOT_NEAR = 0.5  # similarity below which nothing is a near duplicate, nor would the gate's hashes find it

# The languages that the gate for them can tell (ISO 639-1); a test holds this to what its identifier knows.
_LANGUAGES = """
af am an ar as az ba be bg bn br bs ca cs cy da de dz el en eo es et eu fa fi fo fr fy ga gd gl gu ha he hi hr ht hu hy
id ig is it ja jv ka kk km kn ko ku ky la lb lg ln lo lt lv mg mk ml mn mr ms mt my ne nl nn no oc om or pa pl ps pt qu
ro ru rw sa se si sk sl sn so sq sr st sv sw ta te tg th tk tl tr tt ug uk ur uz vi vo wa xh yo zh zu
"""
LANGUAGES = frozenset(_LANGUAGES.split())

Share = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=1, le=1_000_000)]
Temperature = Annotated[float, Field(ge=0, le=10)]
Style = Annotated[str, Field(min_length=1, max_length=500)]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]


class BadConfig(ValueError):
    """The configuration cannot be used; one line for each mistake."""


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Model(_Section):
    """`local`: a folder. `http`: servers that speak OpenAI's chat completions; what is in an event is the name of the
    environment variable that holds the key, never the key. A target behind servers has its folder as well, to train."""

    name: Name
    adapter: Literal["local", "http"] = "local"
    path: str = Field("", description="a model folder, relative to this file, or microworld:NAME")
    urls: tuple[Annotated[str, Field(pattern=r"^https?://[^\s/@]+(/[^\s@]*)?$")], ...] = ()
    served_name: str = ""
    key_env: Annotated[str, Field(pattern=r"^([A-Za-z_][A-Za-z0-9_]*)?$")] = ""
    concurrency: Annotated[int, Field(ge=1, le=4096)] = 32
    timeout_s: Annotated[float, Field(gt=0, le=3600)] = 120.0
    structured: bool = Field(False, description="its servers see to it that a reply has the JSON form asked for")
    logprobs: bool = Field(False, description="its servers give the log-probabilities of an answer's tokens")
    system: str = Field("", max_length=10_000)
    price_prompt: Annotated[float, Field(ge=0, le=PRICE_MAX)] = 0.0
    price_completion: Annotated[float, Field(ge=0, le=PRICE_MAX)] = 0.0
    temperature_answer: Temperature = 0.7
    temperature_question: Temperature = 0.7
    temperature_proposal: Temperature = 0.7
    temperature_verdict: Temperature = 0.0

    @model_validator(mode="after")
    def _has_what_its_adapter_needs(self) -> Self:
        if self.adapter == "local" and not self.path:
            raise ValueError("path is missing: name the model's folder, or its servers with adapter: http and urls")
        of_servers = (self.urls, self.key_env, self.served_name, self.structured, self.logprobs)
        if self.adapter == "local" and any(of_servers):
            raise ValueError(
                "urls, served_name, key_env, structured and logprobs are for adapter: http: add it, or remove them"
            )
        if self.adapter == "http" and not self.urls:
            raise ValueError("urls is missing: name a server's base URL, http://HOST:PORT/v1")
        return self


class Bandit(_Section):
    rounds: Count = 6
    steps: Count = 3
    slots: Annotated[int, Field(ge=1, le=10_000)] = 30
    sharpness: Annotated[float, Field(ge=0, allow_inf_nan=True)] = 2.0  # infinite: always the best
    grow: bool = True
    lockstep: bool = False
    introspection: Literal["off", "paper", "two_sample"] = "two_sample"
    window: Annotated[int, Field(ge=1, le=64)] = 20
    threshold: Annotated[float, Field(ge=0, lt=1)] = 0.05
    sprout_failures: Count = 10
    slot_failures: Count = 10
    leaf_failures: Count = 10
    sprout_names: Annotated[int, Field(ge=1, le=100)] = 6
    slot_timeout_s: Annotated[float, Field(gt=0, le=86_400)] = 1800.0
    rehearsal_questions: Annotated[int, Field(ge=0, le=20_000)] = 600
    rehearsal_below: Share = 0.4
    training_failures: Count = 2


class Sprout(_Section):
    samples: Annotated[int, Field(ge=1, le=256)] = 5
    votes: Count = 2
    max_tokens: Count = 64
    top_p: Annotated[float, Field(gt=0, le=1)] = 0.95
    names: Annotated[int, Field(ge=1, le=100)] = 1


class Harvest(_Section):
    question_samples: Annotated[int, Field(ge=1, le=64)] = 2
    question_max_tokens: Count = 512
    question_top_p: Annotated[float, Field(gt=0, le=1)] = 0.95
    answer_max_tokens: Count = 1024
    answer_top_p: Annotated[float, Field(gt=0, le=1)] = 0.8
    benchmarks: tuple[str, ...] = ()
    decontamination_words: Annotated[int, Field(ge=5, le=50)] = 13
    near_duplicate: Annotated[float, Field(ge=0, le=1)] = 0.0
    drop_refusals: bool = False
    drop_cut: bool = False
    languages: tuple[str, ...] = ()
    # Names of the prompt set's styles, or sentences of one's own.
    question_styles: Annotated[tuple[Style, ...], Field(max_length=100)] = ()

    @field_validator("near_duplicate")
    @classmethod
    def _is_near(cls, value: float) -> float:
        if 0 < value < _NOT_NEAR:
            raise ValueError(f"below {_NOT_NEAR} questions are not near duplicates: 0 turns the gate off")
        return value

    @field_validator("languages")
    @classmethod
    def _can_be_told(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if unknown := sorted(set(value) - LANGUAGES):
            raise ValueError(f"{', '.join(unknown)}: no language that can be told; give two-letter codes (ISO 639-1)")
        return value


class Judging(_Section):
    mode: Literal["leader", "panel", "judge", "panel_without_author"] = "panel"
    both_orders: bool = True
    max_tokens: Count = 16
    top_p: Annotated[float, Field(gt=0, le=1)] = 1.0
    verdicts: Annotated[int, Field(ge=1, le=15)] = 1
    judge: str = ""
    judges: tuple[Model, ...] = ()
    without_own_votes: bool = False

    @model_validator(mode="after")
    def _somebody_judges(self) -> Self:
        if self.verdicts % 2 == 0:
            raise ValueError(f"verdicts is {self.verdicts}, an even number, which can end in a tie: give an odd one")
        if self.mode == "judge" and not self.judge and not self.judges:
            raise ValueError("mode is judge, but nobody is named: give judge, or judges")
        if self.mode != "judge" and self.judge:
            raise ValueError("judge is for mode: judge: change the mode, or remove it")
        idle = [model.name for model in self.judges if self.mode == "leader" or self.judge not in ("", model.name)]
        if idle:
            raise ValueError(f"judges: {', '.join(idle)} would never be asked: remove them, or change mode or judge")
        return self


class Training(_Section):
    examples: Count = 180
    ramp: bool = False
    passes: Annotated[float, Field(ge=0, le=1000)] = 2.0
    max_examples: Annotated[int, Field(ge=1, le=500_000)] = 100_000
    rehearsal_share: Annotated[float, Field(ge=0, lt=1)] = 0.45
    replay_share: Share = 0.2
    average_last: Annotated[int, Field(ge=1, le=8)] = 2
    restart: bool = False
    batch: Annotated[int, Field(ge=1, le=4096)] = 32
    epochs: Annotated[int, Field(ge=1, le=100)] = 1
    learning_rate: Annotated[float, Field(gt=0, lt=1)] = 5e-6
    muon_learning_rate: Annotated[float, Field(ge=0, lt=1)] = 0.0
    weight_decay: Share = 0.01
    warmup_share: Share = 0.1
    decay_share: Share = 0.9
    max_tokens: Count = 2048
    lora_rank: Annotated[int, Field(ge=0, le=1024)] = 0
    lora_alpha: Annotated[float, Field(ge=0)] = 32.0
    stm_perplexity: Annotated[float, Field(ge=0, le=1_000_000)] = 0.0
    dpo_beta: Annotated[float, Field(ge=0, le=100)] = 0.0
    dpo_learning_rate: Annotated[float, Field(gt=0, lt=1)] = 5e-7
    dpo_epochs: Annotated[int, Field(ge=1, le=100)] = 1
    dpo_max_pairs: Annotated[int, Field(ge=1, le=500_000)] = 10_000
    held_back_share: Annotated[float, Field(ge=0, le=0.5)] = 0.0
    held_back_loss_rise: Annotated[float, Field(ge=0, le=100)] = 0.1
    packing: bool = False
    launcher: Literal["inprocess", "torchrun", "trainjob"] = "inprocess"
    processes: Annotated[int, Field(ge=1, le=64)] = 1
    nodes: Annotated[int, Field(ge=1, le=1024)] = 1
    sharding: Literal["none", "fsdp"] = "none"
    checkpoint_steps: Annotated[int, Field(ge=0, le=1_000_000)] = 0
    checkpoint_s: Annotated[float, Field(ge=0, le=86_400)] = 600.0
    timeout_s: Annotated[float, Field(ge=60, le=2_592_000)] = 259_200.0

    @field_validator("stm_perplexity")
    @classmethod
    def _perplexity_can_be(cls, value: float) -> float:
        if 0 < value <= 1:
            raise ValueError("no perplexity is below 1, so every token would be masked: use 2.5, or 0 for no masking")
        return value

    @model_validator(mode="after")
    def _shares_leave_room(self) -> Self:
        if self.rehearsal_share + self.replay_share > 1:
            raise ValueError("rehearsal_share and replay_share together are above 1: lower one of them")
        return self

    @model_validator(mode="after")
    def _can_be_launched(self) -> Self:
        if self.launcher == "inprocess" and self.processes > 1:
            raise ValueError(f"processes is {self.processes}, and launcher inprocess has one: use torchrun or trainjob")
        if self.launcher != "trainjob" and self.nodes > 1:
            raise ValueError(f"nodes is {self.nodes}, and launcher {self.launcher} stays on one: use trainjob")
        if self.batch % (self.processes * self.nodes):
            raise ValueError(
                f"a batch of {self.batch} cannot be shared evenly by {self.processes * self.nodes} processes: "
                "make it a multiple"
            )
        return self

    @model_validator(mode="after")
    def _can_be_sharded(self) -> Self:
        if self.sharding == "none":
            return self
        if self.processes * self.nodes == 1:
            raise ValueError("sharding is fsdp, and one process has nothing to share: raise processes or nodes")
        if self.muon_learning_rate or self.dpo_beta:
            raise ValueError("sharding fsdp is for AdamW on examples: set muon_learning_rate and dpo_beta to 0")
        return self


class Budget(_Section):
    """Caps at which the run pauses, until it is resumed with larger ones; 0: none."""

    tokens: Annotated[int, Field(ge=0)] = 0
    cost: Annotated[float, Field(ge=0)] = 0.0
    harvests: Annotated[int, Field(ge=0, le=2**32 - 1)] = 0
    hours: Annotated[float, Field(ge=0)] = 0.0


class Evaluation(_Section):
    """For people: the bandit never sees it. `benchmark`: a file of questions, for the held-out accuracy of the target
    at the start and after every round, and of each source once. `tasks`: of lm-evaluation-harness, for the target at
    the start and after the last round, or after `every_round`; `tasks_folder` holds YAML files of tasks of one's own,
    and `limit` bounds the questions of each task (0: all)."""

    benchmark: str = ""
    tasks: tuple[Annotated[str, Field(pattern=r"^[^\s,]+$", max_length=200)], ...] = Field((), max_length=100)
    tasks_folder: str = ""
    every_round: bool = False
    limit: Annotated[int, Field(ge=0, le=1_000_000)] = 0

    @model_validator(mode="after")
    def _asks_for_something(self) -> Self:
        if not self.benchmark and not self.tasks:
            raise ValueError("it asks for nothing: give a benchmark or tasks, or remove the section")
        return self


class Config(_Section):
    name: Name
    preset: Literal["default", "paper", "chat"] = "default"
    sources: tuple[Model, ...] = Field(min_length=1)
    target: Model
    prompts: str = "chat-v4"
    domains: tuple[tuple[str, ...], ...] = ()
    bandit: Bandit = Bandit()
    sprout: Sprout = Sprout()
    harvest: Harvest = Harvest()
    judging: Judging = Judging()
    training: Training = Training()
    budget: Budget = Budget()
    evaluation: Evaluation | None = None

    @field_validator("prompts")
    @classmethod
    def _prompts_are_there(cls, value: str) -> str:
        if value not in prompts.available():
            raise ValueError(f"there is no such prompt set: use one of {', '.join(prompts.available())}")
        return value

    @field_validator("domains")
    @classmethod
    def _domains_are_paths(cls, value: tuple[tuple[str, ...], ...]) -> tuple[tuple[str, ...], ...]:
        for path in value:
            if len(path) != LEAF_LEVEL:
                raise ValueError(f"{list(path)}: a domain is three names: main, secondary and sub-domain")
            for name in path:
                if why := names.why_refused(names.tidy(name)):
                    raise ValueError(f"{name!r} cannot name a domain: {why}")
        return value

    @model_validator(mode="after")
    def _run_is_possible(self) -> Self:
        if self.target.adapter == "http" and not self.target.path:
            raise ValueError(
                "target.adapter is http: give target.path too, the folder that its servers serve and that is trained"
            )
        others = {url: model.name for model in (*self.sources, *self.judging.judges) for url in model.urls}
        if self._reloads and (shared := [url for url in self.target.urls if url in others]):
            raise ValueError(
                f"target.urls: {shared[0]} is {others[shared[0]]}'s too, and the target is trained whole: its versions "
                "take the place of the weights there. Give it servers of its own, or set training.lora_rank"
            )
        called = [model.name for model in (*self.sources, self.target, *self.judging.judges)]
        if len(set(called)) < len(called):
            raise ValueError(f"two models have one name ({', '.join(called)}): rename one")
        if self.judging.judge and self.judging.judge not in called:
            raise ValueError(f"judging.judge: no model of that name ({', '.join(called)}): {self.judging.judge!r}")
        if self.judging.mode == "panel_without_author" and len(self.sources) + len(self.judging.judges) < 2:
            raise ValueError("judging.mode: without the author nobody judges: add a source or judging.judges")
        if why := self._why_no_styles():
            raise ValueError(f"harvest.question_styles: {why}")
        if not self.bandit.grow and not self.domains:
            raise ValueError("bandit.grow is false and there are no domains: the tree would stay empty; give domains")
        return self

    @property
    def _reloads(self) -> bool:
        """Whether the target's versions are whole weights that its servers read."""
        return self.target.adapter == "http" and not self.training.lora_rank

    def _why_no_styles(self) -> str:
        """What is wrong with the styles that are asked for; empty when nothing is."""
        styles, known = self.harvest.question_styles, prompts.load(self.prompts).styles
        if styles and not known:
            able = ", ".join(name for name in prompts.available() if prompts.load(name).styles)
            return f"the prompts {self.prompts} take no style: remove them, or use {able}"
        unknown = [style for style in styles if style not in known and " " not in style]
        names = ", ".join(known)
        return f"give sentences, or names of {self.prompts} ({names}): {', '.join(unknown)}" if unknown else ""

    def settings(self, seed: int, digests: dict[str, str]) -> pb.Settings:
        """The resolved settings for RunStarted. `digests`: SHA-256 by model name and by benchmark file."""

        def models(given: Iterable[Model]) -> list[pb.ModelSettings]:
            return [pb.ModelSettings(**model.model_dump(), digest=digests.get(model.name)) for model in given]

        bandit = self.bandit.model_dump() | {"introspection": _INTROSPECTION[self.bandit.introspection]}
        judging = self.judging.model_dump() | {"mode": _JUDGING[self.judging.mode]}
        judging["judges"] = models(self.judging.judges)
        training = self.training.model_dump() | {
            "launcher": _LAUNCHERS[self.training.launcher],
            "sharding": _SHARDINGS[self.training.sharding],
        }
        harvest = self.harvest.model_dump()
        own = prompts.load(self.prompts).styles
        harvest["question_styles"] = [own.get(style, style) for style in self.harvest.question_styles]
        harvest["benchmark_digests"] = [digests[file] for file in self.harvest.benchmarks]
        return pb.Settings(
            seed=seed,
            preset=self.preset,
            sources=models(self.sources),
            target=pb.ModelSettings(
                **self.target.model_dump(), digest=digests[self.target.name], reloads=self._reloads
            ),
            prompts=self.prompts,
            bandit=pb.BanditSettings(**bandit),
            sprout=pb.SproutSettings(**self.sprout.model_dump()),
            harvest=pb.HarvestSettings(**harvest),
            judging=pb.JudgingSettings(**judging),
            training=pb.TrainingSettings(**training),
            budget=pb.BudgetSettings(**self.budget.model_dump()),
        )


# What the method was published with (arXiv 2506.15721); all that is not named here is as in the default.
PAPER: dict[str, Any] = {
    "bandit": {
        "steps": 3, "slots": 30, "sharpness": float("inf"), "introspection": "paper", "window": 20, "threshold": 0.2,
        "sprout_failures": 10, "slot_failures": 10, "sprout_names": 1, "rehearsal_questions": 0,
    },
    "sprout": {"samples": 5, "votes": 1, "top_p": 0.95},
    "harvest": {"question_samples": 5, "question_top_p": 0.95, "answer_top_p": 0.8},
    "judging": {"mode": "leader", "both_orders": False, "top_p": 0.95},
    "training": {
        "examples": 180, "passes": 0.0, "rehearsal_share": 0.0, "replay_share": 0.0, "average_last": 1,
        "epochs": 1, "learning_rate": 5e-6, "batch": 128,
    },
}  # fmt: skip

# For instruction-tuned models behind a chat template: the default's method with every gate on that needs no choice.
CHAT: dict[str, Any] = {
    "sprout": {"names": 4},
    "harvest": {"near_duplicate": 0.8, "drop_refusals": True, "drop_cut": True},
}
_PRESETS = {"paper": PAPER, "chat": CHAT}


def load(file: Path, overrides: dict[str, Any] | None = None) -> Config:
    """The configuration in `file`, laid over the one beside it that it `extends`, if it does. `overrides` are laid over
    both (a nested dict). Raises BadConfig."""
    raw = _read(file)
    if "extends" in raw:
        base = raw.pop("extends")
        if not isinstance(base, str) or base != Path(base).name:
            raise BadConfig(f"{file}: extends: not the name of a file in the same folder: {base!r}")
        raw = _laid_over(_read(file.parent / base), raw)
    return parse(_laid_over(raw, overrides or {}), str(file))


def _read(file: Path) -> dict[str, Any]:
    try:
        raw = yaml.safe_load(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise BadConfig(f"{file}: no such file: give the path of a run's YAML configuration") from None
    except (OSError, UnicodeDecodeError) as error:
        raise BadConfig(f"{file}: cannot be read: {error}") from None
    except yaml.YAMLError as error:
        raise BadConfig(f"{file}: not YAML: {' '.join(str(error).split())}") from None
    if not isinstance(raw, dict):
        raise BadConfig(f"{file}: not a mapping of settings: see configs/demo.yaml for an example")
    return raw


def parse(raw: dict[str, Any], where: str) -> Config:
    """The configuration in a mapping, its preset applied. `where` stands before each complaint. Raises BadConfig."""
    preset = raw.get("preset")
    base = _PRESETS.get(preset, {}) if isinstance(preset, str) else {}
    try:
        return Config.model_validate(_laid_over(base, raw))
    except ValidationError as error:
        raise BadConfig("\n".join(f"{where}: {complaint(e)}" for e in error.errors())) from None


def _laid_over(base: dict[str, Any], top: dict[str, Any]) -> dict[str, Any]:
    both = dict(base)
    for key, value in top.items():
        below = both.get(key)
        both[key] = _laid_over(below, value) if isinstance(below, dict) and isinstance(value, dict) else value
    return both


def complaint(error: Any) -> str:
    """`sources[1].path: what is wrong: 'value'`, in one line."""
    place = ""
    for part in error["loc"]:
        place += f"[{part}]" if isinstance(part, int) else f".{part}" if place else str(part)
    if error["type"] == "extra_forbidden":
        return f"{place}: unknown key: remove it or correct its spelling"
    if error["type"] == "missing":
        return f"{place}: missing: add it"
    message = error["msg"].removeprefix("Value error, ")
    value = "" if isinstance(error["input"], dict) else f": {error['input']!r}"
    return " ".join(f"{place + ': ' if place else ''}{message}{value}".split())
