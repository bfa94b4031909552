"""The page: contents as HTML, with plotly.js, the page's own script and its style inlined.

Whatever a model wrote is text and nothing else: `plain` takes out what steers the reading, the template escapes, data
for the script has no `<`, and the page's own Content-Security-Policy lets no other script or style than ours run, and
nothing be fetched.
"""

from __future__ import annotations

import base64
import hashlib
import json
import math
import re
from dataclasses import asdict
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from bohdi.report.contents import Contents
from bohdi.report.plain import plain

TEXT_CHARS_MAX = 1_500
_HERE = Path(__file__).parent
# plotly.js adds a style of its own for maps, which there are none of here, unless an element of this id is there.
_OWN_STYLE = re.compile(r'document\.getElementById\("([0-9a-f]{64})"\)')


def page(contents: Contents, verdict: list[str], plotly_js: str, refresh_s: float = 0.0) -> str:
    """The whole page. `refresh_s`: it loads itself again so often; 0: never. The same contents give the same page."""
    told = _plain({**asdict(contents), "verdict": verdict})
    assert isinstance(told, dict)
    ours = {name: (_HERE / f"page.{name}").read_text(encoding="utf-8") for name in ("css", "js")}
    own_style = _OWN_STYLE.search(plotly_js)
    template = _environment().get_template("page.html.j2")
    return template.render(
        told,
        data=_json_in_html({**_drawn(told), "refresh_s": refresh_s}),
        css=Markup(ours["css"]),
        js=Markup(ours["js"]),
        plotly_js=Markup(plotly_js),
        plotly_style_id=own_style[1] if own_style else "no-map",
        policy=_policy([plotly_js, ours["js"]], [ours["css"], ""]),
        refresh_s=refresh_s,
    )


def _drawn(told: dict[str, Any]) -> dict[str, Any]:
    """What the charts are made of; the rest stands in the page as text."""
    return {name: told[name] for name in ("run", "accuracy", "rounds", "tree", "wins", "judges", "trainings")}


def _plain(value: Any) -> Any:
    """The same value with every text in it made plain and bounded, keys of mappings too; None for what is no number."""
    if isinstance(value, str):
        return plain(value, TEXT_CHARS_MAX)
    if isinstance(value, dict):
        return {_plain(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def _json_in_html(value: Any) -> Markup:
    """JSON that no parser of HTML takes for markup, wherever it stands."""
    text = json.dumps(value, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    for char in "<>&":
        text = text.replace(char, f"\\u{ord(char):04x}")
    return Markup(text)


def _policy(scripts: list[str], styles: list[str]) -> str:
    """Only these scripts and styles, by their hashes; pictures made by the charts; no network at all. Attributes of
    style are the charts' labels'."""
    return (
        f"default-src 'none'; script-src {_hashes(scripts)}; style-src-elem {_hashes(styles)}; "
        "style-src-attr 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'"
    )


def _hashes(texts: list[str]) -> str:
    digests = (hashlib.sha256(text.encode("utf-8")).digest() for text in texts)
    return " ".join(f"'sha256-{base64.b64encode(digest).decode()}'" for digest in digests)


def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(_HERE), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["share"] = lambda share: "–" if share is None else f"{100 * share:.1f}%"
    environment.filters["figure"] = lambda number: "–" if number is None else f"{number:.3f}"
    environment.filters["whole"] = lambda number: f"{number:,}"
    return environment
