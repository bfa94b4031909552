"""Every metric that Bohdi exports: the one place where its name, labels and meaning stand; docs/monitoring.md is made
from here.

What is counted as it happens is counted by the functions below; what can be looked up when Prometheus asks (a run's
state, what is in flight) costs nothing until then and is gathered by `metric_collectors.py`. Labels are bounded: names
of services, event kinds and outcomes are the program's own, and of models' names the first MODELS_MAX are told apart.
"""

from __future__ import annotations

import time
from collections import Counter as Counted
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    GCCollector,
    Histogram,
    PlatformCollector,
    ProcessCollector,
    start_http_server,
)
from prometheus_client.exposition import choose_encoder

from bohdi_common.core.tree import LEAF_LEVEL
from bohdi_common.events import codec
from bohdi_common.events.events_pb2 import Event, HarvestJudged
from bohdi_common.models.port import ModelRefused, ModelUnavailable, Reply

REGISTRY = CollectorRegistry()
ProcessCollector(registry=REGISTRY)
PlatformCollector(registry=REGISTRY)
GCCollector(registry=REGISTRY)

MODELS_MAX = 64
OTHER = "other"  # all models beyond those
WEAKEST = 10
LEVELS = dict(enumerate(("main", "secondary", "sub"), 1))
assert len(LEVELS) == LEAF_LEVEL

_FAST_S = (0.001, 0.005, 0.02, 0.1, 0.5, 2.0, 10.0, 60.0, 300.0, 1800.0, 7200.0)
_CALL_S = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0)
_TRAINING_S = (1.0, 5.0, 30.0, 120.0, 600.0, 1800.0, 3600.0, 10800.0, 36000.0)


@dataclass(frozen=True)
class Defined:
    """A metric as it is documented. `kind`: counter, gauge or histogram; `name` as Prometheus stores it."""

    name: str
    kind: str
    labels: tuple[str, ...]
    help: str

    @property
    def series(self) -> tuple[str, ...]:
        """The names under which a query finds it."""
        parts = ("_bucket", "_sum", "_count") if self.kind == "histogram" else ("",)
        return tuple(self.name + part for part in parts)


METRICS: dict[str, Defined] = {}


def _defined(name: str, kind: str, help: str, labels: tuple[str, ...]) -> Defined:
    assert name not in METRICS, f"{name} is defined twice"
    METRICS[name] = Defined(name, kind, labels, help)
    return METRICS[name]


def _counter(name: str, help: str, *labels: str) -> Counter:
    _defined(name, "counter", help, labels)
    return Counter(name, help, labels, registry=REGISTRY)


def _gauge(name: str, help: str, *labels: str) -> Gauge:
    _defined(name, "gauge", help, labels)
    return Gauge(name, help, labels, registry=REGISTRY)


def _histogram(name: str, help: str, buckets: tuple[float, ...], *labels: str) -> Histogram:
    _defined(name, "histogram", help, labels)
    return Histogram(name, help, labels, buckets=buckets, registry=REGISTRY)


def _looked_up(name: str, help: str, *labels: str, kind: str = "gauge") -> Defined:
    """One that `metric_collectors.py` gives when it is asked."""
    return _defined(name, kind, help, labels)


# ---- of a process -----------------------------------------------------------------------------------------------

BUILD = _looked_up(
    "bohdi_build_info", "Always 1: a service at work, its version and its host (`kafka` or `local`).",
    "service", "version", "host",
)  # fmt: skip
READY = _looked_up("bohdi_ready", "1 while the process takes work: what /ready says.", "service")
IN_FLIGHT = _looked_up("bohdi_in_flight_events", "Inputs taken in and not acknowledged.", "service")
OLDEST = _looked_up(
    "bohdi_oldest_input_age_seconds", "How long the oldest input waits for its acknowledgement.", "service"
)
PARTITIONS = _looked_up("bohdi_assigned_partitions", "Partitions of its topic that the process has.", "service")
BROKER_SILENT = _looked_up("bohdi_broker_silent_seconds", "Time since the broker answered.", "service")
LAG = _looked_up(
    "bohdi_consumer_lag_events", "Events of a partition that are not acknowledged: its end less what is settled.",
    "service", "topic", "partition",
)  # fmt: skip
HANDLED = _counter(
    "bohdi_events_handled_total",
    "Inputs handled, by kind and by what came of it: done, rejected, unavailable, blocked or dead.",
    "service", "type", "outcome",
)  # fmt: skip
HANDLING = _histogram(
    "bohdi_handling_seconds", "From taking an input to having its outputs, retries of models included.", _FAST_S,
    "service", "type",
)  # fmt: skip
MODEL_RETRIES = _counter("bohdi_model_retries_total", "Inputs tried again because a model was away.", "service")
LOG_RETRIES = _counter("bohdi_log_retries_total", "Reads and appends tried again because the log was away.")
DEAD_LETTERS = _counter("bohdi_dead_letters_total", "Inputs that went to the dead letters.", "service")

# ---- of models and judges ---------------------------------------------------------------------------------------

CALLS = _counter(
    "bohdi_model_calls_total", "Calls of a model, by outcome: ok, unavailable, refused, error or cancelled.",
    "model", "outcome",
)  # fmt: skip
CALL = _histogram("bohdi_model_call_seconds", "From asking a model to its reply, waits in our queue included.", _CALL_S,
                  "model")  # fmt: skip
TOKENS = _counter("bohdi_model_tokens_total", "Tokens of prompts and of completions.", "model", "part")
VERDICTS = _looked_up(
    "bohdi_verdicts_total", "Verdicts of a judge: agrees or differs with the harvest's outcome, or abstained.",
    "judge", "outcome", kind="counter",
)  # fmt: skip
POSITIONS = _looked_up(
    "bohdi_verdict_positions_total", "Choices of a judge, by the position at which the answer was shown.",
    "judge", "position", kind="counter",
)  # fmt: skip
POSITIONS_EXPECTED = _looked_up(
    "bohdi_verdict_positions_expected_total", "The same of a judge to whom the position is nothing.",
    "judge", "position", kind="counter",
)  # fmt: skip
JUDGED = _counter(
    "bohdi_harvests_judged_total", "Harvests judged, by reward: 1 where the target lost, 0, or none without a verdict.",
    "reward",
)  # fmt: skip

# ---- of trainings -----------------------------------------------------------------------------------------------

TRAININGS = _counter("bohdi_trainings_total", "Trainings that ended: promoted or failed.", "outcome")
TRAINING = _histogram("bohdi_training_seconds", "Duration of a fine-tune whose version was promoted.", _TRAINING_S)
TRAINING_STEPS = _counter("bohdi_training_steps_total", "Optimiser steps.")
STEP_LOSS = _gauge("bohdi_training_step_loss_nats", "Loss of the last optimiser step, a token.")
LOSS = _gauge(
    "bohdi_training_loss_nats",
    "Losses of the last promoted version, a token: first, last; held_back_base and held_back where samples are kept.",
    "point",
)  # fmt: skip

# ---- of runs: from the bandit's fold ----------------------------------------------------------------------------

RUNS = _looked_up("bohdi_runs", "Runs that are not over.")
RUN_EVENTS = _looked_up("bohdi_run_events_total", "Events of the run that are folded.", "run", kind="counter")
RUN_ROUND = _looked_up("bohdi_run_round", "Rounds that are over.", "run")
RUN_ROUNDS = _looked_up("bohdi_run_rounds", "Rounds that the run will have.", "run")
RUN_STEP = _looked_up("bohdi_run_step", "Steps drawn in this round.", "run")
RUN_OPEN = _looked_up("bohdi_run_open_slots", "Slots that were drawn and are not settled.", "run")
RUN_TRAINING = _looked_up("bohdi_run_in_training", "1 while a training was asked for and is not settled.", "run")
RUN_PAUSED = _looked_up("bohdi_run_paused", "1 while the run is paused.", "run")
RUN_OUTCOMES = _looked_up(
    "bohdi_run_outcomes_total",
    "What came of what was asked: harvests, sprouts, rebirths, no_verdict and the other counts of `bohdi status`.",
    "run", "what", kind="counter",
)  # fmt: skip
RUN_NODES = _looked_up("bohdi_run_tree_nodes", "Domains of the tree, by level.", "run", "level")
RUN_PAIRS = _looked_up("bohdi_run_pairs", "Question-answer pairs in store.", "run")
RUN_LAMBDA = _looked_up(
    "bohdi_run_lambda_ratio", "Mean over the tried domains of a level of lambda, the chance that the target loses.",
    "run", "level",
)  # fmt: skip
RUN_WEAKEST = _looked_up(
    "bohdi_run_weakest_lambda_ratio", f"Lambda of the {WEAKEST} sub-domains where the target loses most.",
    "run", "domain",
)  # fmt: skip
RUN_REWARD = _looked_up(
    "bohdi_run_recent_reward_ratio", "Share of harvests that the target lost, in the windows of the main domains.",
    "run",
)  # fmt: skip
RUN_TARGET = _looked_up("bohdi_run_target_info", "Always 1: the version of the target in use.", "run", "version")
RUN_PROMOTIONS = _looked_up("bohdi_run_promotions_total", "Versions of the target promoted.", "run", kind="counter")
RUN_TOKENS = _looked_up("bohdi_run_tokens_total", "Tokens spent.", "run", kind="counter")
RUN_COST = _looked_up("bohdi_run_cost_total", "Money spent, in the prices' currency.", "run", kind="counter")
RUN_WORK = _looked_up("bohdi_run_work_seconds_total", "Time at work, pauses left out.", "run", kind="counter")
RUN_BUDGET = _looked_up("bohdi_run_budget_left_ratio", "What is left of each cap of the budget, 1 to 0.", "run", "cap")


# ---- what counts ------------------------------------------------------------------------------------------------


class Inputs:
    """What is counted of the inputs of one service. A child is looked up once: that costs more than to count."""

    def __init__(self, service: str) -> None:
        self._service = service
        self._handled: dict[tuple[str, str], Counter] = {}
        self._seconds: dict[str, Histogram] = {}
        self._dead = DEAD_LETTERS.labels(service)  # 0 from the start: an increase can be seen only from something
        self._retries = MODEL_RETRIES.labels(service)

    def handled(self, kind: str, outcome: str, began_s: float) -> None:
        """An input of `kind` ended as `outcome`; `began_s` by time.perf_counter."""
        if outcome == "dead":
            self._dead.inc()
        counter = self._handled.get((kind, outcome))
        if counter is None:
            counter = self._handled[kind, outcome] = HANDLED.labels(self._service, kind, outcome)
            self._seconds[kind] = HANDLING.labels(self._service, kind)
        counter.inc()
        self._seconds[kind].observe(time.perf_counter() - began_s)

    def retried(self) -> None:
        """A model was away."""
        self._retries.inc()

    def died(self) -> None:
        """An input that nobody handles went to the dead letters."""
        self._dead.inc()


@cache
def inputs_of(service: str) -> Inputs:
    """Those of a service, of this process."""
    return Inputs(service)


def appended(event: Event) -> None:
    """Takes in what came of an input: verdicts and trainings are worth counting."""
    match codec.kind_of(event):
        case "harvest_judged":
            _judged(event.harvest_judged)
        case "target_promoted":
            done = event.target_promoted
            TRAININGS.labels("promoted").inc()
            TRAINING.observe(done.seconds)
            LOSS.labels("first").set(done.loss_first)
            LOSS.labels("last").set(done.loss_last)
            if done.held_back:
                LOSS.labels("held_back_base").set(done.held_back_loss_base)
                LOSS.labels("held_back").set(done.held_back_loss)
        case "training_failed":
            TRAININGS.labels("failed").inc()


def training_begins() -> None:
    """This process trains: its counters are there from the start."""
    for outcome in ("promoted", "failed"):
        TRAININGS.labels(outcome)


def training_step(step: int, loss: float) -> None:
    """An optimiser step, told from the thread that trains."""
    TRAINING_STEPS.inc()
    STEP_LOSS.set(loss)


# Verdicts by judge, outcome, position of the choice (0 for none) and answers shown: there are many, and a plain count
# costs a tenth of a metric's. `metric_collectors.of_verdicts` tells of them.
verdicts: Counted[tuple[str, str, int, int]] = Counted()


def _judged(judged: HarvestJudged) -> None:
    _reward("none" if not judged.counted else str(judged.reward)).inc()
    best = judged.best if judged.counted else -1
    for verdict in judged.verdicts:
        choice, order = verdict.choice, list(verdict.order)
        if choice < 0 and not verdict.none_right:
            outcome = "abstained"
        else:
            outcome = "agrees" if (judged.none_right if choice < 0 else choice == best) else "differs"
        place = order.index(choice) + 1 if choice in order else 0
        verdicts[model_label(verdict.judge), outcome, place, len(order)] += 1


_reward = cache(JUDGED.labels)

_models_seen: dict[str, str] = {}


def model_label(name: str) -> str:
    """The model's name as a label; that of the others once there are too many."""
    if name not in _models_seen:
        if len(_models_seen) >= MODELS_MAX:
            return OTHER
        _models_seen[name] = name
        for outcome in ("ok", "unavailable", "refused", "error"):
            CALLS.labels(name, outcome)
    return name


@contextmanager
def model_call(name: str) -> Iterator[list[Reply]]:
    """Around one call of a model, which puts its reply into the list that it is given."""
    replies: list[Reply] = []
    began_s, outcome, model = time.perf_counter(), "cancelled", model_label(name)
    try:
        yield replies
        outcome = "ok"
    except ModelUnavailable:
        outcome = "unavailable"
        raise
    except ModelRefused:
        outcome = "refused"
        raise
    except Exception:
        outcome = "error"
        raise
    finally:
        _call(model, outcome).inc()
        _seconds(model).observe(time.perf_counter() - began_s)
        for reply in replies:
            _tokens(model, "prompt").inc(reply.prompt_tokens)
            _tokens(model, "completion").inc(sum(c.completion_tokens for c in reply.completions))


_call = cache(CALLS.labels)
_seconds = cache(CALL.labels)
_tokens = cache(TOKENS.labels)


# ---- how they are had -------------------------------------------------------------------------------------------


def exposition(accept: str) -> tuple[bytes, str]:
    """All metrics of this process as text, and its content type, by the request's Accept header."""
    encode, content_type = choose_encoder(accept)
    return encode(REGISTRY), content_type


def serve(host: str, port: int) -> int:
    """Answers `/metrics` in a daemon thread for as long as the process lives; returns the port. Raises OSError."""
    server, _ = start_http_server(port, host, REGISTRY)
    return int(server.server_port)


def table() -> str:
    """The table of metrics for docs/monitoring.md, in Markdown."""
    head = "| metric | kind | labels | what it says |\n|---|---|---|---|\n"
    return head + "".join(
        f"| `{m.name}` | {m.kind} | {', '.join(f'`{label}`' for label in m.labels) or '-'} | {m.help} |\n"
        for m in METRICS.values()
    )


def names() -> set[str]:
    """Every name that a query may use."""
    return {series for metric in METRICS.values() for series in metric.series}
