"""The study: methods compared at equal numbers of questions and training steps, over seeds, in the micro-world.

`python -m benchmarks.study [--seeds 5] [--only ARM] [--learning] [--processes 2]` runs every arm with every seed, each
in a process of its own; a finished pair leaves its figures in benchmarks/work/study/ and is not run again. The tables
go to docs/study.md. The loop never looks at the checker; the arm `true answers` does, on purpose, as the ceiling.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from benchmarks import marked, study_tables
from benchmarks.study_run import result_file, run_one

REPORT = Path("docs/study.md")
TIMEOUT_S = 1800

ROUNDS, STEPS, SLOTS = 5, 3, 40
REHEARSAL = 900
EXAMPLES = 150 * 32  # of a training, on average over the rounds
# Slots of a step where no question is spent on rehearsal and all are harvested: as many questions in all.
SLOTS_ALL = SLOTS + REHEARSAL // (ROUNDS * STEPS)

# What the published method does at the places that are settings here and matter in the micro-world. It closes no leaf;
# with the bound of the preset (10 failures in a row) a run stopped early because every leaf was closed.
PAPER: dict[str, Any] = {
    "bandit": {
        "sharpness": "inf",
        "introspection": "paper",
        "threshold": 0.2,
        "rehearsal_questions": 0,
        "leaf_failures": 1_000_000,
    },
    "judging": {"mode": "leader"},
    "training": {"rehearsal_share": 0.0, "replay_share": 0.0, "average_last": 1},
}
# What differs from the base: the tree given, sharpness 2, no IR, panel, rehearsal, replay.
ARMS: dict[str, dict[str, Any]] = {
    "fused, default": {},
    "fused, IR two-sample": {"bandit": {"introspection": "two_sample"}},
    "fused, plain Thompson": {"bandit": {"sharpness": "inf"}},
    "fused, Thompson and the paper's IR": {"bandit": {"sharpness": "inf", "introspection": "paper", "threshold": 0.2}},
    "fused, uniform": {"bandit": {"sharpness": 0}},
    "preset paper": PAPER | {"bandit": PAPER["bandit"] | {"slots": SLOTS_ALL}},
    "preset paper, 600 questions": PAPER,
    "leader judges": {"judging": {"mode": "leader"}},
    "no rehearsal": {"bandit": {"rehearsal_questions": 0, "slots": SLOTS_ALL}},
    "no rehearsal, 600 questions": {"bandit": {"rehearsal_questions": 0}},
    "tree grown from Root": {"domains": [], "bandit": {"grow": True}},
    "qwen alone": {"sources": ["qwen"]},
    "mistral alone": {"sources": ["mistral"]},
    "phi alone": {"sources": ["phi"]},
    "true answers": {"sources": ["oracle"]},
}
# What one fine-tune learns, beside the base arm, which is the plain supervised fine-tune. A table of its own, of three
# seeds. A run here never pauses: a training that the gate refuses is a round without a new version.
HELD_BACK = {"held_back_share": 0.1, "held_back_loss_rise": 0.1}
RECKLESS = {"learning_rate": 0.03, "muon_learning_rate": 0.03}  # ten times the recipe's
LEARNING: dict[str, dict[str, Any]] = {
    "STM, perplexity 2.5": {"training": {"stm_perplexity": 2.5}},
    "DPO after SFT": {"training": {"dpo_beta": 0.1, "dpo_learning_rate": 1e-4}},
    "no replay": {"training": {"replay_share": 0.0}},
    "gate": {"bandit": {"training_failures": 1_000}, "training": HELD_BACK},
    "reckless rate": {"training": RECKLESS},
    "reckless rate, gate": {"bandit": {"training_failures": 1_000}, "training": RECKLESS | HELD_BACK},
}
LEARNING_SEEDS = 3
PLAIN = "fused, default"


# Its own, so that its table stands when the demo's is tuned.
RECIPE = {"learning_rate": 0.003, "muon_learning_rate": 0.003, "weight_decay": 0.01}


def configuration(arm: str) -> dict[str, Any]:
    """The raw configuration of an arm: the demo's, at the study's budget."""
    import yaml

    from bohdi.microworld import world

    raw: dict[str, Any] = yaml.safe_load(Path("configs/demo.yaml").read_text())
    raw["name"] = "study"
    raw["domains"] = [list(path) for path in world.LEAVES]
    raw["evaluation"] = None
    raw["bandit"] |= {
        "rounds": ROUNDS, "steps": STEPS, "slots": SLOTS, "grow": False, "rehearsal_questions": REHEARSAL,
    }  # fmt: skip
    raw["training"] |= {"passes": 0.0, "examples": EXAMPLES, "ramp": True, **RECIPE}
    for section, changes in (ARMS | LEARNING)[arm].items():
        if section == "sources":
            raw["sources"] = [s for s in raw["sources"] if s["name"] in changes] or [oracle_source(raw)]
        else:
            raw[section] = raw[section] | changes if isinstance(changes, dict) else changes
    raw["bandit"]["sharpness"] = float(raw["bandit"].get("sharpness", 2))
    return raw


def oracle_source(raw: dict[str, Any]) -> dict[str, Any]:
    """A source that knows every answer; its folder is never loaded."""
    return raw["sources"][0] | {"name": "oracle"}


def run_all(arms: list[str], seeds: int, processes: int) -> None:
    """Every pair that has no result yet, each in a fresh process, `processes` at a time."""
    todo = [(arm, seed) for seed in range(seeds) for arm in arms if not result_file(arm, seed).exists()]
    with ThreadPoolExecutor(processes) as pool:
        for (arm, seed), outcome in zip(todo, pool.map(lambda pair: run_apart(*pair), todo), strict=True):
            print(f"{arm}, seed {seed}: {outcome}", flush=True)


def run_apart(arm: str, seed: int) -> str:
    """One run in a process of its own; how it ended."""
    command = [sys.executable, "-m", "benchmarks.study", "--one", arm, "--seed", str(seed)]
    try:
        ended = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
    except subprocess.TimeoutExpired:
        return f"not over after {TIMEOUT_S} s"
    return ended.stderr[-500:] if ended.returncode else "done"


def main() -> None:
    everything = [*ARMS, *LEARNING]
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--only", choices=everything)
    parser.add_argument("--learning", action="store_true", help="only the arms of what one fine-tune learns")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--one", choices=everything, help=argparse.SUPPRESS)
    parser.add_argument("--seed", type=int, default=0, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        return run_one(arguments.one, configuration(arguments.one), arguments.seed)
    chosen = [arguments.only] if arguments.only else everything
    learning = [arm for arm in (PLAIN, *LEARNING) if arm in chosen]
    run_all(learning, min(arguments.seeds, LEARNING_SEEDS), arguments.processes)
    tables = study_tables.learning([PLAIN, *LEARNING], LEARNING_SEEDS)
    if not arguments.learning:
        run_all([arm for arm in ARMS if arm in chosen], arguments.seeds, arguments.processes)
        tables |= study_tables.tables(list(ARMS), arguments.seeds)
    marked.write_between(REPORT, tables)
    print(*tables.values(), sep="\n\n")
    return None


if __name__ == "__main__":
    main()
