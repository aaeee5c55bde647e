"""Facts of the machine the tests run on, against what the system says in other ways."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

from fedray.doctor import facts, gather


def test_this_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    token = tmp_path / "token"
    token.touch(0o640)
    token.chmod(0o640)
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(token))
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
    found = gather(str(tmp_path / "missing"))
    assert found.host == os.uname().nodename
    assert found.packages["torch"] == version("torch")
    assert str(found.open_files) == shell("ulimit -n")
    assert str(found.processes).replace("-1", "unlimited") == shell("ulimit -u")
    assert found.token_mode == 0o640
    assert found.temporary.path == str(tmp_path)
    assert found.temporary.error is None
    assert 0 <= found.ports <= len(facts.PORTS)
    assert found.run_dir is not None
    assert found.run_dir.error == "No such file or directory"


def shell(line: str) -> str:
    return subprocess.run(["bash", "-c", line], capture_output=True, text=True, check=True).stdout.strip()


@pytest.mark.skipif(sys.platform != "linux" or not shutil.which("findmnt"), reason="needs findmnt of Linux")
def test_the_file_system_is_the_one_the_system_names(tmp_path: Path) -> None:
    for path in (tmp_path, Path("/proc"), Path("/")):
        assert facts.look_at(str(path)).kind == shell(f"findmnt -n -o FSTYPE --target '{path}'").splitlines()[-1]


def test_a_folder_is_tried_and_left_as_it_was(tmp_path: Path) -> None:
    (tmp_path / facts.MARKER).write_text("here")
    found = facts.look_at(str(tmp_path))
    assert (found.error, found.marker) == (None, "here")
    assert found.free > 0
    assert [path.name for path in tmp_path.iterdir()] == [facts.MARKER]


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert facts.look_at(str(tmp_path / "file")).error == "Not a directory"


def test_a_port_that_is_taken_is_not_free(monkeypatch: pytest.MonkeyPatch) -> None:
    import socket

    with socket.socket() as taken:
        taken.bind(("", 0))
        taken.listen()
        monkeypatch.setattr(facts, "PORTS", range(taken.getsockname()[1], taken.getsockname()[1] + 1))
        assert facts._free_ports() == 0
    assert facts._free_ports() == 1


SINFO = """\
#!/bin/sh
case "$1" in
--version) echo slurm 23.11.4 ;;
*) printf '%s\\n' 'gpu*|up|1-00:00:00|4' 'old|down|infinite|1' ;;
esac
"""


def test_slurm_is_asked_where_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", f"{tmp_path}:/nowhere")
    assert facts._slurm() is None
    program = tmp_path / "sinfo"
    program.write_text(SINFO)
    program.chmod(0o755)
    partitions = ("gpu (the default, 4 nodes, up to 1-00:00:00)", "old (down, 1 node)")
    assert facts._slurm() == facts.Slurm("23.11.4", partitions)
    program.write_text("#!/bin/sh\necho 'sinfo: error: Unable to contact slurm controller' >&2\nexit 1\n")
    found = facts._slurm()
    assert found is not None
    assert found.error == "sinfo: Unable to contact slurm controller"
