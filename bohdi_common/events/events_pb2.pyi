from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Introspection(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    INTROSPECTION_UNSPECIFIED: _ClassVar[Introspection]
    INTROSPECTION_OFF: _ClassVar[Introspection]
    INTROSPECTION_PAPER: _ClassVar[Introspection]
    INTROSPECTION_TWO_SAMPLE: _ClassVar[Introspection]

class JudgingMode(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    JUDGING_MODE_UNSPECIFIED: _ClassVar[JudgingMode]
    JUDGING_MODE_LEADER: _ClassVar[JudgingMode]
    JUDGING_MODE_PANEL: _ClassVar[JudgingMode]
    JUDGING_MODE_JUDGE: _ClassVar[JudgingMode]
    JUDGING_MODE_PANEL_WITHOUT_AUTHOR: _ClassVar[JudgingMode]

class Launcher(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    LAUNCHER_UNSPECIFIED: _ClassVar[Launcher]
    LAUNCHER_INPROCESS: _ClassVar[Launcher]
    LAUNCHER_TORCHRUN: _ClassVar[Launcher]
    LAUNCHER_TRAINJOB: _ClassVar[Launcher]

class Sharding(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    SHARDING_UNSPECIFIED: _ClassVar[Sharding]
    SHARDING_NONE: _ClassVar[Sharding]
    SHARDING_FSDP: _ClassVar[Sharding]

class FailureClass(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    FAILURE_CLASS_UNSPECIFIED: _ClassVar[FailureClass]
    FAILURE_CLASS_REJECTED: _ClassVar[FailureClass]
    FAILURE_CLASS_UNAVAILABLE: _ClassVar[FailureClass]
    FAILURE_CLASS_BLOCKED: _ClassVar[FailureClass]
INTROSPECTION_UNSPECIFIED: Introspection
INTROSPECTION_OFF: Introspection
INTROSPECTION_PAPER: Introspection
INTROSPECTION_TWO_SAMPLE: Introspection
JUDGING_MODE_UNSPECIFIED: JudgingMode
JUDGING_MODE_LEADER: JudgingMode
JUDGING_MODE_PANEL: JudgingMode
JUDGING_MODE_JUDGE: JudgingMode
JUDGING_MODE_PANEL_WITHOUT_AUTHOR: JudgingMode
LAUNCHER_UNSPECIFIED: Launcher
LAUNCHER_INPROCESS: Launcher
LAUNCHER_TORCHRUN: Launcher
LAUNCHER_TRAINJOB: Launcher
SHARDING_UNSPECIFIED: Sharding
SHARDING_NONE: Sharding
SHARDING_FSDP: Sharding
FAILURE_CLASS_UNSPECIFIED: FailureClass
FAILURE_CLASS_REJECTED: FailureClass
FAILURE_CLASS_UNAVAILABLE: FailureClass
FAILURE_CLASS_BLOCKED: FailureClass

class Event(_message.Message):
    __slots__ = ("event_id", "run_id", "cause_id", "round", "step", "slot", "time_us", "schema_version", "producer", "usage", "run_started", "paths_drawn", "slot_continued", "domains_sprouted", "sprout_failed", "harvest_judged", "harvest_failed", "slot_expired", "rehearsal_answered", "nodes_reborn", "training_drawn", "target_promoted", "training_failed", "target_evaluated", "run_paused", "run_resumed", "run_finished", "sprout_requested", "harvest_requested", "answers_written", "training_requested")
    EVENT_ID_FIELD_NUMBER: _ClassVar[int]
    RUN_ID_FIELD_NUMBER: _ClassVar[int]
    CAUSE_ID_FIELD_NUMBER: _ClassVar[int]
    ROUND_FIELD_NUMBER: _ClassVar[int]
    STEP_FIELD_NUMBER: _ClassVar[int]
    SLOT_FIELD_NUMBER: _ClassVar[int]
    TIME_US_FIELD_NUMBER: _ClassVar[int]
    SCHEMA_VERSION_FIELD_NUMBER: _ClassVar[int]
    PRODUCER_FIELD_NUMBER: _ClassVar[int]
    USAGE_FIELD_NUMBER: _ClassVar[int]
    RUN_STARTED_FIELD_NUMBER: _ClassVar[int]
    PATHS_DRAWN_FIELD_NUMBER: _ClassVar[int]
    SLOT_CONTINUED_FIELD_NUMBER: _ClassVar[int]
    DOMAINS_SPROUTED_FIELD_NUMBER: _ClassVar[int]
    SPROUT_FAILED_FIELD_NUMBER: _ClassVar[int]
    HARVEST_JUDGED_FIELD_NUMBER: _ClassVar[int]
    HARVEST_FAILED_FIELD_NUMBER: _ClassVar[int]
    SLOT_EXPIRED_FIELD_NUMBER: _ClassVar[int]
    REHEARSAL_ANSWERED_FIELD_NUMBER: _ClassVar[int]
    NODES_REBORN_FIELD_NUMBER: _ClassVar[int]
    TRAINING_DRAWN_FIELD_NUMBER: _ClassVar[int]
    TARGET_PROMOTED_FIELD_NUMBER: _ClassVar[int]
    TRAINING_FAILED_FIELD_NUMBER: _ClassVar[int]
    TARGET_EVALUATED_FIELD_NUMBER: _ClassVar[int]
    RUN_PAUSED_FIELD_NUMBER: _ClassVar[int]
    RUN_RESUMED_FIELD_NUMBER: _ClassVar[int]
    RUN_FINISHED_FIELD_NUMBER: _ClassVar[int]
    SPROUT_REQUESTED_FIELD_NUMBER: _ClassVar[int]
    HARVEST_REQUESTED_FIELD_NUMBER: _ClassVar[int]
    ANSWERS_WRITTEN_FIELD_NUMBER: _ClassVar[int]
    TRAINING_REQUESTED_FIELD_NUMBER: _ClassVar[int]
    event_id: str
    run_id: str
    cause_id: str
    round: int
    step: int
    slot: int
    time_us: int
    schema_version: int
    producer: str
    usage: _containers.RepeatedCompositeFieldContainer[ModelUsage]
    run_started: RunStarted
    paths_drawn: PathsDrawn
    slot_continued: SlotContinued
    domains_sprouted: DomainsSprouted
    sprout_failed: SproutFailed
    harvest_judged: HarvestJudged
    harvest_failed: HarvestFailed
    slot_expired: SlotExpired
    rehearsal_answered: RehearsalAnswered
    nodes_reborn: NodesReborn
    training_drawn: TrainingDrawn
    target_promoted: TargetPromoted
    training_failed: TrainingFailed
    target_evaluated: TargetEvaluated
    run_paused: RunPaused
    run_resumed: RunResumed
    run_finished: RunFinished
    sprout_requested: SproutRequested
    harvest_requested: HarvestRequested
    answers_written: AnswersWritten
    training_requested: TrainingRequested
    def __init__(self, event_id: _Optional[str] = ..., run_id: _Optional[str] = ..., cause_id: _Optional[str] = ..., round: _Optional[int] = ..., step: _Optional[int] = ..., slot: _Optional[int] = ..., time_us: _Optional[int] = ..., schema_version: _Optional[int] = ..., producer: _Optional[str] = ..., usage: _Optional[_Iterable[_Union[ModelUsage, _Mapping]]] = ..., run_started: _Optional[_Union[RunStarted, _Mapping]] = ..., paths_drawn: _Optional[_Union[PathsDrawn, _Mapping]] = ..., slot_continued: _Optional[_Union[SlotContinued, _Mapping]] = ..., domains_sprouted: _Optional[_Union[DomainsSprouted, _Mapping]] = ..., sprout_failed: _Optional[_Union[SproutFailed, _Mapping]] = ..., harvest_judged: _Optional[_Union[HarvestJudged, _Mapping]] = ..., harvest_failed: _Optional[_Union[HarvestFailed, _Mapping]] = ..., slot_expired: _Optional[_Union[SlotExpired, _Mapping]] = ..., rehearsal_answered: _Optional[_Union[RehearsalAnswered, _Mapping]] = ..., nodes_reborn: _Optional[_Union[NodesReborn, _Mapping]] = ..., training_drawn: _Optional[_Union[TrainingDrawn, _Mapping]] = ..., target_promoted: _Optional[_Union[TargetPromoted, _Mapping]] = ..., training_failed: _Optional[_Union[TrainingFailed, _Mapping]] = ..., target_evaluated: _Optional[_Union[TargetEvaluated, _Mapping]] = ..., run_paused: _Optional[_Union[RunPaused, _Mapping]] = ..., run_resumed: _Optional[_Union[RunResumed, _Mapping]] = ..., run_finished: _Optional[_Union[RunFinished, _Mapping]] = ..., sprout_requested: _Optional[_Union[SproutRequested, _Mapping]] = ..., harvest_requested: _Optional[_Union[HarvestRequested, _Mapping]] = ..., answers_written: _Optional[_Union[AnswersWritten, _Mapping]] = ..., training_requested: _Optional[_Union[TrainingRequested, _Mapping]] = ...) -> None: ...

class RunStarted(_message.Message):
    __slots__ = ("settings", "domains", "bohdi_version")
    SETTINGS_FIELD_NUMBER: _ClassVar[int]
    DOMAINS_FIELD_NUMBER: _ClassVar[int]
    BOHDI_VERSION_FIELD_NUMBER: _ClassVar[int]
    settings: Settings
    domains: _containers.RepeatedCompositeFieldContainer[Domain]
    bohdi_version: str
    def __init__(self, settings: _Optional[_Union[Settings, _Mapping]] = ..., domains: _Optional[_Iterable[_Union[Domain, _Mapping]]] = ..., bohdi_version: _Optional[str] = ...) -> None: ...

class ModelUsage(_message.Message):
    __slots__ = ("model", "prompt_tokens", "completion_tokens", "calls")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    PROMPT_TOKENS_FIELD_NUMBER: _ClassVar[int]
    COMPLETION_TOKENS_FIELD_NUMBER: _ClassVar[int]
    CALLS_FIELD_NUMBER: _ClassVar[int]
    model: str
    prompt_tokens: int
    completion_tokens: int
    calls: int
    def __init__(self, model: _Optional[str] = ..., prompt_tokens: _Optional[int] = ..., completion_tokens: _Optional[int] = ..., calls: _Optional[int] = ...) -> None: ...

class Domain(_message.Message):
    __slots__ = ("path",)
    PATH_FIELD_NUMBER: _ClassVar[int]
    path: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, path: _Optional[_Iterable[str]] = ...) -> None: ...

class Settings(_message.Message):
    __slots__ = ("seed", "preset", "bandit", "sources", "target", "prompts", "sprout", "harvest", "judging", "training", "budget")
    SEED_FIELD_NUMBER: _ClassVar[int]
    PRESET_FIELD_NUMBER: _ClassVar[int]
    BANDIT_FIELD_NUMBER: _ClassVar[int]
    SOURCES_FIELD_NUMBER: _ClassVar[int]
    TARGET_FIELD_NUMBER: _ClassVar[int]
    PROMPTS_FIELD_NUMBER: _ClassVar[int]
    SPROUT_FIELD_NUMBER: _ClassVar[int]
    HARVEST_FIELD_NUMBER: _ClassVar[int]
    JUDGING_FIELD_NUMBER: _ClassVar[int]
    TRAINING_FIELD_NUMBER: _ClassVar[int]
    BUDGET_FIELD_NUMBER: _ClassVar[int]
    seed: int
    preset: str
    bandit: BanditSettings
    sources: _containers.RepeatedCompositeFieldContainer[ModelSettings]
    target: ModelSettings
    prompts: str
    sprout: SproutSettings
    harvest: HarvestSettings
    judging: JudgingSettings
    training: TrainingSettings
    budget: BudgetSettings
    def __init__(self, seed: _Optional[int] = ..., preset: _Optional[str] = ..., bandit: _Optional[_Union[BanditSettings, _Mapping]] = ..., sources: _Optional[_Iterable[_Union[ModelSettings, _Mapping]]] = ..., target: _Optional[_Union[ModelSettings, _Mapping]] = ..., prompts: _Optional[str] = ..., sprout: _Optional[_Union[SproutSettings, _Mapping]] = ..., harvest: _Optional[_Union[HarvestSettings, _Mapping]] = ..., judging: _Optional[_Union[JudgingSettings, _Mapping]] = ..., training: _Optional[_Union[TrainingSettings, _Mapping]] = ..., budget: _Optional[_Union[BudgetSettings, _Mapping]] = ...) -> None: ...

class BudgetSettings(_message.Message):
    __slots__ = ("tokens", "cost", "harvests", "hours")
    TOKENS_FIELD_NUMBER: _ClassVar[int]
    COST_FIELD_NUMBER: _ClassVar[int]
    HARVESTS_FIELD_NUMBER: _ClassVar[int]
    HOURS_FIELD_NUMBER: _ClassVar[int]
    tokens: int
    cost: float
    harvests: int
    hours: float
    def __init__(self, tokens: _Optional[int] = ..., cost: _Optional[float] = ..., harvests: _Optional[int] = ..., hours: _Optional[float] = ...) -> None: ...

class BanditSettings(_message.Message):
    __slots__ = ("rounds", "steps", "slots", "sharpness", "grow", "lockstep", "introspection", "window", "threshold", "sprout_failures", "leaf_failures", "sprout_names", "slot_timeout_s", "rehearsal_questions", "rehearsal_below", "training_failures", "slot_failures")
    ROUNDS_FIELD_NUMBER: _ClassVar[int]
    STEPS_FIELD_NUMBER: _ClassVar[int]
    SLOTS_FIELD_NUMBER: _ClassVar[int]
    SHARPNESS_FIELD_NUMBER: _ClassVar[int]
    GROW_FIELD_NUMBER: _ClassVar[int]
    LOCKSTEP_FIELD_NUMBER: _ClassVar[int]
    INTROSPECTION_FIELD_NUMBER: _ClassVar[int]
    WINDOW_FIELD_NUMBER: _ClassVar[int]
    THRESHOLD_FIELD_NUMBER: _ClassVar[int]
    SPROUT_FAILURES_FIELD_NUMBER: _ClassVar[int]
    LEAF_FAILURES_FIELD_NUMBER: _ClassVar[int]
    SPROUT_NAMES_FIELD_NUMBER: _ClassVar[int]
    SLOT_TIMEOUT_S_FIELD_NUMBER: _ClassVar[int]
    REHEARSAL_QUESTIONS_FIELD_NUMBER: _ClassVar[int]
    REHEARSAL_BELOW_FIELD_NUMBER: _ClassVar[int]
    TRAINING_FAILURES_FIELD_NUMBER: _ClassVar[int]
    SLOT_FAILURES_FIELD_NUMBER: _ClassVar[int]
    rounds: int
    steps: int
    slots: int
    sharpness: float
    grow: bool
    lockstep: bool
    introspection: Introspection
    window: int
    threshold: float
    sprout_failures: int
    leaf_failures: int
    sprout_names: int
    slot_timeout_s: float
    rehearsal_questions: int
    rehearsal_below: float
    training_failures: int
    slot_failures: int
    def __init__(self, rounds: _Optional[int] = ..., steps: _Optional[int] = ..., slots: _Optional[int] = ..., sharpness: _Optional[float] = ..., grow: _Optional[bool] = ..., lockstep: _Optional[bool] = ..., introspection: _Optional[_Union[Introspection, str]] = ..., window: _Optional[int] = ..., threshold: _Optional[float] = ..., sprout_failures: _Optional[int] = ..., leaf_failures: _Optional[int] = ..., sprout_names: _Optional[int] = ..., slot_timeout_s: _Optional[float] = ..., rehearsal_questions: _Optional[int] = ..., rehearsal_below: _Optional[float] = ..., training_failures: _Optional[int] = ..., slot_failures: _Optional[int] = ...) -> None: ...

class ModelSettings(_message.Message):
    __slots__ = ("name", "adapter", "path", "digest", "temperature_answer", "temperature_question", "temperature_proposal", "temperature_verdict", "urls", "served_name", "key_env", "concurrency", "timeout_s", "system", "structured", "price_prompt", "price_completion", "reloads", "logprobs")
    NAME_FIELD_NUMBER: _ClassVar[int]
    ADAPTER_FIELD_NUMBER: _ClassVar[int]
    PATH_FIELD_NUMBER: _ClassVar[int]
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    TEMPERATURE_ANSWER_FIELD_NUMBER: _ClassVar[int]
    TEMPERATURE_QUESTION_FIELD_NUMBER: _ClassVar[int]
    TEMPERATURE_PROPOSAL_FIELD_NUMBER: _ClassVar[int]
    TEMPERATURE_VERDICT_FIELD_NUMBER: _ClassVar[int]
    URLS_FIELD_NUMBER: _ClassVar[int]
    SERVED_NAME_FIELD_NUMBER: _ClassVar[int]
    KEY_ENV_FIELD_NUMBER: _ClassVar[int]
    CONCURRENCY_FIELD_NUMBER: _ClassVar[int]
    TIMEOUT_S_FIELD_NUMBER: _ClassVar[int]
    SYSTEM_FIELD_NUMBER: _ClassVar[int]
    STRUCTURED_FIELD_NUMBER: _ClassVar[int]
    PRICE_PROMPT_FIELD_NUMBER: _ClassVar[int]
    PRICE_COMPLETION_FIELD_NUMBER: _ClassVar[int]
    RELOADS_FIELD_NUMBER: _ClassVar[int]
    LOGPROBS_FIELD_NUMBER: _ClassVar[int]
    name: str
    adapter: str
    path: str
    digest: str
    temperature_answer: float
    temperature_question: float
    temperature_proposal: float
    temperature_verdict: float
    urls: _containers.RepeatedScalarFieldContainer[str]
    served_name: str
    key_env: str
    concurrency: int
    timeout_s: float
    system: str
    structured: bool
    price_prompt: float
    price_completion: float
    reloads: bool
    logprobs: bool
    def __init__(self, name: _Optional[str] = ..., adapter: _Optional[str] = ..., path: _Optional[str] = ..., digest: _Optional[str] = ..., temperature_answer: _Optional[float] = ..., temperature_question: _Optional[float] = ..., temperature_proposal: _Optional[float] = ..., temperature_verdict: _Optional[float] = ..., urls: _Optional[_Iterable[str]] = ..., served_name: _Optional[str] = ..., key_env: _Optional[str] = ..., concurrency: _Optional[int] = ..., timeout_s: _Optional[float] = ..., system: _Optional[str] = ..., structured: _Optional[bool] = ..., price_prompt: _Optional[float] = ..., price_completion: _Optional[float] = ..., reloads: _Optional[bool] = ..., logprobs: _Optional[bool] = ...) -> None: ...

class SproutSettings(_message.Message):
    __slots__ = ("samples", "votes", "max_tokens", "top_p", "names")
    SAMPLES_FIELD_NUMBER: _ClassVar[int]
    VOTES_FIELD_NUMBER: _ClassVar[int]
    MAX_TOKENS_FIELD_NUMBER: _ClassVar[int]
    TOP_P_FIELD_NUMBER: _ClassVar[int]
    NAMES_FIELD_NUMBER: _ClassVar[int]
    samples: int
    votes: int
    max_tokens: int
    top_p: float
    names: int
    def __init__(self, samples: _Optional[int] = ..., votes: _Optional[int] = ..., max_tokens: _Optional[int] = ..., top_p: _Optional[float] = ..., names: _Optional[int] = ...) -> None: ...

class HarvestSettings(_message.Message):
    __slots__ = ("question_samples", "question_max_tokens", "question_top_p", "answer_max_tokens", "answer_top_p", "benchmarks", "benchmark_digests", "decontamination_words", "near_duplicate", "drop_refusals", "drop_cut", "languages", "question_styles")
    QUESTION_SAMPLES_FIELD_NUMBER: _ClassVar[int]
    QUESTION_MAX_TOKENS_FIELD_NUMBER: _ClassVar[int]
    QUESTION_TOP_P_FIELD_NUMBER: _ClassVar[int]
    ANSWER_MAX_TOKENS_FIELD_NUMBER: _ClassVar[int]
    ANSWER_TOP_P_FIELD_NUMBER: _ClassVar[int]
    BENCHMARKS_FIELD_NUMBER: _ClassVar[int]
    BENCHMARK_DIGESTS_FIELD_NUMBER: _ClassVar[int]
    DECONTAMINATION_WORDS_FIELD_NUMBER: _ClassVar[int]
    NEAR_DUPLICATE_FIELD_NUMBER: _ClassVar[int]
    DROP_REFUSALS_FIELD_NUMBER: _ClassVar[int]
    DROP_CUT_FIELD_NUMBER: _ClassVar[int]
    LANGUAGES_FIELD_NUMBER: _ClassVar[int]
    QUESTION_STYLES_FIELD_NUMBER: _ClassVar[int]
    question_samples: int
    question_max_tokens: int
    question_top_p: float
    answer_max_tokens: int
    answer_top_p: float
    benchmarks: _containers.RepeatedScalarFieldContainer[str]
    benchmark_digests: _containers.RepeatedScalarFieldContainer[str]
    decontamination_words: int
    near_duplicate: float
    drop_refusals: bool
    drop_cut: bool
    languages: _containers.RepeatedScalarFieldContainer[str]
    question_styles: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, question_samples: _Optional[int] = ..., question_max_tokens: _Optional[int] = ..., question_top_p: _Optional[float] = ..., answer_max_tokens: _Optional[int] = ..., answer_top_p: _Optional[float] = ..., benchmarks: _Optional[_Iterable[str]] = ..., benchmark_digests: _Optional[_Iterable[str]] = ..., decontamination_words: _Optional[int] = ..., near_duplicate: _Optional[float] = ..., drop_refusals: _Optional[bool] = ..., drop_cut: _Optional[bool] = ..., languages: _Optional[_Iterable[str]] = ..., question_styles: _Optional[_Iterable[str]] = ...) -> None: ...

class JudgingSettings(_message.Message):
    __slots__ = ("mode", "both_orders", "max_tokens", "top_p", "verdicts", "judge", "judges", "without_own_votes")
    MODE_FIELD_NUMBER: _ClassVar[int]
    BOTH_ORDERS_FIELD_NUMBER: _ClassVar[int]
    MAX_TOKENS_FIELD_NUMBER: _ClassVar[int]
    TOP_P_FIELD_NUMBER: _ClassVar[int]
    VERDICTS_FIELD_NUMBER: _ClassVar[int]
    JUDGE_FIELD_NUMBER: _ClassVar[int]
    JUDGES_FIELD_NUMBER: _ClassVar[int]
    WITHOUT_OWN_VOTES_FIELD_NUMBER: _ClassVar[int]
    mode: JudgingMode
    both_orders: bool
    max_tokens: int
    top_p: float
    verdicts: int
    judge: str
    judges: _containers.RepeatedCompositeFieldContainer[ModelSettings]
    without_own_votes: bool
    def __init__(self, mode: _Optional[_Union[JudgingMode, str]] = ..., both_orders: _Optional[bool] = ..., max_tokens: _Optional[int] = ..., top_p: _Optional[float] = ..., verdicts: _Optional[int] = ..., judge: _Optional[str] = ..., judges: _Optional[_Iterable[_Union[ModelSettings, _Mapping]]] = ..., without_own_votes: _Optional[bool] = ...) -> None: ...

class TrainingSettings(_message.Message):
    __slots__ = ("examples", "passes", "max_examples", "rehearsal_share", "replay_share", "average_last", "restart", "batch", "epochs", "learning_rate", "muon_learning_rate", "weight_decay", "warmup_share", "decay_share", "max_tokens", "lora_rank", "lora_alpha", "ramp", "stm_perplexity", "dpo_beta", "dpo_learning_rate", "dpo_epochs", "dpo_max_pairs", "held_back_share", "held_back_loss_rise", "packing", "launcher", "processes", "nodes", "checkpoint_steps", "checkpoint_s", "timeout_s", "sharding")
    EXAMPLES_FIELD_NUMBER: _ClassVar[int]
    PASSES_FIELD_NUMBER: _ClassVar[int]
    MAX_EXAMPLES_FIELD_NUMBER: _ClassVar[int]
    REHEARSAL_SHARE_FIELD_NUMBER: _ClassVar[int]
    REPLAY_SHARE_FIELD_NUMBER: _ClassVar[int]
    AVERAGE_LAST_FIELD_NUMBER: _ClassVar[int]
    RESTART_FIELD_NUMBER: _ClassVar[int]
    BATCH_FIELD_NUMBER: _ClassVar[int]
    EPOCHS_FIELD_NUMBER: _ClassVar[int]
    LEARNING_RATE_FIELD_NUMBER: _ClassVar[int]
    MUON_LEARNING_RATE_FIELD_NUMBER: _ClassVar[int]
    WEIGHT_DECAY_FIELD_NUMBER: _ClassVar[int]
    WARMUP_SHARE_FIELD_NUMBER: _ClassVar[int]
    DECAY_SHARE_FIELD_NUMBER: _ClassVar[int]
    MAX_TOKENS_FIELD_NUMBER: _ClassVar[int]
    LORA_RANK_FIELD_NUMBER: _ClassVar[int]
    LORA_ALPHA_FIELD_NUMBER: _ClassVar[int]
    RAMP_FIELD_NUMBER: _ClassVar[int]
    STM_PERPLEXITY_FIELD_NUMBER: _ClassVar[int]
    DPO_BETA_FIELD_NUMBER: _ClassVar[int]
    DPO_LEARNING_RATE_FIELD_NUMBER: _ClassVar[int]
    DPO_EPOCHS_FIELD_NUMBER: _ClassVar[int]
    DPO_MAX_PAIRS_FIELD_NUMBER: _ClassVar[int]
    HELD_BACK_SHARE_FIELD_NUMBER: _ClassVar[int]
    HELD_BACK_LOSS_RISE_FIELD_NUMBER: _ClassVar[int]
    PACKING_FIELD_NUMBER: _ClassVar[int]
    LAUNCHER_FIELD_NUMBER: _ClassVar[int]
    PROCESSES_FIELD_NUMBER: _ClassVar[int]
    NODES_FIELD_NUMBER: _ClassVar[int]
    CHECKPOINT_STEPS_FIELD_NUMBER: _ClassVar[int]
    CHECKPOINT_S_FIELD_NUMBER: _ClassVar[int]
    TIMEOUT_S_FIELD_NUMBER: _ClassVar[int]
    SHARDING_FIELD_NUMBER: _ClassVar[int]
    examples: int
    passes: float
    max_examples: int
    rehearsal_share: float
    replay_share: float
    average_last: int
    restart: bool
    batch: int
    epochs: int
    learning_rate: float
    muon_learning_rate: float
    weight_decay: float
    warmup_share: float
    decay_share: float
    max_tokens: int
    lora_rank: int
    lora_alpha: float
    ramp: bool
    stm_perplexity: float
    dpo_beta: float
    dpo_learning_rate: float
    dpo_epochs: int
    dpo_max_pairs: int
    held_back_share: float
    held_back_loss_rise: float
    packing: bool
    launcher: Launcher
    processes: int
    nodes: int
    checkpoint_steps: int
    checkpoint_s: float
    timeout_s: float
    sharding: Sharding
    def __init__(self, examples: _Optional[int] = ..., passes: _Optional[float] = ..., max_examples: _Optional[int] = ..., rehearsal_share: _Optional[float] = ..., replay_share: _Optional[float] = ..., average_last: _Optional[int] = ..., restart: _Optional[bool] = ..., batch: _Optional[int] = ..., epochs: _Optional[int] = ..., learning_rate: _Optional[float] = ..., muon_learning_rate: _Optional[float] = ..., weight_decay: _Optional[float] = ..., warmup_share: _Optional[float] = ..., decay_share: _Optional[float] = ..., max_tokens: _Optional[int] = ..., lora_rank: _Optional[int] = ..., lora_alpha: _Optional[float] = ..., ramp: _Optional[bool] = ..., stm_perplexity: _Optional[float] = ..., dpo_beta: _Optional[float] = ..., dpo_learning_rate: _Optional[float] = ..., dpo_epochs: _Optional[int] = ..., dpo_max_pairs: _Optional[int] = ..., held_back_share: _Optional[float] = ..., held_back_loss_rise: _Optional[float] = ..., packing: _Optional[bool] = ..., launcher: _Optional[_Union[Launcher, str]] = ..., processes: _Optional[int] = ..., nodes: _Optional[int] = ..., checkpoint_steps: _Optional[int] = ..., checkpoint_s: _Optional[float] = ..., timeout_s: _Optional[float] = ..., sharding: _Optional[_Union[Sharding, str]] = ...) -> None: ...

class PathsDrawn(_message.Message):
    __slots__ = ("based_on", "rehearsal", "slots", "state_sha256", "state_version")
    BASED_ON_FIELD_NUMBER: _ClassVar[int]
    REHEARSAL_FIELD_NUMBER: _ClassVar[int]
    SLOTS_FIELD_NUMBER: _ClassVar[int]
    STATE_SHA256_FIELD_NUMBER: _ClassVar[int]
    STATE_VERSION_FIELD_NUMBER: _ClassVar[int]
    based_on: int
    rehearsal: bool
    slots: _containers.RepeatedCompositeFieldContainer[DrawnSlot]
    state_sha256: str
    state_version: int
    def __init__(self, based_on: _Optional[int] = ..., rehearsal: _Optional[bool] = ..., slots: _Optional[_Iterable[_Union[DrawnSlot, _Mapping]]] = ..., state_sha256: _Optional[str] = ..., state_version: _Optional[int] = ...) -> None: ...

class DrawnSlot(_message.Message):
    __slots__ = ("slot", "path", "leader", "request_hash")
    SLOT_FIELD_NUMBER: _ClassVar[int]
    PATH_FIELD_NUMBER: _ClassVar[int]
    LEADER_FIELD_NUMBER: _ClassVar[int]
    REQUEST_HASH_FIELD_NUMBER: _ClassVar[int]
    slot: int
    path: _containers.RepeatedScalarFieldContainer[int]
    leader: str
    request_hash: str
    def __init__(self, slot: _Optional[int] = ..., path: _Optional[_Iterable[int]] = ..., leader: _Optional[str] = ..., request_hash: _Optional[str] = ...) -> None: ...

class SlotContinued(_message.Message):
    __slots__ = ("based_on", "drawn", "attempt", "given_up")
    BASED_ON_FIELD_NUMBER: _ClassVar[int]
    DRAWN_FIELD_NUMBER: _ClassVar[int]
    ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    GIVEN_UP_FIELD_NUMBER: _ClassVar[int]
    based_on: int
    drawn: DrawnSlot
    attempt: int
    given_up: bool
    def __init__(self, based_on: _Optional[int] = ..., drawn: _Optional[_Union[DrawnSlot, _Mapping]] = ..., attempt: _Optional[int] = ..., given_up: _Optional[bool] = ...) -> None: ...

class SlotExpired(_message.Message):
    __slots__ = ("based_on", "request_hash")
    BASED_ON_FIELD_NUMBER: _ClassVar[int]
    REQUEST_HASH_FIELD_NUMBER: _ClassVar[int]
    based_on: int
    request_hash: str
    def __init__(self, based_on: _Optional[int] = ..., request_hash: _Optional[str] = ...) -> None: ...

class NodesReborn(_message.Message):
    __slots__ = ("based_on", "rebirths", "tested")
    BASED_ON_FIELD_NUMBER: _ClassVar[int]
    REBIRTHS_FIELD_NUMBER: _ClassVar[int]
    TESTED_FIELD_NUMBER: _ClassVar[int]
    based_on: int
    rebirths: _containers.RepeatedCompositeFieldContainer[Rebirth]
    tested: int
    def __init__(self, based_on: _Optional[int] = ..., rebirths: _Optional[_Iterable[_Union[Rebirth, _Mapping]]] = ..., tested: _Optional[int] = ...) -> None: ...

class Rebirth(_message.Message):
    __slots__ = ("node", "window_sum", "window_length", "statistic", "p_value")
    NODE_FIELD_NUMBER: _ClassVar[int]
    WINDOW_SUM_FIELD_NUMBER: _ClassVar[int]
    WINDOW_LENGTH_FIELD_NUMBER: _ClassVar[int]
    STATISTIC_FIELD_NUMBER: _ClassVar[int]
    P_VALUE_FIELD_NUMBER: _ClassVar[int]
    node: int
    window_sum: int
    window_length: int
    statistic: float
    p_value: float
    def __init__(self, node: _Optional[int] = ..., window_sum: _Optional[int] = ..., window_length: _Optional[int] = ..., statistic: _Optional[float] = ..., p_value: _Optional[float] = ...) -> None: ...

class TrainingDrawn(_message.Message):
    __slots__ = ("based_on", "samples", "base_version", "version", "average_with", "from_rehearsal", "from_replay", "request_hash")
    BASED_ON_FIELD_NUMBER: _ClassVar[int]
    SAMPLES_FIELD_NUMBER: _ClassVar[int]
    BASE_VERSION_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    AVERAGE_WITH_FIELD_NUMBER: _ClassVar[int]
    FROM_REHEARSAL_FIELD_NUMBER: _ClassVar[int]
    FROM_REPLAY_FIELD_NUMBER: _ClassVar[int]
    REQUEST_HASH_FIELD_NUMBER: _ClassVar[int]
    based_on: int
    samples: _containers.RepeatedScalarFieldContainer[int]
    base_version: str
    version: str
    average_with: _containers.RepeatedScalarFieldContainer[str]
    from_rehearsal: int
    from_replay: int
    request_hash: str
    def __init__(self, based_on: _Optional[int] = ..., samples: _Optional[_Iterable[int]] = ..., base_version: _Optional[str] = ..., version: _Optional[str] = ..., average_with: _Optional[_Iterable[str]] = ..., from_rehearsal: _Optional[int] = ..., from_replay: _Optional[int] = ..., request_hash: _Optional[str] = ...) -> None: ...

class RunPaused(_message.Message):
    __slots__ = ("reason",)
    REASON_FIELD_NUMBER: _ClassVar[int]
    reason: str
    def __init__(self, reason: _Optional[str] = ...) -> None: ...

class RunResumed(_message.Message):
    __slots__ = ("budget",)
    BUDGET_FIELD_NUMBER: _ClassVar[int]
    budget: BudgetSettings
    def __init__(self, budget: _Optional[_Union[BudgetSettings, _Mapping]] = ...) -> None: ...

class RunFinished(_message.Message):
    __slots__ = ("based_on", "target_version", "reason", "state_sha256", "state_version")
    BASED_ON_FIELD_NUMBER: _ClassVar[int]
    TARGET_VERSION_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    STATE_SHA256_FIELD_NUMBER: _ClassVar[int]
    STATE_VERSION_FIELD_NUMBER: _ClassVar[int]
    based_on: int
    target_version: str
    reason: str
    state_sha256: str
    state_version: int
    def __init__(self, based_on: _Optional[int] = ..., target_version: _Optional[str] = ..., reason: _Optional[str] = ..., state_sha256: _Optional[str] = ..., state_version: _Optional[int] = ...) -> None: ...

class SproutRequested(_message.Message):
    __slots__ = ("request_hash", "parent", "path", "known", "want", "attempt", "settings")
    REQUEST_HASH_FIELD_NUMBER: _ClassVar[int]
    PARENT_FIELD_NUMBER: _ClassVar[int]
    PATH_FIELD_NUMBER: _ClassVar[int]
    KNOWN_FIELD_NUMBER: _ClassVar[int]
    WANT_FIELD_NUMBER: _ClassVar[int]
    ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    SETTINGS_FIELD_NUMBER: _ClassVar[int]
    request_hash: str
    parent: int
    path: _containers.RepeatedScalarFieldContainer[str]
    known: _containers.RepeatedScalarFieldContainer[str]
    want: int
    attempt: int
    settings: Settings
    def __init__(self, request_hash: _Optional[str] = ..., parent: _Optional[int] = ..., path: _Optional[_Iterable[str]] = ..., known: _Optional[_Iterable[str]] = ..., want: _Optional[int] = ..., attempt: _Optional[int] = ..., settings: _Optional[_Union[Settings, _Mapping]] = ...) -> None: ...

class HarvestRequested(_message.Message):
    __slots__ = ("request_hash", "path", "leader", "target_version", "rehearsal", "attempt", "settings")
    REQUEST_HASH_FIELD_NUMBER: _ClassVar[int]
    PATH_FIELD_NUMBER: _ClassVar[int]
    LEADER_FIELD_NUMBER: _ClassVar[int]
    TARGET_VERSION_FIELD_NUMBER: _ClassVar[int]
    REHEARSAL_FIELD_NUMBER: _ClassVar[int]
    ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    SETTINGS_FIELD_NUMBER: _ClassVar[int]
    request_hash: str
    path: _containers.RepeatedScalarFieldContainer[str]
    leader: str
    target_version: str
    rehearsal: bool
    attempt: int
    settings: Settings
    def __init__(self, request_hash: _Optional[str] = ..., path: _Optional[_Iterable[str]] = ..., leader: _Optional[str] = ..., target_version: _Optional[str] = ..., rehearsal: _Optional[bool] = ..., attempt: _Optional[int] = ..., settings: _Optional[_Union[Settings, _Mapping]] = ...) -> None: ...

class TrainingRequested(_message.Message):
    __slots__ = ("request_hash", "samples", "base_version", "version", "average_with", "attempt", "settings")
    REQUEST_HASH_FIELD_NUMBER: _ClassVar[int]
    SAMPLES_FIELD_NUMBER: _ClassVar[int]
    BASE_VERSION_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    AVERAGE_WITH_FIELD_NUMBER: _ClassVar[int]
    ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    SETTINGS_FIELD_NUMBER: _ClassVar[int]
    request_hash: str
    samples: _containers.RepeatedScalarFieldContainer[int]
    base_version: str
    version: str
    average_with: _containers.RepeatedScalarFieldContainer[str]
    attempt: int
    settings: Settings
    def __init__(self, request_hash: _Optional[str] = ..., samples: _Optional[_Iterable[int]] = ..., base_version: _Optional[str] = ..., version: _Optional[str] = ..., average_with: _Optional[_Iterable[str]] = ..., attempt: _Optional[int] = ..., settings: _Optional[_Union[Settings, _Mapping]] = ...) -> None: ...

class DomainsSprouted(_message.Message):
    __slots__ = ("request_hash", "parent", "names", "proposals", "prompts")
    REQUEST_HASH_FIELD_NUMBER: _ClassVar[int]
    PARENT_FIELD_NUMBER: _ClassVar[int]
    NAMES_FIELD_NUMBER: _ClassVar[int]
    PROPOSALS_FIELD_NUMBER: _ClassVar[int]
    PROMPTS_FIELD_NUMBER: _ClassVar[int]
    request_hash: str
    parent: int
    names: _containers.RepeatedCompositeFieldContainer[SproutedName]
    proposals: _containers.RepeatedCompositeFieldContainer[Proposal]
    prompts: str
    def __init__(self, request_hash: _Optional[str] = ..., parent: _Optional[int] = ..., names: _Optional[_Iterable[_Union[SproutedName, _Mapping]]] = ..., proposals: _Optional[_Iterable[_Union[Proposal, _Mapping]]] = ..., prompts: _Optional[str] = ...) -> None: ...

class SproutedName(_message.Message):
    __slots__ = ("name", "votes")
    NAME_FIELD_NUMBER: _ClassVar[int]
    VOTES_FIELD_NUMBER: _ClassVar[int]
    name: str
    votes: int
    def __init__(self, name: _Optional[str] = ..., votes: _Optional[int] = ...) -> None: ...

class Proposal(_message.Message):
    __slots__ = ("model", "text", "votes", "refused")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    VOTES_FIELD_NUMBER: _ClassVar[int]
    REFUSED_FIELD_NUMBER: _ClassVar[int]
    model: str
    text: str
    votes: int
    refused: str
    def __init__(self, model: _Optional[str] = ..., text: _Optional[str] = ..., votes: _Optional[int] = ..., refused: _Optional[str] = ...) -> None: ...

class SproutFailed(_message.Message):
    __slots__ = ("request_hash", "parent", "failure", "reason", "proposals")
    REQUEST_HASH_FIELD_NUMBER: _ClassVar[int]
    PARENT_FIELD_NUMBER: _ClassVar[int]
    FAILURE_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    PROPOSALS_FIELD_NUMBER: _ClassVar[int]
    request_hash: str
    parent: int
    failure: FailureClass
    reason: str
    proposals: _containers.RepeatedCompositeFieldContainer[Proposal]
    def __init__(self, request_hash: _Optional[str] = ..., parent: _Optional[int] = ..., failure: _Optional[_Union[FailureClass, str]] = ..., reason: _Optional[str] = ..., proposals: _Optional[_Iterable[_Union[Proposal, _Mapping]]] = ...) -> None: ...

class Answer(_message.Message):
    __slots__ = ("model", "text", "finish_reason", "prompt_tokens", "completion_tokens", "seconds", "version", "failed", "truncated", "mean_logprob")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    FINISH_REASON_FIELD_NUMBER: _ClassVar[int]
    PROMPT_TOKENS_FIELD_NUMBER: _ClassVar[int]
    COMPLETION_TOKENS_FIELD_NUMBER: _ClassVar[int]
    SECONDS_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    FAILED_FIELD_NUMBER: _ClassVar[int]
    TRUNCATED_FIELD_NUMBER: _ClassVar[int]
    MEAN_LOGPROB_FIELD_NUMBER: _ClassVar[int]
    model: str
    text: str
    finish_reason: str
    prompt_tokens: int
    completion_tokens: int
    seconds: float
    version: str
    failed: str
    truncated: bool
    mean_logprob: float
    def __init__(self, model: _Optional[str] = ..., text: _Optional[str] = ..., finish_reason: _Optional[str] = ..., prompt_tokens: _Optional[int] = ..., completion_tokens: _Optional[int] = ..., seconds: _Optional[float] = ..., version: _Optional[str] = ..., failed: _Optional[str] = ..., truncated: _Optional[bool] = ..., mean_logprob: _Optional[float] = ...) -> None: ...

class Refusal(_message.Message):
    __slots__ = ("what", "model", "gate", "reason", "text", "like")
    WHAT_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    GATE_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    LIKE_FIELD_NUMBER: _ClassVar[int]
    what: str
    model: str
    gate: str
    reason: str
    text: str
    like: str
    def __init__(self, what: _Optional[str] = ..., model: _Optional[str] = ..., gate: _Optional[str] = ..., reason: _Optional[str] = ..., text: _Optional[str] = ..., like: _Optional[str] = ...) -> None: ...

class AnswersWritten(_message.Message):
    __slots__ = ("request_hash", "path", "question", "leader", "target_version", "answers", "question_prompt_tokens", "question_completion_tokens", "prompts", "settings", "refused", "question_style")
    REQUEST_HASH_FIELD_NUMBER: _ClassVar[int]
    PATH_FIELD_NUMBER: _ClassVar[int]
    QUESTION_FIELD_NUMBER: _ClassVar[int]
    LEADER_FIELD_NUMBER: _ClassVar[int]
    TARGET_VERSION_FIELD_NUMBER: _ClassVar[int]
    ANSWERS_FIELD_NUMBER: _ClassVar[int]
    QUESTION_PROMPT_TOKENS_FIELD_NUMBER: _ClassVar[int]
    QUESTION_COMPLETION_TOKENS_FIELD_NUMBER: _ClassVar[int]
    PROMPTS_FIELD_NUMBER: _ClassVar[int]
    SETTINGS_FIELD_NUMBER: _ClassVar[int]
    REFUSED_FIELD_NUMBER: _ClassVar[int]
    QUESTION_STYLE_FIELD_NUMBER: _ClassVar[int]
    request_hash: str
    path: _containers.RepeatedScalarFieldContainer[str]
    question: str
    leader: str
    target_version: str
    answers: _containers.RepeatedCompositeFieldContainer[Answer]
    question_prompt_tokens: int
    question_completion_tokens: int
    prompts: str
    settings: Settings
    refused: _containers.RepeatedCompositeFieldContainer[Refusal]
    question_style: str
    def __init__(self, request_hash: _Optional[str] = ..., path: _Optional[_Iterable[str]] = ..., question: _Optional[str] = ..., leader: _Optional[str] = ..., target_version: _Optional[str] = ..., answers: _Optional[_Iterable[_Union[Answer, _Mapping]]] = ..., question_prompt_tokens: _Optional[int] = ..., question_completion_tokens: _Optional[int] = ..., prompts: _Optional[str] = ..., settings: _Optional[_Union[Settings, _Mapping]] = ..., refused: _Optional[_Iterable[_Union[Refusal, _Mapping]]] = ..., question_style: _Optional[str] = ...) -> None: ...

class Verdict(_message.Message):
    __slots__ = ("judge", "order", "choice", "reply", "counted", "prompt_tokens", "completion_tokens", "none_right")
    JUDGE_FIELD_NUMBER: _ClassVar[int]
    ORDER_FIELD_NUMBER: _ClassVar[int]
    CHOICE_FIELD_NUMBER: _ClassVar[int]
    REPLY_FIELD_NUMBER: _ClassVar[int]
    COUNTED_FIELD_NUMBER: _ClassVar[int]
    PROMPT_TOKENS_FIELD_NUMBER: _ClassVar[int]
    COMPLETION_TOKENS_FIELD_NUMBER: _ClassVar[int]
    NONE_RIGHT_FIELD_NUMBER: _ClassVar[int]
    judge: str
    order: _containers.RepeatedScalarFieldContainer[int]
    choice: int
    reply: str
    counted: bool
    prompt_tokens: int
    completion_tokens: int
    none_right: bool
    def __init__(self, judge: _Optional[str] = ..., order: _Optional[_Iterable[int]] = ..., choice: _Optional[int] = ..., reply: _Optional[str] = ..., counted: _Optional[bool] = ..., prompt_tokens: _Optional[int] = ..., completion_tokens: _Optional[int] = ..., none_right: _Optional[bool] = ...) -> None: ...

class HarvestJudged(_message.Message):
    __slots__ = ("request_hash", "path", "question", "leader", "target_version", "answers", "verdicts", "counted", "best", "reward", "prompts", "question_prompt_tokens", "question_completion_tokens", "none_right", "refused", "question_style")
    REQUEST_HASH_FIELD_NUMBER: _ClassVar[int]
    PATH_FIELD_NUMBER: _ClassVar[int]
    QUESTION_FIELD_NUMBER: _ClassVar[int]
    LEADER_FIELD_NUMBER: _ClassVar[int]
    TARGET_VERSION_FIELD_NUMBER: _ClassVar[int]
    ANSWERS_FIELD_NUMBER: _ClassVar[int]
    VERDICTS_FIELD_NUMBER: _ClassVar[int]
    COUNTED_FIELD_NUMBER: _ClassVar[int]
    BEST_FIELD_NUMBER: _ClassVar[int]
    REWARD_FIELD_NUMBER: _ClassVar[int]
    PROMPTS_FIELD_NUMBER: _ClassVar[int]
    QUESTION_PROMPT_TOKENS_FIELD_NUMBER: _ClassVar[int]
    QUESTION_COMPLETION_TOKENS_FIELD_NUMBER: _ClassVar[int]
    NONE_RIGHT_FIELD_NUMBER: _ClassVar[int]
    REFUSED_FIELD_NUMBER: _ClassVar[int]
    QUESTION_STYLE_FIELD_NUMBER: _ClassVar[int]
    request_hash: str
    path: _containers.RepeatedScalarFieldContainer[str]
    question: str
    leader: str
    target_version: str
    answers: _containers.RepeatedCompositeFieldContainer[Answer]
    verdicts: _containers.RepeatedCompositeFieldContainer[Verdict]
    counted: bool
    best: int
    reward: int
    prompts: str
    question_prompt_tokens: int
    question_completion_tokens: int
    none_right: bool
    refused: _containers.RepeatedCompositeFieldContainer[Refusal]
    question_style: str
    def __init__(self, request_hash: _Optional[str] = ..., path: _Optional[_Iterable[str]] = ..., question: _Optional[str] = ..., leader: _Optional[str] = ..., target_version: _Optional[str] = ..., answers: _Optional[_Iterable[_Union[Answer, _Mapping]]] = ..., verdicts: _Optional[_Iterable[_Union[Verdict, _Mapping]]] = ..., counted: _Optional[bool] = ..., best: _Optional[int] = ..., reward: _Optional[int] = ..., prompts: _Optional[str] = ..., question_prompt_tokens: _Optional[int] = ..., question_completion_tokens: _Optional[int] = ..., none_right: _Optional[bool] = ..., refused: _Optional[_Iterable[_Union[Refusal, _Mapping]]] = ..., question_style: _Optional[str] = ...) -> None: ...

class HarvestFailed(_message.Message):
    __slots__ = ("request_hash", "failure", "reason", "stage", "question", "refused")
    REQUEST_HASH_FIELD_NUMBER: _ClassVar[int]
    FAILURE_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    STAGE_FIELD_NUMBER: _ClassVar[int]
    QUESTION_FIELD_NUMBER: _ClassVar[int]
    REFUSED_FIELD_NUMBER: _ClassVar[int]
    request_hash: str
    failure: FailureClass
    reason: str
    stage: str
    question: str
    refused: _containers.RepeatedCompositeFieldContainer[Refusal]
    def __init__(self, request_hash: _Optional[str] = ..., failure: _Optional[_Union[FailureClass, str]] = ..., reason: _Optional[str] = ..., stage: _Optional[str] = ..., question: _Optional[str] = ..., refused: _Optional[_Iterable[_Union[Refusal, _Mapping]]] = ...) -> None: ...

class RehearsalAnswered(_message.Message):
    __slots__ = ("request_hash", "path", "question", "answer", "leader", "prompts", "question_prompt_tokens", "question_completion_tokens", "question_style")
    REQUEST_HASH_FIELD_NUMBER: _ClassVar[int]
    PATH_FIELD_NUMBER: _ClassVar[int]
    QUESTION_FIELD_NUMBER: _ClassVar[int]
    ANSWER_FIELD_NUMBER: _ClassVar[int]
    LEADER_FIELD_NUMBER: _ClassVar[int]
    PROMPTS_FIELD_NUMBER: _ClassVar[int]
    QUESTION_PROMPT_TOKENS_FIELD_NUMBER: _ClassVar[int]
    QUESTION_COMPLETION_TOKENS_FIELD_NUMBER: _ClassVar[int]
    QUESTION_STYLE_FIELD_NUMBER: _ClassVar[int]
    request_hash: str
    path: _containers.RepeatedScalarFieldContainer[str]
    question: str
    answer: Answer
    leader: str
    prompts: str
    question_prompt_tokens: int
    question_completion_tokens: int
    question_style: str
    def __init__(self, request_hash: _Optional[str] = ..., path: _Optional[_Iterable[str]] = ..., question: _Optional[str] = ..., answer: _Optional[_Union[Answer, _Mapping]] = ..., leader: _Optional[str] = ..., prompts: _Optional[str] = ..., question_prompt_tokens: _Optional[int] = ..., question_completion_tokens: _Optional[int] = ..., question_style: _Optional[str] = ...) -> None: ...

class TargetPromoted(_message.Message):
    __slots__ = ("request_hash", "version", "manifest_digest", "examples", "steps", "loss_first", "loss_last", "seconds", "tokens", "trial_answer", "masked_share", "masked", "fully_masked", "preferences", "preference_loss_first", "preference_loss_last", "held_back", "held_back_loss_base", "held_back_loss", "launcher", "processes", "resumed_step")
    REQUEST_HASH_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    MANIFEST_DIGEST_FIELD_NUMBER: _ClassVar[int]
    EXAMPLES_FIELD_NUMBER: _ClassVar[int]
    STEPS_FIELD_NUMBER: _ClassVar[int]
    LOSS_FIRST_FIELD_NUMBER: _ClassVar[int]
    LOSS_LAST_FIELD_NUMBER: _ClassVar[int]
    SECONDS_FIELD_NUMBER: _ClassVar[int]
    TOKENS_FIELD_NUMBER: _ClassVar[int]
    TRIAL_ANSWER_FIELD_NUMBER: _ClassVar[int]
    MASKED_SHARE_FIELD_NUMBER: _ClassVar[int]
    MASKED_FIELD_NUMBER: _ClassVar[int]
    FULLY_MASKED_FIELD_NUMBER: _ClassVar[int]
    PREFERENCES_FIELD_NUMBER: _ClassVar[int]
    PREFERENCE_LOSS_FIRST_FIELD_NUMBER: _ClassVar[int]
    PREFERENCE_LOSS_LAST_FIELD_NUMBER: _ClassVar[int]
    HELD_BACK_FIELD_NUMBER: _ClassVar[int]
    HELD_BACK_LOSS_BASE_FIELD_NUMBER: _ClassVar[int]
    HELD_BACK_LOSS_FIELD_NUMBER: _ClassVar[int]
    LAUNCHER_FIELD_NUMBER: _ClassVar[int]
    PROCESSES_FIELD_NUMBER: _ClassVar[int]
    RESUMED_STEP_FIELD_NUMBER: _ClassVar[int]
    request_hash: str
    version: str
    manifest_digest: str
    examples: int
    steps: int
    loss_first: float
    loss_last: float
    seconds: float
    tokens: int
    trial_answer: str
    masked_share: float
    masked: _containers.RepeatedCompositeFieldContainer[MaskedTokens]
    fully_masked: int
    preferences: int
    preference_loss_first: float
    preference_loss_last: float
    held_back: int
    held_back_loss_base: float
    held_back_loss: float
    launcher: Launcher
    processes: int
    resumed_step: int
    def __init__(self, request_hash: _Optional[str] = ..., version: _Optional[str] = ..., manifest_digest: _Optional[str] = ..., examples: _Optional[int] = ..., steps: _Optional[int] = ..., loss_first: _Optional[float] = ..., loss_last: _Optional[float] = ..., seconds: _Optional[float] = ..., tokens: _Optional[int] = ..., trial_answer: _Optional[str] = ..., masked_share: _Optional[float] = ..., masked: _Optional[_Iterable[_Union[MaskedTokens, _Mapping]]] = ..., fully_masked: _Optional[int] = ..., preferences: _Optional[int] = ..., preference_loss_first: _Optional[float] = ..., preference_loss_last: _Optional[float] = ..., held_back: _Optional[int] = ..., held_back_loss_base: _Optional[float] = ..., held_back_loss: _Optional[float] = ..., launcher: _Optional[_Union[Launcher, str]] = ..., processes: _Optional[int] = ..., resumed_step: _Optional[int] = ...) -> None: ...

class MaskedTokens(_message.Message):
    __slots__ = ("model", "tokens", "masked")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    TOKENS_FIELD_NUMBER: _ClassVar[int]
    MASKED_FIELD_NUMBER: _ClassVar[int]
    model: str
    tokens: int
    masked: int
    def __init__(self, model: _Optional[str] = ..., tokens: _Optional[int] = ..., masked: _Optional[int] = ...) -> None: ...

class TrainingFailed(_message.Message):
    __slots__ = ("request_hash", "version", "failure", "reason", "held_back", "held_back_loss_base", "held_back_loss", "launcher", "processes")
    REQUEST_HASH_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    FAILURE_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    HELD_BACK_FIELD_NUMBER: _ClassVar[int]
    HELD_BACK_LOSS_BASE_FIELD_NUMBER: _ClassVar[int]
    HELD_BACK_LOSS_FIELD_NUMBER: _ClassVar[int]
    LAUNCHER_FIELD_NUMBER: _ClassVar[int]
    PROCESSES_FIELD_NUMBER: _ClassVar[int]
    request_hash: str
    version: str
    failure: FailureClass
    reason: str
    held_back: int
    held_back_loss_base: float
    held_back_loss: float
    launcher: Launcher
    processes: int
    def __init__(self, request_hash: _Optional[str] = ..., version: _Optional[str] = ..., failure: _Optional[_Union[FailureClass, str]] = ..., reason: _Optional[str] = ..., held_back: _Optional[int] = ..., held_back_loss_base: _Optional[float] = ..., held_back_loss: _Optional[float] = ..., launcher: _Optional[_Union[Launcher, str]] = ..., processes: _Optional[int] = ...) -> None: ...

class TargetEvaluated(_message.Message):
    __slots__ = ("model", "version", "benchmark", "scores", "harness", "tasks_digest", "limit")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    BENCHMARK_FIELD_NUMBER: _ClassVar[int]
    SCORES_FIELD_NUMBER: _ClassVar[int]
    HARNESS_FIELD_NUMBER: _ClassVar[int]
    TASKS_DIGEST_FIELD_NUMBER: _ClassVar[int]
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    model: str
    version: str
    benchmark: str
    scores: _containers.RepeatedCompositeFieldContainer[Score]
    harness: str
    tasks_digest: str
    limit: int
    def __init__(self, model: _Optional[str] = ..., version: _Optional[str] = ..., benchmark: _Optional[str] = ..., scores: _Optional[_Iterable[_Union[Score, _Mapping]]] = ..., harness: _Optional[str] = ..., tasks_digest: _Optional[str] = ..., limit: _Optional[int] = ...) -> None: ...

class Score(_message.Message):
    __slots__ = ("domain", "accuracy", "questions", "metric", "value", "stderr")
    DOMAIN_FIELD_NUMBER: _ClassVar[int]
    ACCURACY_FIELD_NUMBER: _ClassVar[int]
    QUESTIONS_FIELD_NUMBER: _ClassVar[int]
    METRIC_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    STDERR_FIELD_NUMBER: _ClassVar[int]
    domain: str
    accuracy: float
    questions: int
    metric: str
    value: float
    stderr: float
    def __init__(self, domain: _Optional[str] = ..., accuracy: _Optional[float] = ..., questions: _Optional[int] = ..., metric: _Optional[str] = ..., value: _Optional[float] = ..., stderr: _Optional[float] = ...) -> None: ...
