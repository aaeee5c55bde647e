"""Ways to start a run: what each needs of the system, and what inline does without."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from fedray.config.sections import ClusterSection
from fedray.core.errors import ConfigError
from fedray.experiment.build import Config
from fedray.experiment.launchers import LAUNCHERS
from fedray.experiment.place import Place
from fedray.rundir.folder import RunFolder

ROOT = Path(__file__).resolve().parents[2]

# What only Linux has, and what Windows lacks besides; torch, numpy and psutil, which know their systems, come first.
ELSEWHERE = """
import sys, os, json
from pathlib import Path
import torch, numpy, psutil, rich.console, safetensors.torch, omegaconf, pyarrow, tensorboard.compat.proto.summary_pb2
platform, folder = sys.argv[1:]
lacks = {"darwin": [], "win32": ["fcntl", "resource", "pwd", "grp", "termios"]}[platform]
for module in [*lacks, "ray"]:
    sys.modules[module] = None
for name in [*(n for n in dir(os) if n.startswith(("sched_", "memfd_", "MFD_", "posix_fallocate"))), "fork"]:
    delattr(os, name)
if platform == "darwin":
    del psutil.Process.cpu_affinity
sys.platform = platform
real = Path.read_text, Path.read_bytes

def no_proc(self):
    if self.as_posix().startswith("/proc"):
        raise FileNotFoundError(self)

Path.read_bytes = lambda self: no_proc(self) or real[1](self)
Path.read_text = lambda self, *args, **options: no_proc(self) or real[0](self, *args, **options)
from fedray.experiment.build import Config
from fedray.rundir.folder import RunFolder
overrides = ["rounds=2", "cluster.name=inline"]
config = Config.load(Path("configs/digits.yaml"), overrides)
records = list(config.experiment(RunFolder(Path(folder))).records())
assert not [name for name in sys.modules if name.startswith(("fedray.cluster.work", "fedray.cluster.place"))]
print(json.dumps([record.model_sha256 for record in records]))
"""


@pytest.mark.parametrize(("platform", "system"), [("darwin", "macOS"), ("win32", "Windows"), ("plan9", "plan9")])
@pytest.mark.parametrize("name", ["ray", "slurm"])
def test_workers_on_ray_need_linux(name: str, platform: str, system: str, monkeypatch: pytest.MonkeyPatch) -> None:
    place = Place(ClusterSection(name))  # type: ignore[arg-type]
    monkeypatch.setattr(sys, "platform", platform)
    with pytest.raises(ConfigError, match=f"^cluster.name: .* need Linux, and this is {system}; .*name=inline$"):
        place.check()
    Place(ClusterSection("inline")).check()


@pytest.mark.slow
@pytest.mark.parametrize("platform", ["darwin", "win32"])
def test_inline_needs_nothing_that_only_linux_has(platform: str, tmp_path: Path) -> None:
    command = [sys.executable, "-c", ELSEWHERE, platform, str(tmp_path / "there")]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    config = Config.load(ROOT / "configs" / "digits.yaml", ["rounds=2", "cluster.name=inline"])
    here = list(config.experiment(RunFolder(tmp_path / "here")).records())
    assert json.loads(ran.stdout) == [record.model_sha256 for record in here]


def test_every_kind_of_cluster_has_a_way_to_start() -> None:
    for name, launcher in LAUNCHERS.items():
        assert Place(ClusterSection(name)).launcher is launcher  # type: ignore[arg-type]
        assert launcher.in_process == (name == "inline")
