"""The stages of a sweep, with runs that pretend: who goes on does not depend on who ends first."""

from __future__ import annotations

from pathlib import Path

import pytest

from fedray.core.errors import ConfigError
from fedray.sweep import Search, Sweep
from fedray.sweep.stages import last_value, next_stage, value_of
from tests.cli.command import SMALL
from tests.sweep.pretended import Loss, pretend

EPOCHS = "local.epochs=1,2,3,4,5,6"


def begun(folder: Path, search: Search, *axes: str) -> Sweep:
    """A sweep of a small config."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "small.yaml").write_text(SMALL.replace("rounds: 3", "rounds: 9"))
    return Sweep.of(folder / "small.yaml", axes, folder / "sweep", search)


def by_epochs(setting: dict[str, str], round: int) -> float | None:
    """Best with few epochs; with six it fails in the second round."""
    epochs = int(setting["local.epochs"])
    return None if epochs == 6 and round == 2 else (epochs + int(setting.get("seed", 0)) / 10) / round


def walked(sweep: Sweep, loss: Loss, order: list[int]) -> list[tuple[int | None, list[str]]]:
    """Each stage, by the round where it pauses, and what it runs; runs end in an order, with questions in between."""
    found, failed = [], set[str]()
    while stage := next_stage(sweep, failed):
        names = [cell.name for cell in stage.cells]
        found.append((stage.sweep.until, names))
        for number in order:
            if number < len(stage.cells):
                cell = stage.cells[number]
                pretend(stage, cell, loss)
                if stage.sweep.status(cell) == "failed":
                    failed.add(cell.name)
                again = next_stage(sweep, failed)
                if not all(stage.sweep.done(one) or one.name in failed for one in stage.cells):
                    assert again is not None
                    assert again.sweep.until == stage.sweep.until
    return found


@pytest.mark.parametrize("order", [range(12), range(11, -1, -1), [5, 11, 0, 7, 2, 9, 4, 1, 10, 3, 8, 6]], ids=str)
def test_a_third_goes_on_from_each_rung_whoever_ends_first(order: list[int], tmp_path: Path) -> None:
    sweep = begun(tmp_path, Search(by="test.loss", rungs=(1, 3), factor=3), "seed=1,2", EPOCHS)
    found = walked(sweep, by_epochs, order)
    assert [(until, len(names)) for until, names in found] == [(1, 12), (3, 4), (None, 2)]
    assert found[1][1] == [f"seed={s},local.epochs={e}" for e in (1, 2) for s in (1, 2)]
    assert found[2][1] == ["seed=1,local.epochs=1", "seed=2,local.epochs=1"]
    rows = {row.setting["local.epochs"]: row.paused for row in sweep.rows()}
    assert rows == {"1": None, "2": 3, "3": 1, "4": 1, "5": 1, "6": 1}


def test_one_that_failed_does_not_go_on_and_is_tried_again_by_the_next_call(tmp_path: Path) -> None:
    sweep = begun(tmp_path, Search(by="test.loss", rungs=(2,), factor=2), EPOCHS)

    def worst_first(setting: dict[str, str], round: int) -> float | None:
        return by_epochs({"local.epochs": str(7 - int(setting["local.epochs"]))}, round)

    found = walked(sweep, worst_first, list(range(6)))
    assert found[1] == (None, [f"local.epochs={e}" for e in (4, 5, 6)])
    again = next_stage(sweep)
    assert again is not None
    assert [cell.name for cell in again.cells] == ["local.epochs=1"]


def test_without_rungs_there_is_one_stage(tmp_path: Path) -> None:
    found = walked(begun(tmp_path, Search(), EPOCHS), by_epochs, [3, 1, 5, 0, 2, 4])
    assert [(until, len(names)) for until, names in found] == [(None, 6)]


def test_a_metric_that_no_run_has_is_refused(tmp_path: Path) -> None:
    sweep = begun(tmp_path, Search(by="test.f1", rungs=(1,)), "local.epochs=1,2")
    stage = next_stage(sweep)
    assert stage is not None
    for cell in stage.cells:
        pretend(stage, cell, by_epochs)
    with pytest.raises(ConfigError, match=r"--by test\.f1: no record has test\.f1; there is test\.loss"):
        next_stage(sweep)


def test_what_counts_is_known_at_the_rung(tmp_path: Path) -> None:
    sweep = begun(tmp_path, Search(by="test.loss"), "seed=1,2")
    stage = next_stage(sweep)
    assert stage is not None
    for cell in stage.cells:
        pretend(stage, cell, lambda setting, round: int(setting["seed"]) / round)
    metrics = sweep.run_folder(sweep.cells[1]).path / "metrics.jsonl"
    assert [last_value(sweep.search.monitor, metrics, until) for until in (1, 4, None)] == [2.0, 0.5, 2 / 9]
    assert value_of(sweep, sweep.cells) == pytest.approx(1.5 / 9)
