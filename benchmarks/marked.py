"""The parts of a document that a script writes: what stands between `<!-- NAME -->` and `<!-- end NAME -->`."""

from __future__ import annotations

from pathlib import Path


def write_between(document: Path, parts: dict[str, str]) -> None:
    """Puts each part's text between its markers; all else stays as it is. Raises ValueError for a marker not there."""
    text = document.read_text(encoding="utf-8")
    for name, part in parts.items():
        before, found, rest = text.partition(f"<!-- {name} -->\n")
        _, ended, after = rest.partition(f"<!-- end {name} -->")
        if not found or not ended:
            raise ValueError(f"{document}: no markers <!-- {name} --> and <!-- end {name} -->: put them in")
        text = f"{before}{found}{part.strip()}\n{ended}{after}"
    document.write_text(text, encoding="utf-8")


def table(head: list[str], rows: list[list[str]]) -> str:
    """A Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
