"""Small runs to look into, and what they must look like afterwards."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import pytest

from fedray.config.layers import load_layers
from fedray.core.errors import RunFailed
from fedray.experiment.build import Config
from fedray.rundir.folder import RunFolder

SMALL = """\
seed: 3
data: {name: synthetic, clients: 8, examples: 12, features: 6, classes: 3, heterogeneity: 0.5, test: 30}
model: {name: mlp, hidden: [5]}
local: {batch_size: 5, optimizer: {name: sgd, lr: 0.1, momentum: 0.5}}
sampler: {name: uniform, clients: 5}
rounds: 6
checkpoint: {every: 2}
cluster: {name: inline}
tracking: []
"""

Train = Callable[..., Path]


@pytest.fixture
def train(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Train:
    """Train the small config with changes in a run folder, which is returned; ``resume`` goes on with it."""
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "small.yaml"
    path.write_text(SMALL)

    def run(*changes: str, folder: str = "run", resume: bool = False) -> Path:
        run_dir = tmp_path / folder
        source = run_dir / "config.yaml" if resume else path
        config = Config.bind("small", *load_layers(source, changes))
        try:
            for _ in config.experiment(RunFolder(run_dir), resume=resume).records():
                pass
        except RunFailed:
            pass  # what it has left is what is looked at
        return run_dir

    return run


def print_of(run_dir: Path) -> dict[str, tuple[str, int]]:
    """Every file of a folder with its content and the time of its last change."""
    files = [path for path in sorted(run_dir.rglob("*")) if path.is_file()]
    return {str(path): (hashlib.sha256(path.read_bytes()).hexdigest(), path.stat().st_mtime_ns) for path in files}
