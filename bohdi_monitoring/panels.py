"""What is on the four dashboards: panels and their queries, as plain values.

`$run`, `$service` and `$model` are variables of the dashboards; `$__rate_interval` is Grafana's. Units are Grafana's
names for them.
"""

from __future__ import annotations

from dataclasses import dataclass

RATE = "[$__rate_interval]"
_RUN = 'run=~"$run"'
_SERVICE = 'service=~"$service"'
_MODEL = 'model=~"$model"'
_VLLM = 'model_name=~"$model.*"'


@dataclass(frozen=True)
class Query:
    """An expression of PromQL, and what names each of its series."""

    expr: str
    legend: str


@dataclass(frozen=True)
class Panel:
    """`kind`: lines over time, bars or one number for now. `unit`: of all its queries."""

    title: str
    says: str
    unit: str
    queries: tuple[Query, ...]
    kind: str = "lines"
    most: float | None = None  # of the axis


@dataclass(frozen=True)
class Variable:
    """A choice at the top of a dashboard: the values of `label` on the series of `metric`."""

    name: str
    metric: str
    label: str


@dataclass(frozen=True)
class Board:
    """One dashboard: rows of panels under their titles. `uid` is part of its address."""

    uid: str
    title: str
    says: str
    variables: tuple[Variable, ...]
    rows: tuple[tuple[str, tuple[Panel, ...]], ...]


RUN = Variable("run", "bohdi_run_events_total", "run")
SERVICE = Variable("service", "bohdi_build_info", "service")
MODEL = Variable("model", "bohdi_model_calls_total", "model")


def _panel(title: str, says: str, unit: str, *queries: tuple[str, str], kind: str = "lines", most: float | None = None
           ) -> Panel:  # fmt: skip
    return Panel(title, says, unit, tuple(Query(*query) for query in queries), kind, most)


def _quantiles(metric: str, by: str, where: str, legend: str) -> tuple[tuple[str, str], ...]:
    """Median and 95th percentile of a histogram, by a label."""
    rates = f"sum by ({by}, le) (rate({metric}_bucket{{{where}}}{RATE}))"
    return tuple((f"histogram_quantile({q}, {rates})", f"{legend} p{q * 100:.0f}") for q in (0.5, 0.95))


FUSION = Board(
    "bohdi-fusion",
    "Bohdi / Fusion",
    "What the runs are doing and what the target learns.",
    (RUN,),
    (
        (
            "Where it stands",
            (
                _panel("Runs", "Runs that are not over.", "short", ("sum(bohdi_runs)", "runs"), kind="number"),
                _panel("Round", "Rounds that are over, of those that there will be.", "short",
                       (f"bohdi_run_round{{{_RUN}}}", "{{run}}"), (f"bohdi_run_rounds{{{_RUN}}}", "{{run}} of"),
                       kind="number"),
                _panel("Target", "Its version in use.", "short",
                       (f"bohdi_run_target_info{{{_RUN}}}", "{{run}}: {{version}}"), kind="number"),
                _panel("Paused", "1 while a run is paused: `bohdi status` says why.", "short",
                       (f"bohdi_run_paused{{{_RUN}}}", "{{run}}"), kind="number"),
                _panel("Steps of the round", "Steps drawn in the round at hand.", "short",
                       (f"bohdi_run_step{{{_RUN}}}", "{{run}}")),
                _panel("Open slots", "Drawn and not settled; none while the target is trained.", "short",
                       (f"bohdi_run_open_slots{{{_RUN}}}", "{{run}}"),
                       (f"bohdi_run_in_training{{{_RUN}}}", "{{run}} in training")),
                _panel("Events folded", "Of the runs' feedback, a second: a run at work is never at 0 for long.", "cps",
                       (f"rate(bohdi_run_events_total{{{_RUN}}}{RATE})", "{{run}}")),
            ),
        ),
        (
            "What it learns",
            (
                _panel("Lambda by level", "Mean chance that the target loses in the tried domains: falls as it learns.",
                       "percentunit", (f"bohdi_run_lambda_ratio{{{_RUN}}}", "{{run}} {{level}}"), most=1),
                _panel("Target lost lately", "Share of lost harvests in the windows of the main domains.",
                       "percentunit", (f"bohdi_run_recent_reward_ratio{{{_RUN}}}", "{{run}}"), most=1),
                _panel("Weakest domains", "Lambda of the ten sub-domains where the target loses most.", "percentunit",
                       (f"bohdi_run_weakest_lambda_ratio{{{_RUN}}}", "{{domain}}"), kind="bars", most=1),
                _panel("Rewards", "Harvests a second: 1 where the target lost, none without a verdict.", "cps",
                       (f"sum by (reward) (rate(bohdi_harvests_judged_total{RATE}))", "reward {{reward}}")),
                _panel("Tree", "Domains by level.", "short", (f"bohdi_run_tree_nodes{{{_RUN}}}", "{{run}} {{level}}")),
                _panel("Outcomes", "Harvests, sprouts, rebirths and what came to nothing.", "short",
                       (f"bohdi_run_outcomes_total{{{_RUN}}}", "{{run}} {{what}}")),
                _panel("Pairs in store", "Question-answer pairs to train on.", "short",
                       (f"bohdi_run_pairs{{{_RUN}}}", "{{run}}")),
                _panel("Versions", "Versions of the target promoted.", "short",
                       (f"bohdi_run_promotions_total{{{_RUN}}}", "{{run}}")),
            ),
        ),
        (
            "What it costs",
            (
                _panel("Budget left", "Of each cap; at 0 the run pauses.", "percentunit",
                       (f"bohdi_run_budget_left_ratio{{{_RUN}}}", "{{run}} {{cap}}"), most=1),
                _panel("Tokens", "Of all models, since the run began.", "short",
                       (f"bohdi_run_tokens_total{{{_RUN}}}", "{{run}}")),
                _panel("Cost", "In the prices' currency, since the run began.", "short",
                       (f"bohdi_run_cost_total{{{_RUN}}}", "{{run}}")),
                _panel("Time at work", "Pauses left out.", "s", (f"bohdi_run_work_seconds_total{{{_RUN}}}", "{{run}}")),
            ),
        ),
    ),
)  # fmt: skip

_HERE = f"and on (instance) bohdi_build_info{{{_SERVICE}}}"
SERVICES = Board(
    "bohdi-services",
    "Bohdi / Services",
    "Rates, errors, durations and lag of the five services.",
    (SERVICE,),
    (
        (
            "At work",
            (
                _panel("Processes", "Of each service; of the bandit one.", "short",
                       (f"count by (service, version) (bohdi_build_info{{{_SERVICE}}})", "{{service}} {{version}}"),
                       kind="number"),
                _panel("Ready", "1 while a process takes work.", "short",
                       (f"bohdi_ready{{{_SERVICE}}}", "{{service}} {{instance}}")),
                _panel("Partitions", "Of its topic, that each process has.", "short",
                       (f"bohdi_assigned_partitions{{{_SERVICE}}}", "{{service}} {{instance}}")),
                _panel("Broker silent", "Since the broker answered.", "s",
                       (f"bohdi_broker_silent_seconds{{{_SERVICE}}}", "{{service}} {{instance}}")),
            ),
        ),
        (
            "Rates, errors, durations",
            (
                _panel("Handled", "Inputs a second, by what came of them.", "cps",
                       (f"sum by (service, outcome) (rate(bohdi_events_handled_total{{{_SERVICE}}}{RATE}))",
                        "{{service}} {{outcome}}")),
                _panel("By type", "Inputs a second, by kind of event.", "cps",
                       (f"sum by (service, type) (rate(bohdi_events_handled_total{{{_SERVICE}}}{RATE}))",
                        "{{service}} {{type}}")),
                _panel("Failures", "Dead letters and retries a second.", "cps",
                       (f"sum by (service) (rate(bohdi_dead_letters_total{{{_SERVICE}}}{RATE}))", "{{service}} dead"),
                       (f"sum by (service) (rate(bohdi_model_retries_total{{{_SERVICE}}}{RATE}))",
                        "{{service}} model away"),
                       (f"sum by (instance) (rate(bohdi_log_retries_total{RATE}))", "{{instance}} log away")),
                _panel("Dead letters", "Since the processes began: `bohdi dead list` shows them.", "short",
                       (f"sum by (service) (bohdi_dead_letters_total{{{_SERVICE}}})", "{{service}}")),
                _panel("Duration", "From taking an input to having its outputs.", "s",
                       *_quantiles("bohdi_handling_seconds", "service", _SERVICE, "{{service}}")),
            ),
        ),
        (
            "Queues",
            (
                _panel("Lag", "Events that are not acknowledged, of all partitions.", "short",
                       (f"sum by (service) (bohdi_consumer_lag_events{{{_SERVICE}}})", "{{service}}")),
                _panel("In flight", "Inputs taken in and not acknowledged.", "short",
                       (f"bohdi_in_flight_events{{{_SERVICE}}}", "{{service}} {{instance}}")),
                _panel("Oldest input", "How long the head of the window has waited.", "s",
                       (f"bohdi_oldest_input_age_seconds{{{_SERVICE}}}", "{{service}} {{instance}}")),
                _panel("Processor", "Cores in use.", "short",
                       (f"rate(process_cpu_seconds_total{RATE}) {_HERE}", "{{instance}}")),
                _panel("Memory", "Resident.", "bytes", (f"process_resident_memory_bytes {_HERE}", "{{instance}}")),
            ),
        ),
    ),
)  # fmt: skip

MODELS = Board(
    "bohdi-models",
    "Bohdi / Models",
    "Calls, tokens and judges as Bohdi sees them, and vLLM as it sees itself.",
    (MODEL,),
    (
        (
            "Calls",
            (
                _panel("Calls", "A second, by outcome.", "cps",
                       (f"sum by (model, outcome) (rate(bohdi_model_calls_total{{{_MODEL}}}{RATE}))",
                        "{{model}} {{outcome}}")),
                _panel("Errors", "Share of calls without a reply, in five minutes.", "percentunit",
                       (f"model:bohdi_model_errors:ratio_rate5m{{{_MODEL}}}", "{{model}}"), most=1),
                _panel("Duration", "Of a call, waits in Bohdi's own queue included.", "s",
                       *_quantiles("bohdi_model_call_seconds", "model", _MODEL, "{{model}}")),
                _panel("Tokens", "A second, of prompts and of completions.", "short",
                       (f"sum by (model, part) (rate(bohdi_model_tokens_total{{{_MODEL}}}{RATE}))",
                        "{{model}} {{part}}")),
            ),
        ),
        (
            "Judges",
            (
                _panel("Agreement", "Share of a judge's verdicts that are the harvest's outcome.", "percentunit",
                       ("judge:bohdi_verdicts_agreeing:ratio", "{{judge}}"), most=1),
                _panel("Position bias", "Choices of a position for those of a judge who does not mind it: 1 is fair.",
                       "short", ("judge_position:bohdi_verdict_positions:ratio", "{{judge}} {{position}}")),
                _panel("Verdicts", "A second, by outcome.", "cps",
                       (f"sum by (judge, outcome) (rate(bohdi_verdicts_total{RATE}))", "{{judge}} {{outcome}}")),
            ),
        ),
        (
            "vLLM",
            (
                _panel("Requests", "Running and waiting on each server.", "short",
                       (f"vllm:num_requests_running{{{_VLLM}}}", "{{model_name}} running"),
                       (f"vllm:num_requests_waiting{{{_VLLM}}}", "{{model_name}} waiting")),
                _panel("KV cache", "Share in use.", "percentunit",
                       (f"vllm:kv_cache_usage_perc{{{_VLLM}}}", "{{model_name}}"), most=1),
                _panel("Generation", "Tokens a second, of prompts and generated.", "short",
                       (f"rate(vllm:prompt_tokens_total{{{_VLLM}}}{RATE})", "{{model_name}} prompt"),
                       (f"rate(vllm:generation_tokens_total{{{_VLLM}}}{RATE})", "{{model_name}} generated")),
                _panel("Prefix cache", "Share of looked up tokens that were there.", "percentunit",
                       (f"rate(vllm:prefix_cache_hits_total{{{_VLLM}}}{RATE})"
                        f" / rate(vllm:prefix_cache_queries_total{{{_VLLM}}}{RATE})", "{{model_name}}"), most=1),
                _panel("First token", "From the request on.", "s",
                       *_quantiles("vllm:time_to_first_token_seconds", "model_name", _VLLM, "{{model_name}}")),
                _panel("Between tokens", "Latency between two tokens.", "s",
                       *_quantiles("vllm:inter_token_latency_seconds", "model_name", _VLLM, "{{model_name}}")),
                _panel("Whole request", "From end to end.", "s",
                       *_quantiles("vllm:e2e_request_latency_seconds", "model_name", _VLLM, "{{model_name}}")),
                _panel("Ended and preempted", "Requests a second.", "cps",
                       (f"sum by (model_name, finished_reason) (rate(vllm:request_success_total{{{_VLLM}}}{RATE}))",
                        "{{model_name}} {{finished_reason}}"),
                       (f"rate(vllm:num_preemptions_total{{{_VLLM}}}{RATE})", "{{model_name}} preempted")),
            ),
        ),
    ),
)  # fmt: skip

_TRAINER = 'and on (instance) bohdi_build_info{service="training"}'
TRAINING = Board(
    "bohdi-training",
    "Bohdi / Training",
    "The fine-tunes of the target.",
    (RUN,),
    (
        (
            "At work",
            (
                _panel("In training", "1 while a training was asked for and is not settled.", "short",
                       (f"bohdi_run_in_training{{{_RUN}}}", "{{run}}")),
                _panel("Steps", "Optimiser steps a second.", "cps",
                       (f"rate(bohdi_training_steps_total{RATE})", "{{instance}}")),
                _panel("Loss of the step", "Nats a token.", "short", ("bohdi_training_step_loss_nats", "{{instance}}")),
                _panel("Processor", "Cores in use by the training service.", "short",
                       (f"rate(process_cpu_seconds_total{RATE}) {_TRAINER}", "{{instance}}")),
                _panel("Memory", "Resident, of the training service.", "bytes",
                       (f"process_resident_memory_bytes {_TRAINER}", "{{instance}}")),
            ),
        ),
        (
            "What came of it",
            (
                _panel("Trainings", "That ended, since the process began.", "short",
                       ("sum by (outcome) (bohdi_trainings_total)", "{{outcome}}")),
                _panel("Loss of the version", "First and last of the fine-tune, and on samples held back, in nats.",
                       "short", ("bohdi_training_loss_nats", "{{point}}")),
                _panel("Duration", "Of a fine-tune, on average.", "s",
                       ("bohdi_training_seconds_sum / (bohdi_training_seconds_count > 0)", "{{instance}}")),
                _panel("Versions", "Of the target, promoted.", "short",
                       (f"bohdi_run_promotions_total{{{_RUN}}}", "{{run}}")),
            ),
        ),
    ),
)  # fmt: skip

BOARDS = (FUSION, SERVICES, MODELS, TRAINING)
