"""The study's tables, from the figures that its runs left."""

from __future__ import annotations

import json
import statistics
from typing import Any

from benchmarks.marked import table
from benchmarks.study_run import result_file

Results = dict[str, list[dict[str, Any]]]


def tables(arms: list[str], seeds: int) -> dict[str, str]:
    """By the name of their markers. An arm without all its runs says how many it has."""
    results = found(arms, seeds)
    return {"accuracy": accuracy(results, seeds), "efficiency": efficiency(results)}


def found(arms: list[str], seeds: int) -> Results:
    """The figures of the runs that there are."""
    files = {arm: [result_file(arm, seed) for seed in range(seeds)] for arm in arms}
    return {arm: [json.loads(file.read_text()) for file in of_arm if file.exists()] for arm, of_arm in files.items()}


def learning(arms: list[str], seeds: int) -> dict[str, str]:
    """The table of what one fine-tune learns: accuracy at the end, and what the fine-tunes said of themselves."""
    head = ["arm", "overall", "new", "old", "worst domain", "sd over domains", "masked", "preference pairs",
            "trainings refused", "steps", "CPU s"]  # fmt: skip
    results = found(arms, seeds)
    rows = [
        [named(arm, runs, seeds), *ends(runs), *said(runs), *costs(runs)[2:]]
        for arm, runs in results.items()
        if len(runs) > 1
    ]
    return {"learning": table(head, rows)}


def said(runs: list[dict[str, Any]]) -> list[str]:
    """The share of completion tokens that was masked and the pairs preferred, means over all trainings, and the
    trainings refused, mean over the runs; a dash for what an arm does not do."""
    trainings = [training for run in runs for training in run.get("trainings", [])]
    masked = [training["masked_share"] for training in trainings if "masked_share" in training]
    pairs = [training["preferences"] for training in trainings if "preferences" in training]
    return [
        f"{statistics.mean(masked):.2f}" if masked else "-",
        f"{statistics.mean(pairs):.0f}" if pairs else "-",
        f"{statistics.mean(run.get('refused', 0) for run in runs):.1f}",
    ]


def accuracy(results: Results, seeds: int) -> str:
    """Held-out accuracy at the end, mean and standard deviation over the runs, and what it took."""
    head = ["arm", "overall", "new", "old", "worst domain", "sd over domains",
            "questions", "pairs", "steps", "CPU s"]  # fmt: skip
    rows = [[named(arm, runs, seeds), *ends(runs), *costs(runs)] for arm, runs in results.items() if len(runs) > 1]
    missing = [f"{arm} ({len(runs)} of {seeds} runs)" for arm, runs in results.items() if len(runs) < seeds]
    return table(head, rows) + (f"\n\nNot complete: {'; '.join(missing)}." if missing else "")


def named(arm: str, runs: list[dict[str, Any]], seeds: int) -> str:
    return arm if len(runs) == seeds else f"{arm} ({len(runs)} runs)"


def ends(runs: list[dict[str, Any]]) -> list[str]:
    last = [run["rounds"][-1] for run in runs]
    columns = [[scores[key] for scores in last] for key in ("overall", "new", "old")]
    columns += [[run[key] for run in runs] for key in ("worst", "sd")]
    return [f"{statistics.mean(column):.3f} ± {statistics.stdev(column):.3f}" for column in columns]


def costs(runs: list[dict[str, Any]]) -> list[str]:
    columns = [[run["questions"] for run in runs], [run["rounds"][-1]["pairs"] for run in runs]]
    columns += [[run[key] for run in runs] for key in ("steps", "cpu_s")]
    return [f"{statistics.mean(column):.0f}" for column in columns]


def efficiency(results: Results) -> str:
    """Overall accuracy against the training samples used up to each round, mean over the runs. Beside it the number of
    different samples among them at the end."""
    complete = {arm: runs for arm, runs in results.items() if len(runs) > 1}
    used = sorted({round_["samples"] for runs in complete.values() for run in runs for round_ in run["rounds"]})
    rows = [[arm, *curve(runs, used), different(runs)] for arm, runs in complete.items()]
    return table(["arm", *(f"{samples:,}" for samples in used), "of them different"], rows)


def curve(runs: list[dict[str, Any]], used: list[int]) -> list[str]:
    """Mean accuracy of the runs at each number of samples used; a dash where no version of an arm has used it."""
    by_samples: dict[int, list[float]] = {samples: [] for samples in used}
    for run in runs:
        for round_ in run["rounds"]:
            by_samples[round_["samples"]].append(round_["overall"])
    return [f"{statistics.mean(found):.3f}" if found else "-" for found in by_samples.values()]


def different(runs: list[dict[str, Any]]) -> str:
    return f"{statistics.mean(run['rounds'][-1]['different'] for run in runs):.0f}"
