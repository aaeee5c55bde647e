"""The table and the picture of accuracy against epsilon."""

from __future__ import annotations

import doctest
import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fedray
from benchmarks import privacy
from benchmarks.privacy import CLIENTS, PICTURE, RECIPES, TEST, AgainstEpsilon, by_epsilon, measured, resampled, table
from benchmarks.rows import kept

TOP = Path(__file__).parents[2]
ROWS = TOP / "benchmarks" / "results" / "2026-11-29-amd-epyc-2c-privacy.jsonl"


def one(epsilon: float | None, accuracy: float, seed: int) -> dict[str, Any]:
    noise = 0.0 if epsilon is None else 2.5
    norm = None if epsilon is None else 0.3
    told = {"noise_multiplier": noise, "norm": norm, "rate": 0.5, "rounds": 80, "seconds": 4.0}
    return {"epsilon": epsilon, "seed": seed, "accuracy": accuracy, **told}


def test_its_examples_are_true() -> None:
    assert doctest.testmod(privacy).failed == 0


def test_the_page_has_the_table_and_the_picture_of_the_rows_that_were_measured() -> None:
    rows = kept(ROWS)
    assert {(one["epsilon"], one["seed"]) for one in rows} == {
        (None if math.isinf(epsilon) else epsilon, seed) for epsilon in RECIPES for seed in range(5)
    }
    page = (TOP / "docs" / "privacy.md").read_text()
    assert "\n".join(table(rows)) in page
    assert f"]({PICTURE}.svg)" in page
    picture = (TOP / "docs" / f"{PICTURE}.svg").read_text()
    assert AgainstEpsilon.of(rows).caption in picture
    for epsilon, own in by_epsilon(rows).items():
        recipe = RECIPES[epsilon]
        assert {(one["rate"], one["rounds"]) for one in own} == {(recipe.rate, recipe.rounds)}


def test_no_image_of_the_test_set_is_trained_on_and_clients_draw_of_all_the_others() -> None:
    data = resampled(3)
    assert data.test is not None
    assert (len(data), len(data.test.y)) == (CLIENTS, TEST)
    x, _ = data.rows(np.arange(CLIENTS)).take(np.tile(np.arange(14), (CLIENTS, 1)))
    trained = {image.numpy().tobytes() for image in x.reshape(-1, 64)}
    tested = {image.numpy().tobytes() for image in data.test.x}
    assert not trained & tested
    assert len(trained) > 1400


def test_a_table_has_a_line_for_each_epsilon_and_none_comes_last() -> None:
    found = [one(None, 0.98, 0), one(8.0, 0.9, 0), one(8.0, 0.94, 1), one(1.0, 0.8, 0)]
    assert list(table(found)) == [
        "| epsilon, 2 seeds | accuracy | noise multiplier | clip | rate | rounds | processor seconds |",
        "|---|---|---|---|---|---|---|",
        "| 1 (1 seed) | 0.800 | 2.5 | 0.3 | 0.5 | 80 | 4.0 |",
        "| 8 | 0.920 ± 0.254 | 2.5 | 0.3 | 0.5 | 80 | 4.0 |",
        "| ∞ (1 seed) | 0.980 | 0 | none | 0.5 | 80 | 4.0 |",
    ]


@pytest.mark.slow
def test_what_a_file_has_is_not_measured_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines, page, asked = tmp_path / "lines.jsonl", tmp_path / "page.md", []
    lines.write_text("".join(json.dumps(row) + "\n" for row in (one(8.0, 0.9, 0), one(None, 0.98, 0))))
    page.write_text("How.\n\n| unit | x |\n|---|---|\n\n| epsilon, 9 seeds | x |\n|---|---|\n\nMore.\n")

    def fake(epsilon: float, seed: int) -> dict[str, Any]:
        asked.append((epsilon, seed))
        return one(None if math.isinf(epsilon) else epsilon, 0.9, seed)

    monkeypatch.setattr(privacy, "measured", fake)
    words = ["privacy", "--epsilons", "8", "inf", "--seeds", "2", "--lines", str(lines), "--write", str(page)]
    monkeypatch.setattr("sys.argv", words)
    for _ in range(2):
        assert privacy.main() == 0
    assert asked == [(8.0, 1), (math.inf, 1)]
    told = page.read_text()
    assert told.startswith("How.\n\n| unit | x |\n|---|---|\n\n| epsilon, 2 seeds | accuracy |")
    assert told.endswith("\n\nMore.\n")
    assert "without privacy" in (tmp_path / f"{PICTURE}.svg").read_text()


@pytest.mark.slow
def test_a_row_is_run_with_privacy_and_without() -> None:
    recipe = replace(RECIPES[8.0], rounds=2, server_lr=1.0)
    private, plain = measured(8.0, 0, recipe), measured(math.inf, 0, recipe)
    wanted = fedray.privacy.noise_multiplier(epsilon=8.0, rate=recipe.rate, rounds=2, delta=1e-5)
    assert private["noise_multiplier"] == pytest.approx(wanted, rel=1e-3)
    assert private["norm"] == pytest.approx(recipe.norm)
    assert (plain["noise_multiplier"], plain["norm"], plain["epsilon"]) == (0.0, None, None)
    assert private["accuracy"] != plain["accuracy"]
