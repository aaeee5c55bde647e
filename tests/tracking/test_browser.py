"""TensorBoard's page in a real browser, as a person sees it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from selenium.webdriver import Chrome
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.ui import WebDriverWait

from fedray.core.record import RoundRecord
from fedray.tracking import RunInfo, TensorBoard
from tests.chromium import chromium

pytestmark = [pytest.mark.browser, pytest.mark.slow]

PATIENCE = 90
ROUNDS = 6
WANTED = ("test/accuracy", "train/loss")


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    """A run of six rounds, resumed after the third."""
    folder = tmp_path / "run"
    for resumed_from, rounds in ((0, range(1, 5)), (3, range(4, ROUNDS + 1))):
        board = TensorBoard(folder)
        board.start(RunInfo(folder, "digits", ROUNDS, resumed_from, 4, 650, "seed: 1\n", np.array([[3, 1], [0, 2]])))
        for number in rounds:
            test = {"loss": 1.5 / number, "accuracy": 1 - 0.5 / number}
            record = RoundRecord(number, 0.5, {}, {"ok": 2, "failed": 0}, 60, {"loss": 2 / number}, test)
            record.clients_test = {"accuracy": {"mean": 0.5, "worst": 0.25}}
            record.evaluated, record.bytes, record.metrics = {"clients": 4}, {"up": 8}, {"krum": {"kept": 3}}
            board.round(record)
        board.close()
    return folder


@pytest.fixture
def page(run_dir: Path) -> Iterator[str]:
    """Address of a TensorBoard on the run folder, on a port of the system's choice."""
    command = [sys.executable, "-m", "tensorboard.main", "--logdir", str(run_dir), "--host", "127.0.0.1", "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as server:
        assert server.stderr is not None
        said = []
        try:
            for line in server.stderr:
                said.append(line)
                if " at http://" in line:
                    yield line.split(" at ")[1].split()[0]
                    break
            else:
                pytest.fail("TensorBoard did not start:\n" + "".join(said))
        finally:
            server.kill()


@pytest.fixture
def browser(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Chrome]:
    """A headless Chromium with a profile of its own."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1,localhost")
    with chromium(tmp_path / "profile") as driver:
        yield driver


def cards(driver: Chrome) -> dict[str, WebElement]:
    """The scalar cards on the page by the name they show."""
    shown = driver.find_elements(By.CSS_SELECTOR, "scalar-card")
    return {card.find_element(By.CSS_SELECTOR, ".tag").text.replace("\n", ""): card for card in shown}


def curves(card: WebElement) -> list[int]:
    """How many points each curve of a card has."""
    paths = card.find_elements(By.CSS_SELECTOR, ".series-view > svg > path")
    return [(path.get_attribute("d") or "").count("L") + 1 for path in paths]


def test_the_scalars_are_shown_by_name(page: str, browser: Chrome, tmp_path: Path) -> None:
    # All groups but two start folded: filter. SVG, since a curve on a canvas cannot be asked for its points.
    browser.get(f"{page}?forceSVG=true&tagFilter=^({'|'.join(WANTED)})$#timeseries")
    wait = WebDriverWait(browser, PATIENCE)
    wait.until(lambda driver: set(cards(driver)) == set(WANTED), "no cards by these names")
    # The value and, paler or not, what smoothing makes of it: each round once, though the run was resumed.
    wait.until(lambda driver: [curves(card) for card in cards(driver).values()] == [[ROUNDS] * 2] * 2, "no curves")
    screenshot = tmp_path / "tensorboard.png"
    assert browser.save_screenshot(str(screenshot))
    with Image.open(screenshot) as picture:
        assert len(picture.convert("RGB").getcolors(1 << 24) or []) > 50


def test_the_page_opens_with_the_test_set_and_the_clients(page: str, browser: Chrome) -> None:
    browser.get(f"{page}#timeseries")
    wanted = {"test/accuracy", "test/loss", "test_clients/accuracy/mean", "test_clients/accuracy/worst"}
    wait = WebDriverWait(browser, PATIENCE)
    wait.until(lambda driver: wanted <= cards(driver).keys(), "no cards of test set and clients")
    assert {name.partition("/")[0] for name in cards(browser)} == {"test", "test_clients"}
    titles = [title.text for title in browser.find_elements(By.CSS_SELECTOR, ".group-title, .group-text")]
    groups = [title for title in titles if title != "Pinned"]  # what a person pins has a group of its own
    assert groups == ["test", "test_clients", "time", "train", "usage"]
