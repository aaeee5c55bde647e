"""Names of cells: what varies, and a run that is there goes on under the name that it has."""

from __future__ import annotations

import json
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from fedray.rundir.names import SWEEP
from fedray.sweep import Cell, Search, Sweep, grid
from fedray.sweep.grid import axes_of, digested
from fedray.sweep.names import Names, named, names_of

FIXED = ["rounds=2", "cluster.name=inline"]


def begun(folder: Path, *axes: str, search: Search | None = None) -> list[str]:
    """The names of the cells of a sweep that has begun in a folder, each with a run folder."""
    sweep = Sweep.of(Path("small.yaml"), axes, folder, search)
    sweep.begin()
    for cell in sweep.cells:
        sweep.run_folder(cell).path.mkdir(exist_ok=True)
    again = Sweep.at(folder)
    assert again is not None
    assert again.cells == Sweep.of(Path("small.yaml"), axes, folder, search).cells == sweep.cells
    return [cell.name for cell in sweep.cells]


def test_names_have_what_varies(tmp_path: Path) -> None:
    assert begun(tmp_path / "a", "seed=1,2", *FIXED) == ["seed=1", "seed=2"]
    assert begun(tmp_path / "b", "seed=1", "local.epochs=1,2", *FIXED) == ["local.epochs=1", "local.epochs=2"]
    assert begun(tmp_path / "c", "seed=1", "rounds=2") == ["seed=1,rounds=2"], "of a single run, all that is said"
    drawn = ["seed=1", "local.optimizer.lr={log_uniform: [1e-3, 1]}", "rounds=2"]
    for name in begun(tmp_path / "d", *drawn, search=Search(trials=1)):
        assert name.startswith("local.optimizer.lr=0.")
        assert "," not in name, "a range varies, also where it is drawn from once"


def test_a_folder_of_an_earlier_version_goes_on_by_its_names(tmp_path: Path) -> None:
    axes, rest = ["seed=1,2", *FIXED], "rounds=2,cluster.name=inline"
    (tmp_path / SWEEP).write_text(json.dumps({"config": "small.yaml", "axes": axes}))
    earlier = [f"seed={seed},{rest}" for seed in (1, 2)]
    assert begun(tmp_path, *axes) == earlier, "also those that have no folder yet, as a job may wait for them"
    assert begun(tmp_path, "seed=1,2,3", *FIXED) == [*earlier, "seed=3"]
    # Of a sweep with other values before it nothing is written down but the names of its folders.
    (tmp_path / "seed=1,rounds=9").mkdir()
    assert begun(tmp_path, "seed=1,4", "rounds=9") == ["seed=1,rounds=9", "seed=4"]


def test_settings_of_algorithms_go_on_by_the_digests_that_earlier_versions_called_them_by(tmp_path: Path) -> None:
    axes = ["algorithm={name: fedadam, server_lr: 0.03},fedavg", "seed=1"]
    assert begun(tmp_path / "new", *axes) == ["algorithm=fedadam,server_lr=0.03", "algorithm=fedavg"]
    digest = "algorithm=-name-fedadam,-server_lr-0.03--801d906b"
    names = {digest: {"algorithm": "{name: fedadam, server_lr: 0.03}", "seed": "1"}}
    old = tmp_path / "old"
    old.mkdir()
    (old / SWEEP).write_text(json.dumps({"config": "small.yaml", "axes": axes, "names": names}))
    assert begun(old, *axes) == [digest, "algorithm=fedavg"]
    # The first versions had all settings in each name, and wrote none down.
    oldest = tmp_path / "oldest"
    whole = [digested(cell.settings) for cell in grid(axes)]
    (oldest / whole[0]).mkdir(parents=True)
    assert begun(oldest, *axes) == [whole[0], "algorithm=fedavg"]
    (oldest / SWEEP).write_text(json.dumps({"config": "small.yaml", "axes": axes}))
    assert begun(oldest, *axes) == whole


def test_a_run_goes_on_where_its_sweep_grows(tmp_path: Path) -> None:
    assert begun(tmp_path, "seed=1,2", "local.epochs=1") == ["seed=1", "seed=2"]
    both = ["seed=1", "seed=1,local.epochs=2", "seed=2", "seed=2,local.epochs=2"]
    assert begun(tmp_path, "seed=1,2", "local.epochs=1,2") == both
    assert begun(tmp_path, "local.epochs=1", "seed=1,2") == ["seed=1", "seed=2"], "in whatever order it is said"


def test_another_constant_is_another_run_unless_it_is_where_it_runs(tmp_path: Path) -> None:
    assert begun(tmp_path, "seed=1,2", "rounds=2") == ["seed=1", "seed=2"]
    assert begun(tmp_path, "seed=1,2", "rounds=3") == ["seed=1,rounds=3", "seed=2,rounds=3"]
    assert begun(tmp_path, "seed=1,2", "rounds=2", "cluster.name=inline") == ["seed=1", "seed=2"]
    (other, _) = begun(tmp_path, "seed=1,2")
    assert other.startswith("seed=1-"), "the rounds of the config, which may be others"


KEYS = st.sampled_from(["seed", "rounds", "local.epochs", "model.hidden", "worker.cpus"])
SWEEPS = st.lists(
    st.dictionaries(KEYS, st.lists(st.sampled_from(["1", "2", "[1, 2]"]), min_size=1, unique=True), min_size=1),
    min_size=1,
    max_size=4,
)


@given(SWEEPS)
def test_whatever_is_swept_in_a_folder_a_name_stands_for_one_run(sweeps: list[dict[str, list[str]]]) -> None:
    before: Names = {}
    owners: dict[str, dict[str, str]] = {}
    for axes in sweeps:
        said = [f"{key}={','.join(values)}" for key, values in axes.items()]
        cells = named(grid(said), axes_of(said), before, Path("/nowhere"), ["worker"])
        assert len({cell.name for cell in cells}) == len(cells)
        for cell in cells:
            assert owners.setdefault(cell.name, _computed(cell)) == _computed(cell)
        before = {**before, **names_of(cells)}
        assert named(grid(said), axes_of(said), before, Path("/nowhere"), ["worker"]) == cells


def _computed(cell: Cell) -> dict[str, str]:
    return {key: value for key, value in cell.settings if not key.startswith("worker.")}
