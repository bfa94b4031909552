"""The study: methods compared at equal numbers of questions and training steps, over seeds, in the micro-world.

`python -m benchmarks.study [--seeds 5] [--only ARM]` runs every arm with every seed, two at a time, each in a process
of its own; a finished pair leaves its figures in benchmarks/work/study/ and is not run again. The table goes to
docs/study.md. The loop never looks at the checker; the arm `true answers` does, on purpose, as the ceiling.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import shutil
import statistics
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

WORK = Path("benchmarks/work/study")
REPORT = Path("docs/study.md")
PROCESSES = 2
TIMEOUT_S = 900

ROUNDS, STEPS, SLOTS = 5, 3, 40
EXAMPLES = 150 * 32  # of a training, on average over the rounds
PAPER_BANDIT = {"sharpness": "inf", "introspection": "paper", "threshold": 0.2, "rehearsal_questions": 0}

# What differs from the base: the tree given, sharpness 2, no IR, panel, rehearsal, replay.
ARMS: dict[str, dict[str, Any]] = {
    "fused, default": {},
    "fused, IR two-sample": {"bandit": {"introspection": "two_sample"}},
    "fused, plain Thompson": {"bandit": {"sharpness": "inf"}},
    "fused, Thompson and the paper's IR": {"bandit": {"sharpness": "inf", "introspection": "paper", "threshold": 0.2}},
    "fused, uniform": {"bandit": {"sharpness": 0}},
    "preset paper": {
        "bandit": PAPER_BANDIT,
        "judging": {"mode": "leader"},
        "training": {"rehearsal_share": 0.0, "replay_share": 0.0, "average_last": 1},
    },
    "leader judges": {"judging": {"mode": "leader"}},
    "no rehearsal": {"bandit": {"rehearsal_questions": 0}},
    "tree grown from Root": {"domains": [], "bandit": {"grow": True}},
    "qwen alone": {"sources": ["qwen"]},
    "mistral alone": {"sources": ["mistral"]},
    "phi alone": {"sources": ["phi"]},
    "true answers": {"sources": ["oracle"]},
}


def configuration(arm: str) -> dict[str, Any]:
    """The raw configuration of an arm: the demo's, at the study's budget."""
    import yaml

    from bohdi.microworld import world

    raw: dict[str, Any] = yaml.safe_load(Path("configs/demo.yaml").read_text())
    raw["name"] = "study"
    raw["domains"] = [list(path) for path in world.LEAVES]
    raw["evaluation"] = None
    raw["bandit"] |= {
        "rounds": ROUNDS, "steps": STEPS, "slots": SLOTS, "grow": False, "rehearsal_questions": 900,
    }  # fmt: skip
    raw["training"] |= {"passes": 0.0, "examples": EXAMPLES, "ramp": True}
    for section, changes in ARMS[arm].items():
        if section == "sources":
            raw["sources"] = [s for s in raw["sources"] if s["name"] in changes] or [oracle_source(raw)]
        else:
            raw[section] = raw[section] | changes if isinstance(changes, dict) else changes
    raw["bandit"]["sharpness"] = float(raw["bandit"].get("sharpness", 2))
    return raw


def oracle_source(raw: dict[str, Any]) -> dict[str, Any]:
    """A source that knows every answer; its folder is never loaded."""
    return raw["sources"][0] | {"name": "oracle"}


def run_one(arm: str, seed: int, out: Path) -> None:
    """One run of one arm; its figures go to `out` as JSON."""
    from bohdi.embedded import Watcher, host_run, new_run, real_parts
    from bohdi.figures import Figures
    from bohdi.microworld.evaluate import accuracy, summary
    from bohdi.run_folder import RunFolder, model_folder, resolved
    from bohdi_common.models.port import ModelRef
    from bohdi_common.runtime import config as configs

    folder = RunFolder(out.with_suffix(".run"))
    shutil.rmtree(folder.path, ignore_errors=True)
    config = resolved(configs.parse(configuration(arm), arm), Path("configs"))
    parts = real_parts()
    if arm == "true answers":
        parts.models = with_oracle(parts.models)

    class Counting(Watcher):
        figures = Figures()

        def on_event(self, event: Any) -> None:
            self.figures.add(event)

    started, watcher = time.process_time(), Counting()
    new_run(config, folder, seed, parts)
    state = asyncio.run(host_run(config, folder, parts, watcher, resume=False))
    cpu_s = time.process_time() - started
    assert state.finished, state.paused
    by_version = {
        version: accuracy(model_folder(folder.versions, ModelRef("target", version, path=config.target.path)))
        for version in state.versions
    }
    last = by_version[state.versions[-1]]
    result = {
        "arm": arm, "seed": seed, "cpu_s": cpu_s, "pairs": state.pair_count,
        "rehearsals": state.counts.get("rehearsals", 0), "rebirths": state.counts.get("rebirths", 0),
        "steps": sum(training["steps"] for training in watcher.figures.trainings),
        "by_round": [vars(summary(domains)) for domains in by_version.values()],
        "worst": min(last.values()), "sd": statistics.pstdev(last.values()), "domains": last,
    }  # fmt: skip
    out.write_text(json.dumps(result))
    shutil.rmtree(folder.path)


def with_oracle(local: Any) -> Any:
    """The target in this process, and beside it a source that asks, answers and judges by the world's checker."""
    import random

    from bohdi.microworld import world
    from bohdi_common.models.scripted import ScriptedModels

    def reply(model: Any, messages: Any, sampling: Any) -> list[str]:
        prompt = messages[-1]["content"]
        if prompt.startswith("Ask: "):
            path = tuple(prompt.removeprefix("Ask: ").split(" > "))
            return [world.ask(path, random.Random())[0] for _ in range(sampling.n)]
        question = prompt.removeprefix("Judge: ").split(" | ")[0]
        solved = world.solve(question)
        return [solved[1] if solved else "none"] * sampling.n

    class WithOracle:
        def __init__(self, folder_of: Any) -> None:
            self.local, self.oracle = local(folder_of), ScriptedModels(reply)

        async def complete(self, model: Any, messages: Any, sampling: Any) -> Any:
            models = self.oracle if model.name == "oracle" else self.local
            return await models.complete(model, messages, sampling)

        async def close(self) -> None:
            await self.local.close()

    return WithOracle


def run_all(arms: list[str], seeds: int) -> None:
    """Every pair that has no result yet, each in a fresh process, PROCESSES at a time."""
    WORK.mkdir(parents=True, exist_ok=True)
    todo = [(arm, seed) for seed in range(seeds) for arm in arms if not result_file(arm, seed).exists()]

    def one(pair: tuple[str, int]) -> None:
        arm, seed = pair
        command = [sys.executable, "-m", "benchmarks.study", "--one", arm, "--seed", str(seed)]
        ended = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
        print(f"{arm}, seed {seed}: {'done' if not ended.returncode else ended.stderr[-500:]}", flush=True)

    with ThreadPoolExecutor(PROCESSES) as pool:
        list(pool.map(one, todo))


def result_file(arm: str, seed: int) -> Path:
    return WORK / f"{arm.replace(' ', '-').replace(',', '')}-{seed}.json"


def table(arms: list[str], seeds: int) -> str:
    """The study's Markdown table; an arm without all its runs is left out, and said so."""
    head = (
        "| arm | overall | new | old | worst domain | sd over domains | pairs | steps | new, by round | CPU s |\n"
        "|---|---|---|---|---|---|---|---|---|---|\n"
    )
    rows, missing = [], []
    for arm in arms:
        files = [result_file(arm, seed) for seed in range(seeds)]
        results = [json.loads(file.read_text()) for file in files if file.exists()]
        if len(results) < seeds:
            missing.append(f"{arm} ({len(results)} of {seeds} runs)")
        if len(results) > 1:
            rows.append(row(arm, results))
    note = f"\nNot complete: {'; '.join(missing)}.\n" if missing else ""
    return head + "\n".join(rows) + "\n" + note


def row(arm: str, results: list[dict[str, Any]]) -> str:
    last = [result["by_round"][-1] for result in results]
    spread = [[scores[key] for scores in last] for key in ("overall", "new", "old")] + [
        [result[key] for result in results] for key in ("worst", "sd")
    ]
    figures = [f"{statistics.mean(values):.3f} ± {statistics.stdev(values):.3f}" for values in spread]
    curve = [
        f"{statistics.mean(result['by_round'][k]['new'] for result in results):.2f}"
        for k in range(1, len(results[0]["by_round"]))
    ]
    means = [round(statistics.mean(result[key] for result in results)) for key in ("pairs", "steps", "cpu_s")]
    return f"| {arm} | {' | '.join(figures)} | {means[0]} | {means[1]} | {', '.join(curve)} | {means[2]} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--only", choices=list(ARMS))
    parser.add_argument("--one", choices=list(ARMS), help=argparse.SUPPRESS)
    parser.add_argument("--seed", type=int, default=0, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        return run_one(arguments.one, arguments.seed, result_file(arguments.one, arguments.seed))
    arms = [arguments.only] if arguments.only else list(ARMS)
    run_all(arms, arguments.seeds)
    text = REPORT.read_text() if REPORT.exists() else "# Study\n\n<!-- table -->\n<!-- end -->\n"
    before, rest = text.split("<!-- table -->")
    after = rest.split("<!-- end -->")[1]
    REPORT.write_text(f"{before}<!-- table -->\n{table(list(ARMS), arguments.seeds)}<!-- end -->{after}")
    print(table(arms, arguments.seeds))
    return None


if __name__ == "__main__":
    main()
