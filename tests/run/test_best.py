"""The best model of a run, where there is none: those that there are, tests/run/test_driver.py looks at."""

from __future__ import annotations

from pathlib import Path

from fedray.run.best import Best
from fedray.rundir.folder import RunFolder
from tests.helpers import class_problem, federation


def test_a_run_that_looks_for_no_best_model_tells_and_writes_none(tmp_path: Path) -> None:
    run = federation(class_problem(), tmp_path / "state", rounds=1)
    best = Best(run.plan, RunFolder(tmp_path), run.state)
    best.write()
    assert best.told() == {}
    assert not (tmp_path / "best.safetensors").exists()
