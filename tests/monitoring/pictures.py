"""Key panels drawn from what their queries gave, for docs/pictures: by matplotlib, which is not Grafana.

`python -m tests.monitoring.pictures` draws them again from runs/watch/panels.json.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("svg")
import matplotlib.pyplot as plt

FOLDER = Path(__file__).parents[2] / "docs" / "pictures"
_SERIES_MAX = 10
SHOWN = {
    "fusion": ("Bohdi / Fusion", ("Steps of the round", "Open slots", "Events folded", "Lambda by level",
                                  "Target lost lately", "Tree", "Rewards", "Outcomes", "Budget left")),
    "services": ("Bohdi / Services", ("Handled", "Duration", "Lag", "In flight", "Oldest input", "Memory")),
    "models": ("Bohdi / Models", ("Calls", "Duration", "Tokens", "Agreement", "Position bias", "Requests")),
}  # fmt: skip
BEGINS = ("Bohdi / Fusion", "Where it stands: Events folded")  # and ends: with the run
Found = Mapping[tuple[str, str], Sequence[Mapping[str, Any]]]


def draw(found: Found) -> None:
    """Writes docs/pictures/NAME.svg for each of SHOWN."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    mpl.rcParams |= {"svg.hashsalt": "bohdi", "svg.fonttype": "none", "font.size": 7, "axes.grid": True,
                     "grid.alpha": 0.3, "path.simplify_threshold": 0.6}  # fmt: skip
    runs = [at for query in found[BEGINS] for series in query["series"] for at, _ in series["values"]]
    first_s, last_s = min(runs), max(runs)
    for name, (board, titles) in SHOWN.items():
        rows = -(-len(titles) // 3)
        figure, places = plt.subplots(rows, 3, figsize=(11, 2.5 * rows), layout="constrained", squeeze=False)
        for axes, title in zip(places.flat, titles, strict=True):
            axes.set_xlim(0, last_s - first_s)
            panel = next(p for (d, p), _ in found.items() if d == board and p.partition(": ")[2] == title)
            _panel(axes, title, found[board, panel], first_s)
        figure.suptitle(f"{board}: the panels' queries on a micro-world run, drawn by matplotlib (not Grafana)")
        figure.savefig(FOLDER / f"{name}.svg", metadata={"Date": None})
        plt.close(figure)


def _panel(axes: Any, title: str, queries: Sequence[Mapping[str, Any]], first_s: float) -> None:
    lines = [
        (_legend(query["legend"], series["metric"]), [(at, float(value)) for at, value in series["values"]])
        for query in queries
        for series in query["series"]
    ]
    lines.sort(key=lambda line: -max(value for _, value in line[1]))
    for legend, points in lines[:_SERIES_MAX]:
        axes.plot([at - first_s for at, _ in points], [value for _, value in points], label=legend, linewidth=0.9)
    axes.set_title(title)
    axes.set_xlabel("seconds")
    axes.set_ylim(bottom=0)
    if lines:
        axes.legend(fontsize=5, ncols=2, loc="best", framealpha=0.6)


def _legend(form: str, labels: Mapping[str, str]) -> str:
    return re.sub(r"\{\{(\w+)\}\}", lambda found: labels.get(found[1], ""), form)


if __name__ == "__main__":
    told = json.loads(Path("runs/watch/panels.json").read_bytes())
    draw({(panel["dashboard"], panel["panel"]): panel["queries"] for panel in told})
