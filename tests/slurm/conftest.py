"""One Slurm cluster for all tests of this folder, and what they train on it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.slurm.lab import ROOT, Lab, hashes, lacking

# A model whose steps take their time in jobs, as long as there is a brake: a job is caught in the middle, while the
# same rounds take no time on this machine, or once the job has gone on.
PACED_MODEL = """\
import os, pathlib, time
from torch import nn

BRAKE = pathlib.Path(__file__).with_name("brake")

class Model(nn.Linear):
    def __init__(self):
        super().__init__(6, 3)

    def forward(self, x):
        if "SLURM_JOB_ID" in os.environ and self.slow():
            time.sleep(0.15)
        return super().forward(x)

    def slow(self):
        return BRAKE.exists()

class AlwaysSlow(Model):
    def slow(self):
        return True

def right(output, target):
    return (output.argmax(dim=1) == target).float()
"""
PACED = """\
seed: 5
data: {name: synthetic, clients: 9, examples: 12, features: 6, classes: 3, heterogeneity: 0.5, test: 30}
model: {name: "paced_model:Model"}
local: {steps: 1, batch_size: 5, stack: 3, optimizer: {name: sgd, lr: 0.1, momentum: 0.5}}
rounds: 100
evaluate: {every: 0}
checkpoint: {every: 5}
tracking: []
cluster: {name: slurm, nodes: 3, cpus_per_task: 1, mem: 1500M, grace: 10}
"""
Quiet = Callable[[Path, int], dict[int, str]]
Submit = Callable[..., int]


@pytest.fixture(scope="session")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """The cluster; its folder, the working directory of every job, holds ``paced.yaml``."""
    if (reason := lacking()) is not None:
        pytest.skip(reason)
    folder = tmp_path_factory.mktemp("slurm")
    (folder / "paced_model.py").write_text(PACED_MODEL)
    (folder / "paced.yaml").write_text(PACED)
    (folder / "brake").touch()
    with Lab(folder) as lab:
        yield lab


@pytest.fixture
def brake(lab: Lab) -> Iterator[Path]:
    """The file that slows jobs down; back in its place when the test is over."""
    yield lab.folder / "brake"
    (lab.folder / "brake").touch()


@pytest.fixture
def submit(lab: Lab) -> Submit:
    """Call ``fedray slurm`` with arguments; the job's id."""

    def call(*arguments: object) -> int:
        done = lab.fedray("slurm", *arguments)
        assert done.returncode == 0, done.stderr
        found = re.match(r"submitted job (\d+) ", done.stdout)
        assert found is not None, done.stdout
        return int(found[1])

    return call


@pytest.fixture(scope="session")
def quiet(lab: Lab) -> Quiet:
    """The hashes of a config's first rounds, trained in one process outside of the cluster; once for all lengths."""

    def train(config: Path, rounds: int) -> dict[int, str]:
        run_dir = lab.folder / f"quiet-{config.stem}"
        if not run_dir.exists():
            command = [sys.executable, "-m", "fedray", "run", str(config), "rounds=500", f"run.dir={run_dir}"]
            env = {**os.environ, "PYTHONPATH": str(ROOT)}
            done = subprocess.run(
                [*command, "cluster.name=inline", "-q"], env=env, cwd=lab.folder, capture_output=True, text=True
            )
            assert done.returncode == 0, done.stderr
        return {round: found for round, found in hashes(run_dir).items() if round <= rounds}

    return train
