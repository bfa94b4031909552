"""The live view of a run: one panel on a terminal, one line a step elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from rich.console import Console, Group
from rich.live import Live
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from bohdi.embedded import Watcher
from bohdi.figures import Figures, done_share, phase, spending, weakest
from bohdi_common.core.state import RunState
from bohdi_common.events.events_pb2 import Event, TargetEvaluated
from bohdi_common.runtime.local_host import LocalHost

_REFRESH_PER_S = 4
_SCORES_SHOWN = 4  # of those that the harness gave at once


@dataclass
class LiveView(Watcher):
    """Shows the host's state as it changes. Reads what the bandit has folded; writes nothing."""

    console: Console
    figures: Figures = field(default_factory=Figures)
    state: Callable[[], RunState] = field(default=RunState)
    in_flight: Callable[[], Mapping[str, int]] = field(default=dict)
    training_step: int = 0
    training_loss: float = 0.0
    _started_s: float = field(default_factory=time.monotonic)
    _live: Live | None = None
    _past: int = 0

    def __enter__(self) -> LiveView:
        if self.console.is_terminal:
            self._live = Live(get_renderable=self.render, console=self.console, refresh_per_second=_REFRESH_PER_S)
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live is not None:
            self._live.stop()

    def on_host(self, host: LocalHost) -> None:
        self.begin(lambda: host.bandit.state, host.log.end("bohdi.feedback"), lambda: host.in_flight)

    def begin(
        self, state: Callable[[], RunState], past: int, in_flight: Callable[[], Mapping[str, int]] = dict
    ) -> None:
        """What is to be shown: the state as it is folded, of which the first `past` events happened before."""
        self.state, self.in_flight, self._past = state, in_flight, past

    def on_step(self, step: int, loss: float) -> None:
        """Progress of a training, called from its thread."""
        self.training_step, self.training_loss = step, loss

    def on_event(self, event: Event) -> None:
        self.figures.add(event)
        if self._live is None and self.figures.events > self._past:
            line = _line(event, self.state())
            if line:
                self.console.print(line, markup=False, highlight=False)

    def render(self) -> Panel:
        """The panel as it stands now."""
        state = self.state()
        if state.rules is None:
            return Panel("starting", title="bohdi")
        table = Table.grid(padding=(0, 2))
        for name, value in self._rows(state):
            table.add_row(Text(name, style="dim"), Text(value))
        share = done_share(state)
        return Panel(Group(ProgressBar(total=1.0, completed=share, width=60), table), title=state.run_id)

    def _rows(self, state: RunState) -> list[tuple[str, str]]:
        assert state.rules is not None
        main, secondary, leaves = state.tree.nodes_by_level[1:]
        flight = ", ".join(f"{name} {n}" for name, n in sorted(self.in_flight().items()) if n) or "nothing"
        what = phase(state)
        if state.training is not None:
            what += f", step {self.training_step}, loss {self.training_loss:.3f}"
        rows = [
            ("round", f"{min(state.round + 1, state.rules.rounds)} of {state.rules.rounds}, {what}"),
            ("step", f"{state.step + 1}, {state.open_slots} slots open"),
            ("in flight", flight),
            ("tree", f"{main} main, {secondary} secondary domains, {leaves} leaves"),
            ("pairs", f"{state.pair_count} (and {state.counts.get('rehearsals', 0)} rehearsed)"),
            ("tokens", f"{state.spent_tokens:,}"),
            *_caps(state),
            ("target", state.target_version),
            ("time left", self._time_left(state)),
        ]
        return rows + [
            ("weak" if i == 0 else "", f"{mean:.2f}  {name}") for i, (name, mean) in enumerate(weakest(state))
        ]

    def _time_left(self, state: RunState) -> str:
        """From the pace so far; a run that was resumed counts what it had done before as done at the same pace."""
        share = done_share(state)
        if share < 0.02:
            return "not known yet"
        spent_s = max(self.figures.seconds, time.monotonic() - self._started_s)
        left_s = spent_s * (1 - share) / share
        return f"about {left_s / 60:.0f} min" if left_s > 90 else f"about {left_s:.0f} s"


def _caps(state: RunState) -> list[tuple[str, str]]:
    """Each cap of the budget, what is spent of it and what the run will want."""
    return [
        (f"budget: {name}", f"{part['spent']:,g} of {part['cap']:,g}, about {part['forecast']:,g} at the end")
        for name, part in spending(state).items()
        if part["cap"]
    ]


def _line(event: Event, state: RunState) -> str:
    """What an event means, for those that are worth a line."""
    place = f"round {event.round + 1}"
    match event.WhichOneof("body"):
        case "paths_drawn":
            drawn = event.paths_drawn
            what = "rehearsal" if drawn.rehearsal else f"step {event.step + 1}"
            return f"{place}, {what}: {len(drawn.slots)} slots drawn, {sum(state.tree.nodes_by_level[1:])} domains"
        case "nodes_reborn":
            return f"{place}: {len(event.nodes_reborn.rebirths)} of {event.nodes_reborn.tested} nodes tested reborn"
        case "training_drawn":
            return f"{place}: training {event.training_drawn.version} on {len(event.training_drawn.samples)} examples"
        case "target_promoted":
            done = event.target_promoted
            loss = f"loss {done.loss_first:.3f} -> {done.loss_last:.3f}"
            if done.held_back:
                loss += f", held-back {done.held_back_loss_base:.3f} -> {done.held_back_loss:.3f}"
            return f"{place}: {done.version} promoted, {loss}, {done.seconds:.0f} s"
        case "training_failed":
            return f"{place}: training failed: {event.training_failed.reason}"
        case "target_evaluated":
            return _evaluated(event.target_evaluated)
        case "run_paused":
            return f"{place}: paused: {event.run_paused.reason}"
        case "run_finished":
            return f"finished: {event.run_finished.reason}"
    return ""


def _evaluated(scored: TargetEvaluated) -> str:
    who = f"{scored.model} {scored.version}".strip()
    if scored.harness:
        return f"{who}: " + ", ".join(f"{s.domain} {s.metric} {s.value:.3f}" for s in scored.scores[:_SCORES_SHOWN])
    mean = sum(score.accuracy for score in scored.scores) / max(1, len(scored.scores))
    return f"{who}: held-out accuracy {mean:.3f}"
