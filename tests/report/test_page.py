"""The report of a run in a real browser, with the network off: its numbers are the log's, its slider and its selection
move it, and nothing that a model wrote is more than text."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser

from bohdi import open_run
from bohdi.profiles import Rate, Tally, contest_of, rates
from bohdi.report.writing import Writer
from bohdi.run_places import run_place
from bohdi_common.core.state import RunState
from tests.report.browser import Opened, chromium, opened
from tests.report.planted_run import ACCURACY, MARKUP, MODEL, SOURCE, planted_run

_OUR_SCRIPTS = 3  # the data, plotly.js, the page's own


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return planted_run(tmp_path_factory.mktemp("report") / "run")


@pytest.fixture(scope="module")
def report(folder: Path) -> Path:
    file = folder.parent / "report.html"
    writer = Writer(run_place(folder, None, None), file)
    writer.read_on()
    writer.write()
    return file


@pytest.fixture(scope="module")
def browser(report: Path) -> Iterator[Browser]:
    """Started once the report is there: while it runs this thread can run no other event loop."""
    with chromium() as started:
        yield started


@pytest.fixture(scope="module")
def shown(browser: Browser, report: Path) -> Iterator[Opened]:
    """The page in light colours, which tests may move but must not leave."""
    with opened(browser, report) as page:
        yield page


@pytest.fixture(scope="module")
def state(folder: Path) -> RunState:
    return open_run(folder).state()


def by_path(state: RunState) -> dict[str, list[str]]:
    """What the tree's table is to say of each domain in `state`, the interval left out."""
    tree = state.tree
    rows = {}
    for node in range(1, len(tree)):
        if not tree.is_unk[node]:
            below = [leaf for leaf in tree.leaves() if node in tree.path(leaf)]
            harvests = sum(len(state.pairs.get(leaf, ())) for leaf in below)
            numbers = (
                f"{tree.mean(node):.3f}",
                f"{tree.alpha[node]}, {tree.beta[node]}",
                harvests,
                tree.rebirths[node],
            )
            rows[" > ".join(tree.path_names(node))] = [str(number) for number in numbers]
    return rows


def told_by_path(rows: list[list[str]]) -> dict[str, list[str]]:
    return {path: [mean, beta, harvests, rebirths] for path, mean, beta, _, harvests, rebirths in rows}


def win_rates(folder: Path) -> dict[tuple[str, ...], dict[str, Rate]]:
    """Of the harvests that the posteriors know of."""
    run, tally = open_run(folder), Tally()
    effective = set(chain.from_iterable(run.state().pairs.values()))
    for sequence, event in enumerate(run.events()):
        contest = contest_of(event.harvest_judged) if sequence in effective else None
        if contest is not None:
            tally.add(contest)
    return rates(tally, ["target", "a", "b", MODEL])


def test_it_opens_without_a_network_and_says_nothing_on_the_console(shown: Opened, report: Path) -> None:
    assert shown.asked == [report.absolute().as_uri()]
    assert shown.said == []
    for chart in (
        "accuracy",
        "domains",
        "lost",
        "tree",
        "posterior",
        "wins",
        "agreement",
        "positions",
        "losses",
        "tokens",
    ):
        assert shown.page.locator(f"#chart-{chart} .main-svg").count(), chart


def test_the_summary_has_the_logs_numbers(shown: Opened, folder: Path, state: RunState) -> None:
    run = open_run(folder)
    main, secondary, leaves = state.tree.nodes_by_level[1:]
    assert shown.text("#fact-harvests") == str(state.counts["harvests"])
    assert shown.text("#fact-events") == str(len(list(run.events())))
    assert shown.text("#fact-tokens") == f"{state.spent_tokens:,}"
    assert shown.text("#fact-domains") == f"{main} main, {secondary} secondary, {leaves} leaves"
    assert shown.text("#fact-rounds") == "3 of 3"
    assert shown.text(".headline") == "The target got better, and is better than every source."
    assert "The run is finished: 3 rounds of 3 are done." in shown.text("#summary")


def test_the_slider_moves_the_tree_to_the_end_of_each_round(shown: Opened, folder: Path) -> None:
    run, slider = open_run(folder), shown.page.locator("#moment")
    slider.focus()
    shown.page.keyboard.press("Home")
    for number in range(4):
        state = run.state(f"round:{number}")
        assert shown.text("#moment-label") == (f"end of round {number}" if number else "start")
        assert slider.get_attribute("aria-valuetext") == shown.text("#moment-label")
        assert told_by_path(shown.rows("table-tree")) == by_path(state)
        assert f"{state.pair_count} harvests, target {state.target_version}" in shown.text("#tree-said")
        sectors = shown.evaluate("document.querySelectorAll('#chart-tree .slice').length")
        assert (sectors > 3) == bool(number)
        shown.page.keyboard.press("ArrowRight")


def test_a_picked_domain_shows_its_posterior_to_the_end(shown: Opened, state: RunState) -> None:
    tree = state.tree
    leaf = min(state.pairs, key=lambda leaf: (len(state.pairs[leaf]), leaf))
    path = " > ".join(tree.path_names(leaf))
    place = shown.evaluate("JSON.parse(document.getElementById('data').textContent).tree.nodes.map(node => node.path)")
    shown.page.select_option("#node", value=str(place.index(path)))
    assert shown.text("#node-said").startswith(f"{path}: lambda {tree.mean(leaf):.3f}")
    last = shown.rows("table-posterior")[-1]
    assert last[2:4] == [f"{tree.mean(leaf):.3f}", f"{tree.alpha[leaf]}, {tree.beta[leaf]}"]
    assert last[5] == str(len(state.pairs[leaf]))


def test_a_domain_is_picked_by_a_click_on_the_tree_too(shown: Opened) -> None:
    shown.page.locator("#moment").focus()
    shown.page.keyboard.press("End")
    shown.page.wait_for_timeout(200)
    name = shown.page.locator("#chart-tree .slicetext").first.text_content() or ""
    shown.page.locator("#chart-tree .slice path.surface").first.dispatch_event("click")
    shown.page.wait_for_function("name => document.getElementById('node-said').textContent.includes(name)", arg=name)


def test_the_rounds_and_the_wins_are_those_of_the_log(shown: Opened, folder: Path) -> None:
    judged = [row for row in open_run(folder).harvests().to_pylist() if row["took_effect"]]
    for number, harvests, lost, _, _ in shown.rows("table-rounds"):
        there = [row for row in judged if row["round"] + 1 == int(number)]
        assert (int(harvests), int(lost)) == (len(there), sum(row["reward"] for row in there))
    for (path, rates_there), row in zip(win_rates(folder).items(), shown.rows("table-wins"), strict=True):
        assert row[0] == (" > ".join(path) or "all domains")
        for rate, cell in zip(rates_there.values(), row[1:], strict=True):
            assert cell.startswith(f"{rate.rate:.3f} [{rate.low:.3f}, {rate.high:.3f}]")
            assert cell.endswith(f"of {rate.harvests}")


def test_accuracy_trainings_tokens_and_judges_are_those_of_the_log(shown: Opened, state: RunState) -> None:
    accuracy = {row[0]: row[1] for row in shown.rows("table-accuracy")}
    for version, scores in ACCURACY.items():
        assert accuracy[f"target {version}"] == f"{sum(scores.values()) / 2:.3f}"
    assert f"{sum(SOURCE.values()) / 2:.3f}" in accuracy.values()
    assert [row[0] for row in shown.rows("table-trainings")] == state.versions[1:]
    assert shown.rows("table-trainings")[0][3:5] == ["2.500", "–"]  # the other was no number
    tokens = sum(int(number.replace(",", "")) for row in shown.rows("table-tokens") for number in row[2:4])
    assert tokens == state.spent_tokens
    assert {row[0] for row in shown.rows("table-judges")} >= {"votes", "agrees with the others", "chooses place 1"}
    assert int(shown.rows("table-judges")[0][1]) > 0


def test_failures_and_dead_letters_are_told(shown: Opened) -> None:
    assert "Dead letters: 2." in shown.text("#failures-said")
    assert [row[1] for row in shown.rows("table-dead")] == ["bohdi.answers/0/7"] * 2
    assert int(shown.rows("table-failures")[0][-1]) > 0


def test_what_models_wrote_is_text_and_nothing_else(shown: Opened) -> None:
    shown.page.evaluate("document.querySelectorAll('details').forEach(part => { part.open = true; })")
    assert MARKUP in shown.text("#samples") and MARKUP in shown.text("#failures") and MARKUP in shown.text("#accuracy")
    assert shown.evaluate("window.planted") is None
    assert shown.page.locator("script").count() == _OUR_SCRIPTS
    assert shown.page.locator("img, iframe, object, embed, form, [onclick], [onerror]").count() == 0
    assert shown.page.locator("a:not([href^='#'])").count() == 0
    whole = shown.evaluate("document.documentElement.textContent")
    assert "49 -->" not in whole and "{{ 7 * 7 }}" in whole
    assert not {"\u202e", "\u2066", "\u200b", "\x07"}.intersection(shown.evaluate("document.body.innerText"))
    assert "<U+202E>gpj.exe<U+2066><U+200B><U+0007>" in shown.text("#samples")
    assert MODEL.replace("\u202e", "<U+202E>") in shown.text(
        "#chart-tokens"
    )  # which plotly.js would have taken as bold
    assert shown.said == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_follows_the_systems_colours_and_has_a_switch_of_its_own(
    browser: Browser, report: Path, scheme: str
) -> None:
    paper, ink = "getComputedStyle(document.body).backgroundColor", "document.querySelector('#chart-lost .xtick text')"
    colours = f"[{paper}, {ink}.style.fill]"
    with opened(browser, report, scheme) as page:
        first = page.evaluate(colours)
        page.page.select_option("#theme", "dark" if scheme == "light" else "light")
        other = page.evaluate(colours)
        page.page.select_option("#theme", scheme)
        assert page.evaluate(colours) == first
        assert set(first).isdisjoint(other)
        assert (first[0] == "rgb(255, 255, 255)") == (scheme == "light")
        page.page.evaluate("document.querySelectorAll('details').forEach(part => { part.open = true; })")
        found = Axe().run(page.page)
        assert found.violations_count == 0, found.generate_report()
        assert page.said == []


def test_it_is_walked_through_by_keyboard_alone(browser: Browser, report: Path) -> None:
    with opened(browser, report) as page:
        keyboard, focus = page.page.keyboard, "document.activeElement"
        keyboard.press("Tab")
        assert page.evaluate(f"{focus}.textContent") == "To the summary"
        seen: list[str] = []
        for _ in range(60):
            keyboard.press("Tab")
            seen.append(page.evaluate(f"{focus}.id || {focus}.tagName"))
        assert {"theme", "moment", "node", "SUMMARY"}.issubset(seen)
        page.page.locator("#tree summary").focus()
        keyboard.press("Enter")
        assert page.page.locator("#table-tree").is_visible()


def test_a_narrow_window_needs_no_scrolling_sideways(browser: Browser, report: Path) -> None:
    with opened(browser, report, width=400) as page:
        assert page.evaluate("document.documentElement.scrollWidth") <= 400


def test_an_address_brings_moment_and_domain_back(browser: Browser, report: Path, state: RunState) -> None:
    leaf = min(state.pairs)
    with opened(browser, report, address=f"#?at=1&node={leaf}") as page:
        assert page.text("#moment-label") == "end of round 1"
        assert page.text("#node-said").startswith(" > ".join(state.tree.path_names(leaf)))
