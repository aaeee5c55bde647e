"""Reports in a real browser: on a desk, on a phone, at night, on paper."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from selenium.webdriver import Chrome
from selenium.webdriver.common.by import By
from selenium.webdriver.support.wait import WebDriverWait

from fedray.report import Section, Table, render
from fedray.report.runs import report_sections
from tests.chromium import chromium
from tests.report.folders import NOW, write_run

PRIVATE = "transforms: [{name: clip, norm: 1.0}, {name: gaussian, multiplier: 0.3}]\nsampler: {name: poisson}\n"
TOLD = [f"{view}.{name}" for view in ("global", "personal") for name in ("loss", "accuracy", "auroc", "sensitivity")]

pytestmark = [pytest.mark.browser, pytest.mark.slow]


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chrome]:
    with chromium(tmp_path_factory.mktemp("profile")) as driver:
        yield driver


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of five seeds of 200 rounds and 100 clients, with names that are long."""
    return written(tmp_path_factory.mktemp("runs"), [("fedavg", seed) for seed in range(1, 6)])


@pytest.fixture(scope="module")
def several(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of three algorithms with three seeds each, of private runs that say what they have sent."""
    runs = [(name, seed) for name in ("fedavg", "ditto", "a.rather.long:Algorithm") for seed in (1, 2, 3)]
    return written(tmp_path_factory.mktemp("several"), runs)


def written(folder: Path, runs: list[tuple[str, int]]) -> Path:
    """Write some runs and the report of them."""
    sent = {"since": 1, "before": {}, "told": {"training": ["examples", "loss"], "evaluation": TOLD}}
    sent |= {"variants": [{"parts": [{"name": "delta", "in": "training", "numbers": 9, "dtype": "f32", "bytes": 36}]}]}
    counts = {name: [3] * 100 for name in ("rounds", "surveys", "evaluations", "bytes")}
    sent |= {"by_client": {"client": [f"h{client}" for client in range(100)], **counts}}
    for name, seed in runs:
        path = folder / f"seed={seed},{name.partition(':')[0]},a.rather.long.key={'x' * 60}"
        options: dict[str, Any] = {} if name == "ditto" else {"clients_personal": {}}
        write_run(path, seed, f"'{name}'", 200, PRIVATE, (30,) * 100, **options)
        (path / "sent.json").write_text(json.dumps(sent))
    title, lead, sections = report_sections([folder], NOW)
    path = folder / "report.html"
    path.write_text(render(title, sections, lead))
    return path


def look(browser: Chrome, page: Path, width: int, night: bool = False) -> None:
    screen: dict[str, Any] = {"width": width, "height": 844, "deviceScaleFactor": 1, "mobile": width < 600}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)
    scheme = {"name": "prefers-color-scheme", "value": "dark" if night else "light"}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme]})
    browser.get(page.as_uri())


def test_it_is_small(page: Path) -> None:
    assert page.stat().st_size < 2_000_000


@pytest.mark.parametrize("width", [390, 1280])
def test_nothing_sticks_out_and_nothing_overlaps(browser: Chrome, page: Path, width: int) -> None:
    look(browser, page, width)
    assert browser.execute_script("return document.documentElement.scrollWidth") <= width
    boxes = [figure.rect for figure in browser.find_elements(By.TAG_NAME, "figure")]
    assert len(boxes) >= 9
    assert all(box["width"] >= 300 for box in boxes)
    for number, one in enumerate(boxes):
        for other in boxes[number + 1 :]:
            beside = one["x"] + one["width"] <= other["x"] or other["x"] + other["width"] <= one["x"]
            below = one["y"] + one["height"] <= other["y"] or other["y"] + other["height"] <= one["y"]
            assert beside or below
    words = browser.execute_script(
        "return Math.min(...[...document.querySelectorAll('svg text')].map(t => t.getBoundingClientRect().height))"
    )
    assert words >= 9  # pixels: it can be read


def test_on_a_phone_a_few_long_lines_stand_below_each_other(browser: Chrome, several: Path) -> None:
    look(browser, several, 390)
    over = "return [...document.querySelectorAll('.wide')].filter(one => one.scrollWidth > one.clientWidth"
    assert browser.execute_script(f"{over} && one.querySelector('.few')).map(one => one.innerText)") == []
    heads = "const cells = document.querySelectorAll('.few tr:first-child td');"
    heads += "return [...cells].map(one => getComputedStyle(one, '::before').content.replaceAll('\u200b', ''))"
    assert '"test.accuracy"' in browser.execute_script(heads)
    assert browser.find_element(By.CSS_SELECTOR, ".few thead").rect["width"] <= 1


def test_on_a_phone_no_head_breaks_within_a_word(browser: Chrome, tmp_path: Path) -> None:
    """Each word of a head has room on a line as broad as its cell."""
    heads = [f"clients_personal.{name}" for name in ("accuracy_of_all", "sensitivity", "calibration_error")]
    path = tmp_path / "few.html"
    path.write_text(render("A few", [Section("Lines", [Table(["setting", *heads], [["a", 0.1, 0.2, 0.3]])])]))
    look(browser, path, 390)
    script = """
        const pen = document.createElement('canvas').getContext('2d'), broken = [];
        for (const cell of document.querySelectorAll('.few td')) {
            const style = getComputedStyle(cell, '::before');
            pen.font = `${style.fontWeight} ${style.fontSize} ${style.fontFamily}`;
            for (const word of style.content.slice(1, -1).split(/[\\s\u200b]/))
                if (cell.clientWidth && pen.measureText(word).width > cell.clientWidth) broken.push(word);
        }
        return broken"""
    assert len(browser.find_elements(By.CSS_SELECTOR, ".few td")) == 3
    assert browser.execute_script(script) == []


@pytest.mark.parametrize("width", [390, 1280])
def test_a_table_that_can_be_moved_says_so_and_its_first_column_covers_no_other(
    browser: Chrome, several: Path, width: int
) -> None:
    look(browser, several, width)
    browser.execute_script("document.querySelectorAll('details').forEach(one => { one.open = true })")
    for one in browser.find_elements(By.CLASS_NAME, "wide"):
        assert "gradient" in one.value_of_css_property("background-image")
        browser.execute_script("arguments[0].scrollLeft = 1e6", one)
        (head,) = one.find_elements(By.CSS_SELECTOR, "tbody tr:first-child th")
        if head.value_of_css_property("position") == "sticky":
            assert head.rect["width"] <= one.rect["width"] / 2


def test_what_is_folded_is_printed(browser: Chrome, several: Path) -> None:
    look(browser, several, 1280)
    heights = "return [...document.querySelectorAll('details > pre, details table')].map(one => one.checkVisibility("
    heights += "{contentVisibilityAuto: true, visibilityProperty: true}))"
    assert not any(browser.execute_script(heights))
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    # A busy browser follows a change of the medium a moment later.
    shown = WebDriverWait(browser, 30).until(lambda one: all(found := one.execute_script(heights)) and found)
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})
    assert len(shown) > 5


def test_it_asks_for_nothing(browser: Chrome, page: Path) -> None:
    look(browser, page, 1280)
    asked = browser.execute_script("return performance.getEntriesByType('resource').map(one => one.name)")
    assert [name for name in asked if not name.startswith("data:")] == []


def test_at_night_it_is_dark_and_figures_follow(browser: Chrome, page: Path) -> None:
    colours = {}
    for night in (False, True):
        look(browser, page, 1280, night)
        script = "const of = (what, name) => getComputedStyle(document.querySelector(what))[name];"
        script += "return [of('body', 'backgroundColor'), of('svg text', 'fill'), of('h1', 'color')]"
        paper, *ink = (sum(int(part) for part in colour[4:-1].split(",")) for colour in browser.execute_script(script))
        colours[night] = paper, ink
    assert colours[False][0] > 700
    assert max(colours[False][1]) < 150
    assert colours[True][0] < 100
    assert min(colours[True][1]) > 600


def test_what_is_folded_opens(browser: Chrome, page: Path) -> None:
    look(browser, page, 390)
    for one in browser.find_elements(By.TAG_NAME, "details"):
        one.find_element(By.TAG_NAME, "summary").click()
    assert browser.execute_script("return document.documentElement.scrollWidth") <= 390
    rows = browser.find_elements(By.CSS_SELECTOR, "details[open] tbody tr")
    assert len(rows) > 100


def test_on_paper_no_figure_is_cut(browser: Chrome, page: Path) -> None:
    look(browser, page, 1280)
    printed = browser.execute_cdp_cmd("Page.printToPDF", {"paperWidth": 8.27, "paperHeight": 11.69})
    assert base64.b64decode(printed["data"]).startswith(b"%PDF")
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    kept = browser.execute_script("return getComputedStyle(document.querySelector('figure')).breakInside")
    shown = browser.execute_script("return getComputedStyle(document.querySelector('nav')).display")
    assert (kept, shown) == ("avoid", "none")
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})
