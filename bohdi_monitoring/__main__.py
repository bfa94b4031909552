"""`python -m bohdi_monitoring`: writes what is made from code: the dashboards, and the table in docs/monitoring.md."""

from __future__ import annotations

from pathlib import Path

from bohdi_common.runtime import metrics
from bohdi_monitoring.grafana import as_json
from bohdi_monitoring.panels import BOARDS

_ROOT = Path(__file__).parents[1]
FOLDER = _ROOT / "k8s" / "monitoring" / "dashboards"
GUIDE = _ROOT / "docs" / "monitoring.md"
_BEGIN, _END = "<!-- metrics: made by `make dashboards` -->\n", "<!-- end of metrics -->\n"


def with_table(guide: str) -> str:
    """The guide with the table of metrics as the code has it, between its two marks. Raises ValueError without them."""
    before, _, rest = guide.partition(_BEGIN)
    _, mark, after = rest.partition(_END)
    if not mark:
        raise ValueError(f"{GUIDE.name}: the two marks around the table of metrics are gone: put them back")
    return f"{before}{_BEGIN}\n{metrics.table()}\n{_END}{after}"


def main() -> None:
    FOLDER.mkdir(parents=True, exist_ok=True)
    for board in BOARDS:
        (FOLDER / f"{board.uid}.json").write_text(as_json(board), encoding="utf-8")
    GUIDE.write_text(with_table(GUIDE.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main()
