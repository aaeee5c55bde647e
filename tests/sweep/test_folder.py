"""A sweep on disk: what it is can be read back, what its runs have done is not done again, and not mistaken."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from fedray.core.errors import ConfigError
from fedray.rundir.names import SUMMARY, SWEEP
from fedray.sweep.folder import Sweep
from fedray.sweep.table import in_words
from tests.cli.command import SMALL


@pytest.fixture
def sweep(tmp_path: Path) -> Sweep:
    """Two cells of a small config, begun."""
    (tmp_path / "small.yaml").write_text(SMALL)
    one = Sweep.of(tmp_path / "small.yaml", ["local.epochs=1,2"], tmp_path / "sweep")
    one.begin()
    return one


def ended(sweep: Sweep, number: int, status: str, accuracy: float = 0.5) -> None:
    """A cell's run has ended so."""
    final = {"train": {"loss": 1.0}, "test": {"accuracy": accuracy}}
    folder = sweep.run_folder(sweep.cells[number])
    folder.path.mkdir(parents=True, exist_ok=True)
    (folder.path / SUMMARY).write_text(json.dumps({"status": status, "final": final}))


def test_it_is_read_back_as_it_was_begun(sweep: Sweep, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(sweep.folder)  # from wherever
    assert Sweep.at(sweep.folder) == sweep
    assert Sweep.at(sweep.folder.parent) is None
    (sweep.folder / SWEEP).write_text('{"axes": []}')
    with pytest.raises(ConfigError, match=r"sweep\.json: cannot be read: KeyError"):
        Sweep.at(sweep.folder)


def test_a_cell_is_new_begun_or_what_its_summary_says(sweep: Sweep) -> None:
    first, _ = sweep.cells
    assert (sweep.status(first), sweep.done(first)) == ("new", False)
    sweep.claim(first)
    assert sweep.status(first) == "begun"
    ends = {"stopped": False, "failed": False, "budget": True, "early_stopped": True, "finished": True}
    for status, done in ends.items():
        ended(sweep, 0, status)
        assert (sweep.status(first), sweep.done(first)) == (status, done)


def test_the_config_of_a_cell_has_its_settings_and_its_name(sweep: Sweep) -> None:
    for cell, epochs in zip(sweep.cells, (1, 2), strict=True):
        config = sweep.config_of(cell)
        assert (config.name, config.local.epochs) == (cell.name, epochs)
        sweep.claim(cell)
        assert f"epochs: {epochs}" in sweep.run_folder(cell).config()


def test_on_slurm_the_options_are_laid_over_the_section(sweep: Sweep) -> None:
    there = Sweep(sweep.config, sweep.axes, sweep.cells, sweep.folder, {"nodes": 3})
    assert sweep.place(sweep.cells[0]).name == "inline"
    placed = there.place(there.cells[0])
    assert (placed.name, getattr(placed, "nodes", None)) == ("slurm", 3)


def test_a_run_of_another_config_is_named_by_the_key_that_differs(sweep: Sweep) -> None:
    first, _ = sweep.cells
    sweep.claim(first)
    sweep.check([first])
    text = sweep.config.read_text()
    sweep.config.write_text(text.replace("{name: inline}", "{name: inline, start_timeout: 7}"))
    later = replace(sweep)
    later.check([first])  # where it runs is no part of the result
    sweep.config.write_text(text.replace("lr: 0.1", "lr: 0.2"))
    with pytest.raises(ConfigError, match=r"^local\.optimizer\.lr: .* holds a run with 0\.1, the sweep wants 0\.2;\n"):
        replace(sweep).check([first])


def test_all_runs_of_a_sweep_are_of_one_reading_of_its_config(sweep: Sweep) -> None:
    first, second = sweep.cells
    before = sweep.config_of(first).local.optimizer
    sweep.config.write_text(sweep.config.read_text().replace("lr: 0.1", "lr: 0.2"))
    assert sweep.config_of(second).local.optimizer == before
    sweep.config.unlink()
    sweep.claim(second)


def test_the_table_counts_what_has_ended_and_is_written_again_if_another_ends_meanwhile(
    sweep: Sweep, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended(sweep, 0, "finished", 0.25)
    written: list[int] = []

    def write(folder: Path, rows: object) -> None:
        written.append(1)
        ended(sweep, 1, "finished", 0.75)  # the other run, between our reading and our writing

    monkeypatch.setattr("fedray.sweep.folder.write_table", write)
    rows = sweep.write_table()
    assert len(written) == 2
    assert rows == sweep.rows()


def test_a_folder_that_cannot_be_written_is_named(sweep: Sweep, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="file/sweep: cannot be written: Not a directory"):
        Sweep.of(sweep.config, ["seed=1"], tmp_path / "file" / "sweep").begin()


def test_a_narrower_sweep_leaves_the_runs_of_those_before_in_the_table(sweep: Sweep) -> None:
    for number in (0, 1):
        sweep.claim(sweep.cells[number])
        ended(sweep, number, "finished", 0.25 + number / 2)
    (row,) = (narrow := Sweep.of(sweep.config, ["local.epochs=2"], sweep.folder)).rows()  # as it is not begun yet
    assert row.setting == {"local.epochs": "2"}
    narrow.begin()
    own, before = narrow.rows()
    assert (own, own.earlier) == (row, 0)
    assert (before.setting, before.runs, before.wanted, before.earlier) == ({"local.epochs": "1"}, 1, 1, 1)
    assert [cell.name for cell, _ in narrow.everything()] == ["local.epochs=2", "local.epochs=1"]
    again = Sweep.at(sweep.folder)
    assert again is not None
    assert again.rows() == [own, before]  # whoever reads the folder
    again.write_table()
    assert "| 1/1, earlier |" in (sweep.folder / "table.md").read_text()


def test_more_seeds_of_sweeps_before_count_and_no_run_counts_twice(sweep: Sweep) -> None:
    assert "seed: 3\n" in sweep.config.read_text()
    seeds = Sweep.of(sweep.config, ["seed=3,4", "local.epochs=1"], sweep.folder)
    seeds.begin()
    for number, cell in enumerate(seeds.cells):
        seeds.claim(cell)
        ended(seeds, number, "finished", 0.25 + number / 2)
    one = Sweep.of(sweep.config, ["local.epochs=1"], sweep.folder)  # of seed 3, as the config says
    one.begin()
    one.claim(one.cells[0])
    ended(one, 0, "finished", 0.25)
    (row,) = one.rows()
    assert (row.runs, row.wanted, row.earlier) == (2, 2, 1)
    assert row.metrics["test.accuracy"].values == {"": 0.25, "4": 0.75}


def test_runs_of_another_text_of_the_config_are_left_out_of_the_table(sweep: Sweep) -> None:
    for number in (0, 1):
        sweep.claim(sweep.cells[number])
        ended(sweep, number, "finished")
    sweep.config.write_text(sweep.config.read_text().replace("lr: 0.1", "lr: 0.2"))
    other = Sweep.of(sweep.config, ["local.epochs=3"], sweep.folder)
    other.begin()
    assert [row.setting for row in other.rows()] == [{"local.epochs": "3"}]
    kept, left = other.before()
    assert (kept, [cell.name for cell in left]) == ([], ["local.epochs=1", "local.epochs=2"])


def test_a_key_that_one_sweep_did_not_vary_is_as_in_the_config(sweep: Sweep) -> None:
    sweep.claim(sweep.cells[0])
    ended(sweep, 0, "finished")
    other = Sweep.of(sweep.config, ["rounds=2,3"], sweep.folder)
    other.begin()
    head, lines = in_words(other.rows())
    assert head[:3] == ["rounds", "local.epochs", "runs"]
    assert [line[:3] for line in lines] == [
        ["2", "as config", "0/1, 1 missing"],
        ["3", "as config", "0/1, 1 missing"],
        ["as config", "1", "1/1, earlier"],
    ]
