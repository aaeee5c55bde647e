"""What clients' code says is in the run folder, and still where it would have been."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path

import pytest

from fedray.rundir.worker_log import copied, sweep

REDIRECTED = """
import logging, os, sys, warnings
from pathlib import Path
from fedray.rundir.worker_log import redirect
print("before", flush=True)
redirect(Path(sys.argv[1]), "node/3")
print("by print")
logging.getLogger("mine").warning("by logging")
warnings.warn("by warnings")
os.system("echo by a process")
os.kill(os.getpid(), 9)
"""

TRAIN = """
import logging, sys, warnings
from torch import nn
import fedray
from tests.cluster import problem

class Talks(nn.Linear):
    def forward(self, x):
        print("by print")
        logging.getLogger("mine").warning("by logging")
        warnings.warn("by warnings")
        return super().forward(x)

cluster, *folders = sys.argv[1:]
args = fedray.TrainArgs(rounds=2, stack="off", tracking=[])
where = cluster if cluster == "inline" else fedray.Cluster(workers=1)
for build, folder in zip((lambda: Talks(12, 3), lambda: nn.Linear(12, 3)), folders):
    model = fedray.FederatedModel(build, problem.OPTIMIZER)
    fedray.train(model, problem.data(4), args, cluster=where, run_dir=folder, progress=False)
"""
ROOT = Path(__file__).resolve().parents[2]
ALL = ["by print", "by logging", "by warnings", "by a process"]


def words(text: str) -> list[str]:
    return [word for word in ALL if word in text]


def test_a_process_of_its_own_says_it_there_also_if_it_is_killed(tmp_path: Path) -> None:
    ended = subprocess.run(
        [sys.executable, "-c", REDIRECTED, str(tmp_path / "workers")], capture_output=True, text=True, check=False
    )
    assert ended.stdout == "before\n"
    assert words((tmp_path / "workers" / "node-3.log").read_text()) == words(
        "by print by logging by warnings by a process"
    )


def test_where_there_is_no_run_folder_nothing_is_made(tmp_path: Path) -> None:
    folder = tmp_path / "elsewhere" / "workers"
    # What Python itself holds back is lost where a process is killed.
    command = [sys.executable, "-u", "-c", REDIRECTED, str(folder)]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert words(ended.stdout + ended.stderr) == ALL
    assert not folder.parent.exists()


def test_the_copy_is_of_this_thread_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with copied(tmp_path / "workers", "inline/0"):
        assert not (tmp_path / "workers").exists(), "nothing was said yet"
        print("mine")
        other = threading.Thread(target=print, args=("the progress",))
        other.start()
        other.join()
    print("after")
    assert (tmp_path / "workers" / "inline-0.log").read_text() == "mine\n"
    assert capsys.readouterr().out == "mine\nthe progress\nafter\n"


def test_a_disk_that_is_full_is_no_fault_of_who_prints(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "workers").touch()
    with copied(tmp_path / "workers", "inline/0"):
        print("mine")
    assert capsys.readouterr().out == "mine\n"


def test_workers_that_said_nothing_leave_no_file(tmp_path: Path) -> None:
    folder = tmp_path / "workers"
    folder.mkdir()
    (folder / "a-0.log").write_text("something")
    (folder / "a-1.log").touch()
    sweep(folder)
    assert [file.name for file in folder.iterdir()] == ["a-0.log"]
    (folder / "a-0.log").unlink()
    sweep(folder)
    assert not folder.exists()
    sweep(folder)


@pytest.mark.parametrize("cluster", ["inline", pytest.param("ray", marks=pytest.mark.slow)])
@pytest.mark.slow
def test_a_run_keeps_what_its_clients_say(cluster: str, tmp_path: Path) -> None:
    """And no files of a model that is silent."""
    command = [sys.executable, "-c", TRAIN, cluster, str(tmp_path / "talks"), str(tmp_path / "silent")]
    subprocess.run(command, cwd=ROOT, capture_output=True, check=True)
    (file,) = (tmp_path / "talks" / "workers").iterdir()
    assert words(file.read_text()) == ["by print", "by logging", "by warnings"]
    assert not (tmp_path / "silent" / "workers").exists()
