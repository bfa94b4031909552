"""`python -m tests.real.vllm [--dir DIR] [CONFIG]`: rounds on a real model behind a real vLLM that is killed once.

The server is killed (SIGKILL, all of its processes) when the first harvest of a trained version was judged, and started
again at once; the run goes on beside it, and is resumed if it paused meanwhile. Figures in DIR/summary.json, every text
that a model gave in DIR/outputs.jsonl, what the server said in DIR/vllm-1.log and DIR/vllm-2.log. Exit code 1 when
something that must hold does not.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from bohdi.embedded import Watcher, host_run, new_run, real_parts
from bohdi.run_folder import RunFolder, resolved
from bohdi.verify_run import verify_folder
from bohdi_common.core.state import ALL_ROUNDS_DONE, BASE_VERSION, RunState
from bohdi_common.events.events_pb2 import Event
from bohdi_common.models import prompts
from bohdi_common.models.adapters import models
from bohdi_common.models.port import ModelRef
from bohdi_common.models.vllm import served_name
from bohdi_common.runtime import config as configs
from bohdi_common.runtime.config import Config
from bohdi_common.runtime.feedback import events_of
from tests.real.outputs import Recording, parsed
from tests.real.vllm_server import LORA, VllmServer

_RESUMES = 5  # a run pauses once while its server starts; one that pauses more often does not come back
_SAMPLES = 3  # harvests in the summary, for people to read


@dataclass
class _Killing(Watcher):
    """Tells what happens, and kills the server when the first harvest of a trained version was judged."""

    server: VllmServer
    killed: int = 0
    told: set[str] = field(default_factory=set)  # a resume folds again what is in the log

    def on_event(self, event: Event) -> None:
        """See Watcher."""
        if event.event_id in self.told:
            return
        self.told.add(event.event_id)
        kind = event.WhichOneof("body")
        reason = event.run_paused.reason if kind == "run_paused" else ""
        print(f"{kind} {event.round}.{event.step}.{event.slot} {reason}", flush=True)
        if kind == "harvest_judged" and event.harvest_judged.target_version != BASE_VERSION and not self.killed:
            self.killed += 1
            print("kill -9 of the server, and a start", flush=True)
            self.server.kill()
            self.server.start()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("config", nargs="?", type=Path, default=Path("configs/real-vllm.yaml"))
    parser.add_argument("--dir", type=Path, default=Path("runs/real-vllm"))
    parser.add_argument("--python", type=Path, default=Path(".real/vllm/bin/python"), help="of vLLM's environment")
    told = parser.parse_args()
    config = resolved(configs.load(told.config), told.config.parent)
    folder = RunFolder(told.dir)
    parts = real_parts()
    run_id = new_run(config, folder, 1, parts)
    outputs = folder.path / "outputs.jsonl"
    parts.models = lambda folder_of: Recording(models(folder_of), outputs)
    watcher = _Killing(_server(config, folder, told.python))
    started_s = time.monotonic()
    try:
        watcher.server.start()
        print(f"vLLM answers after {watcher.server.wait():.0f} s", flush=True)

        def go_on(resume: bool) -> RunState:
            return asyncio.run(host_run(config, folder, parts, watcher, resume=resume))

        state = _to_the_end(go_on, watcher.server)
    finally:
        watcher.server.stop()
    summary = _summary(config, folder, run_id, state, watcher) | {"seconds": time.monotonic() - started_s}
    folder.summary.write_text(json.dumps(summary, indent=2, ensure_ascii=False), encoding="utf-8")
    print(json.dumps(summary, indent=2, ensure_ascii=False))
    for failed in (lacking := _lacking(summary)):
        print(f"does not hold: {failed}", file=sys.stderr)
    sys.exit(1 if lacking else 0)


def _server(config: Config, folder: RunFolder, python: Path) -> VllmServer:
    """The server that the configuration names, as yet not started."""
    port = urlsplit(config.target.urls[0]).port
    assert port is not None, "the target's url names no port"
    name = config.target.served_name
    return VllmServer(python.absolute(), Path(config.target.path), name, port, folder.path.absolute(), LORA)


def _to_the_end(go_on: Callable[[bool], RunState], server: VllmServer) -> RunState:
    """Hosts the run; when it paused because its models were away, waits for the server and resumes it."""
    state = go_on(False)
    for _ in range(_RESUMES):
        if state.finished or not state.paused:  # over, or ended by a signal
            break
        print(f"paused: {state.paused}; vLLM answers after {server.wait():.0f} s more", flush=True)
        state = go_on(True)
    return state


def _summary(config: Config, folder: RunFolder, run_id: str, state: RunState, watcher: _Killing) -> dict[str, Any]:
    with (folder.path / "outputs.jsonl").open(encoding="utf-8") as lines:
        shares = parsed(map(json.loads, lines), prompts.load(config.prompts))
    server, report, judged = watcher.server, verify_folder(folder), _judged(events_of(folder.read(), run_id))
    starts = range(1, server.starts + 1)
    return {
        "parsed": shares,
        "promoted": state.versions[1:],
        "rounds": config.bandit.rounds,
        "finished": state.finished,
        "counts": state.counts,
        "servers_killed": watcher.killed,
        # What answered the harvests of each round, by the events; then, by start, what the server says of itself.
        "harvests_named": [dict(Counter(name for name, _ in harvests)) for harvests in judged],
        "server_was_asked_for": [dict(server.adapters_asked(start)) for start in starts],
        "server_loaded": [server.loads(start) for start in starts],
        "problems": report["problems"],
        "dead": report["checked"].get("dead letters", 0),
        "samples": [sample for harvests in judged[-1:] for _, sample in harvests[:_SAMPLES]],
    }


def _judged(events: Iterable[Event]) -> list[list[tuple[str, dict[str, Any]]]]:
    """By round: of each harvest that was judged, under which name its target was asked, and its texts."""
    rounds: list[list[tuple[str, dict[str, Any]]]] = []
    for event in events:
        if event.HasField("run_started"):
            target = event.run_started.settings.target
        if event.HasField("harvest_judged"):
            rounds += [[] for _ in range(event.round + 1 - len(rounds))]
            body = event.harvest_judged
            answers = {f"{answer.model} {answer.version}".strip(): answer.text for answer in body.answers}
            best = body.answers[body.best].model if body.best >= 0 else ""
            name = served_name(ModelRef.of(target, body.target_version, event.run_id))
            rounds[event.round].append((name, {"question": body.question, "answers": answers, "best": best}))
    return rounds


def _lacking(summary: dict[str, Any]) -> list[str]:
    """What must hold and does not."""
    first, *later = summary["harvests_named"] or [{}]
    trained = {name for harvests in later for name in harvests}
    asked = summary["server_was_asked_for"]
    must = {
        "the run came to its end": summary["finished"] == ALL_ROUNDS_DONE,
        "every round promoted a version": len(summary["promoted"]) == summary["rounds"],
        "a version that was promoted answered in the next round, and it alone": bool(trained)
        and all(len(harvests) == 1 for harvests in later)
        and not trained & set(first),
        "the server was killed once, and started again": summary["servers_killed"] == 1 and len(asked) == 2,
        "the server itself says that the version answered before it was killed": bool(trained & set(asked[0])),
        "it was given the version again and answered with it": bool(trained & set(asked[-1]))
        and summary["server_loaded"][-1] > 0,
        "verify is clean, and nothing is among the dead letters": not summary["problems"] and not summary["dead"],
    }
    return [what for what, holds in must.items() if not holds]


if __name__ == "__main__":
    main()
