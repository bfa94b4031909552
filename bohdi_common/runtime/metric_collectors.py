"""What Prometheus asks for that nobody counts: it is looked up when a scrape comes, from a thread of its own.

The event loop goes on meanwhile. So what is looked at is copied first, each part in one step of the interpreter, and
two parts may be of two neighbouring moments.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import numpy as np
from numpy.typing import NDArray
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from bohdi_common.core import budget
from bohdi_common.core.state import RunState
from bohdi_common.core.tree import LEAF_LEVEL, Tree
from bohdi_common.runtime import metrics as m
from bohdi_common.runtime.health import Health

Labels = tuple[str, ...]
Sample = tuple[m.Defined, Labels, float]
Source = Callable[[], Iterable[Sample]]
_FAMILIES = {"gauge": GaugeMetricFamily, "counter": CounterMetricFamily}


class _Gathered(Collector):
    """Samples of all sources, by metric."""

    def __init__(self) -> None:
        self.sources: list[Source] = []

    def collect(self) -> Iterator[Metric]:
        families: dict[str, Any] = {}
        for source in list(self.sources):
            for metric, labels, value in source():
                if metric.name not in families:
                    family = _FAMILIES[metric.kind]
                    families[metric.name] = family(metric.name, metric.help, labels=metric.labels)
                families[metric.name].add_metric(labels, value)
        yield from families.values()


_gathered = _Gathered()
m.REGISTRY.register(_gathered)


def gather(source: Source) -> None:
    """Asks `source` at every scrape from now on."""
    _gathered.sources.append(source)


@contextmanager
def gathered(*sources: Source) -> Iterator[None]:
    """Asks them at every scrape within."""
    _gathered.sources.extend(sources)
    try:
        yield
    finally:
        for source in sources:
            _gathered.sources.remove(source)


def of_verdicts() -> Iterator[Sample]:
    """What was counted of the judges. Of n answers, one to whom the position is nothing chooses each 1/n times."""
    outcomes, places, expected = Counter[Labels](), Counter[Labels](), defaultdict[Labels, float](float)
    for (judge, outcome, place, shown), count in dict(m.verdicts).items():
        outcomes[judge, outcome] += count
        if place:
            places[judge, str(place)] += count
            for each in range(1, shown + 1):
                expected[judge, str(each)] += count / shown
    for metric, counts in ((m.VERDICTS, outcomes), (m.POSITIONS, places), (m.POSITIONS_EXPECTED, expected)):
        yield from ((metric, labels, count) for labels, count in counts.items())


gather(of_verdicts)


def of_health(health: Health) -> Source:
    """What a process on Kafka knows of itself."""

    def samples() -> Iterator[Sample]:
        facts, service = health.facts(), (health.service,)
        yield _build(health.service, "kafka")
        yield m.READY, service, float(not health.not_ready())
        yield m.IN_FLIGHT, service, facts["in_flight"]
        yield m.OLDEST, service, facts["oldest_input_age_s"]
        yield m.PARTITIONS, service, facts["assigned_partitions"] or 0
        yield m.BROKER_SILENT, service, facts["broker_silent_s"]
        for (topic, partition), events in dict(health.lag).items():
            yield m.LAG, (health.service, topic, str(partition)), events

    return samples


def of_local_host(in_flight: Callable[[], Mapping[str, int]], oldest_age_s: Callable[[str], float]) -> Source:
    """What the host of an embedded run knows of its services, the bandit among them."""

    def samples() -> Iterator[Sample]:
        yield _build("bandit", "local")
        for service, events in in_flight().items():
            yield _build(service, "local")
            yield m.IN_FLIGHT, (service,), events
            yield m.OLDEST, (service,), oldest_age_s(service)

    return samples


def _build(service: str, host: str) -> Sample:
    return m.BUILD, (service, _version(), host), 1


def _version() -> str:
    try:
        return version("bohdi")
    except PackageNotFoundError:
        return "0+checkout"


# ---- runs -------------------------------------------------------------------------------------------------------


def of_runs(states: Callable[[], Iterable[RunState]]) -> Source:
    """Where the runs stand that are not over; with a run its series end."""

    def samples() -> Iterator[Sample]:
        going = [state for state in states() if state.rules is not None and not state.finished]
        yield m.RUNS, (), len(going)
        for state in going:
            yield from _progress(state)
            yield from _spending(state)
            yield from _domains(state.run_id, state.tree)

    return samples


def _progress(state: RunState) -> Iterator[Sample]:
    run = (state.run_id,)
    yield m.RUN_EVENTS, run, state.sequence
    yield m.RUN_ROUND, run, state.round
    yield m.RUN_ROUNDS, run, state.rules.rounds if state.rules else 0
    yield m.RUN_STEP, run, state.step
    yield m.RUN_OPEN, run, state.open_slots
    yield m.RUN_TRAINING, run, float(state.training is not None)
    yield m.RUN_PAUSED, run, float(bool(state.paused))
    yield m.RUN_PAIRS, run, state.pair_count
    yield m.RUN_TARGET, (state.run_id, state.target_version), 1
    yield m.RUN_PROMOTIONS, run, len(state.versions) - 1
    for what, count in dict(state.counts).items():
        yield m.RUN_OUTCOMES, (state.run_id, what), count


def _spending(state: RunState) -> Iterator[Sample]:
    run, spent = (state.run_id,), budget.spent(state)
    yield m.RUN_TOKENS, run, spent["tokens"]
    yield m.RUN_COST, run, spent["cost"]
    yield m.RUN_WORK, run, state.spent_us / 1e6
    for name, cap in dict(state.caps).items():
        yield m.RUN_BUDGET, (state.run_id, name), max(0.0, 1 - spent[name] / cap)


def _domains(run: str, tree: Tree) -> Iterator[Sample]:
    """The tree's size and lambda. A column is copied: one that is looked at cannot grow."""
    columns = [column[:] for column in (tree.level, tree.is_unk, tree.alpha, tree.beta, tree.window)]
    arms = min(map(len, columns))
    level, is_unk, alpha, beta, window = (_array(column)[:arms] for column in columns)
    pulls, mean = alpha + beta - 2, alpha / (alpha + beta)
    for number, name in m.LEVELS.items():
        nodes = (level == number) & (is_unk == 0)
        tried = nodes & (pulls > 0)
        yield m.RUN_NODES, (run, name), int(nodes.sum())
        if tried.any():
            yield m.RUN_LAMBDA, (run, name), float(mean[tried].mean())
    main = (level == 1) & (is_unk == 0)
    seen = int(np.minimum(pulls[main], tree.window_length).sum())
    if seen:
        lost = sum(int(bits).bit_count() for bits in window[main])
        yield m.RUN_REWARD, (run,), min(1.0, lost / seen)
    leaves = np.flatnonzero((level == LEAF_LEVEL) & (is_unk == 0) & (pulls > 0))
    for leaf in leaves[np.argsort(-mean[leaves], kind="stable")][: m.WEAKEST]:
        yield m.RUN_WEAKEST, (run, " > ".join(tree.path_names(int(leaf)))), float(mean[leaf])


def _array(column: Any) -> NDArray[Any]:
    return np.frombuffer(column, dtype=column.typecode)
