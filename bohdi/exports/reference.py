"""What the tables and views are, as Markdown: in docs/exports.md and beside every export. `python -m
bohdi.exports.reference` writes the former anew."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from bohdi.exports.columns import TABLES
from bohdi.exports.views import VIEWS

DOCS = Path("docs/exports.md")
BEGIN, END = "<!-- made by bohdi.exports.reference -->\n", "<!-- end -->\n"


def reference() -> str:
    """Every table and view with its columns."""
    parts = ["## Tables\n"]
    for table in TABLES:
        rows = [f"| {c.name} | {c.type} | {_cell(c.about)} |" for c in table.columns]
        parts.append(_part(table.name, table.about, "| column | type | |\n|---|---|---|", rows))
    parts.append("## Views\n")
    for view in VIEWS:
        rows = [f"| {name} | {_cell(about)} |" for name, about in view.columns.items()]
        parts.append(_part(view.name, view.about, "| column | |\n|---|---|", rows))
    return "\n".join(parts)


def _part(name: str, about: str, head: str, rows: list[str]) -> str:
    return "\n".join([f"### {name}\n", f"{about}\n", head, *rows, ""])


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def of_export(contents: dict[str, Any]) -> str:
    """The README of an export."""
    return (
        f"# Run {contents['run_id']}\n\n"
        f"Its first {contents['events']} events as tables, made by `bohdi export`: a parquet file each, and all of\n"
        "them with the views in `run.duckdb`. `contents.json` has the counts of rows, the files' SHA-256 sums and the\n"
        "hash of the state that the events add up to. `cards/` has a model card for each version of the target.\n\n"
        '`bohdi sql FOLDER "SELECT ..."` asks them. The texts are models\' words: trust none.\n\n' + reference()
    )


def main() -> None:
    before, _, rest = DOCS.read_text(encoding="utf-8").partition(BEGIN)
    after = rest.partition(END)[2]
    DOCS.write_text(f"{before}{BEGIN}{reference()}{END}{after}", encoding="utf-8")


if __name__ == "__main__":
    main()
