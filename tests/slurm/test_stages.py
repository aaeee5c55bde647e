"""The job that waits for a stage: its script, and what is kept of it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from fedray.config.sections import SlurmSection
from fedray.core.errors import ConfigError
from fedray.slurm.stages import FILE, Waiting, render_next


def test_it_is_small_and_runs_where_the_runs_do() -> None:
    section = SlurmSection(
        nodes=4,
        gpus_per_node=2,
        mem="64G",
        time="12:00:00",
        partition="gpu",
        account="mine",
        sbatch={"array": "%3", "exclusive": True, "reservation": "night", "constraint": "ib"},
        prologue=["module load python"],
    )
    lines = render_next(section, "fedray-x", "/env/bin/python", Path("/shared/a b%"), [11, "12_3"]).splitlines()
    assert lines[1:] == [
        "#SBATCH --job-name=fedray-x-next",
        "#SBATCH --nodes=1",
        "#SBATCH --ntasks=1",
        "#SBATCH --cpus-per-task=1",
        "#SBATCH --mem=2G",
        "#SBATCH --time=00:30:00",
        "#SBATCH --partition=gpu",
        "#SBATCH --account=mine",
        "#SBATCH --reservation=night",
        "#SBATCH --constraint=ib",
        "#SBATCH --dependency=afterany:11:12_3",
        "#SBATCH --requeue",
        "#SBATCH --open-mode=append",
        '#SBATCH --output="/shared/a b%%/slurm-next-%j.log"',
        "# When the runs of a stage have ended: compares them, and submits those that go on.",
        "module load python",
        "exec /env/bin/python -m fedray sweep '/shared/a b%' --slurm",
    ]


def test_what_it_waits_for_is_kept(tmp_path: Path) -> None:
    assert Waiting.read(tmp_path) is None
    waiting = Waiting(12, ("seed=1", "seed=2"), 5, {"nodes": 2, "sbatch": {"array": "%1"}})
    waiting.write(tmp_path)
    assert Waiting.read(tmp_path) == waiting
    assert [waiting.drives(env) for env in ({}, {"SLURM_JOB_ID": "12"}, {"SLURM_JOB_ID": "13"})] == [False, True, False]


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    (tmp_path / FILE).write_text(json.dumps({"job": 1}))
    with pytest.raises(ConfigError, match=r"stages\.json: cannot be read"):
        Waiting.read(tmp_path)
