"""Runs that leave nothing behind: the model is that of the run itself."""

from __future__ import annotations

from pathlib import Path

import torch

from fedray.audit.runs import HERE, run
from fedray.config.layers import load_layers
from fedray.core.quiet import quieted
from fedray.experiment.build import Config
from fedray.run.models import model_sha256
from fedray.rundir.folder import RunFolder
from tests.cli.command import SMALL


def test_the_model_is_that_of_the_run(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text(SMALL)
    with quieted("fedray"):
        config = Config.bind("c", *load_layers(tmp_path / "c.yaml", HERE))
        records = [*config.experiment(RunFolder(tmp_path / "run")).records()]
        plan = config.plan().bare()
    seen: list[tuple[int, torch.Tensor]] = []
    (tmp_path / "place").mkdir()
    vector = run(plan, tmp_path / "place", 1, told=lambda round, vector: seen.append((round, vector.clone())))
    assert [round for round, _ in seen] == [0, 1, 2, 3]
    assert torch.equal(seen[-1][1], vector)
    assert [model_sha256(one) for _, one in seen[1:]] == [record.model_sha256 for record in records]
