"""One driver to a run folder, with real processes: refused, released, taken over, and one winner of a race."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from fedray.core.errors import ConfigError
from fedray.rundir import durable, lock
from fedray.rundir.lock import Owner, driving, owner_of, starting_a_driver
from fedray.rundir.names import LOCK

ROOT = Path(__file__).resolve().parents[2]

HOLD = """
import sys
from pathlib import Path
from fedray.rundir.lock import driving
with driving(Path(sys.argv[1])):
    print("mine", flush=True)
    sys.stdin.read()
"""

# Children are forked, so that one import of the package serves all; each waits until all are there.
RACE = """
import json, os, sys
from pathlib import Path
from fedray.core.errors import ConfigError
from fedray.rundir.lock import driving

folder, dead, children, times = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4])

def contend(ready, go, told, done):
    os.write(ready, b".")
    os.read(go, 1)
    try:
        with driving(folder):
            os.write(told, b"w")
            os.read(done, 1)
    except ConfigError:
        os.write(told, b"r")
    except BaseException as error:
        os.write(2, repr(error).encode())
        os.write(told, b"x")
    os._exit(0)

rounds = []
for _ in range(times):
    (folder / "driver.lock").write_text(dead)
    pipes = [os.pipe() for _ in range(4)]
    (ready, said_ready), (go, say_go), (heard, told), (done, say_done) = pipes
    pids = []
    for _ in range(children):
        pid = os.fork()
        if pid == 0:
            contend(said_ready, go, told, done)
        pids.append(pid)
    for _ in pids:
        os.read(ready, 1)
    os.write(say_go, b"." * children)
    # The winner keeps the lock until everyone has had an answer.
    answers = "".join(os.read(heard, 1).decode() for _ in pids)
    os.write(say_done, b"." * children)
    for pid in pids:
        os.waitpid(pid, 0)
    for pair in pipes:
        for end in pair:
            os.close(end)
    rounds.append([answers, sorted(path.name for path in folder.iterdir())])
print(json.dumps(rounds))
"""


# A container named as its twin on another machine: that has been booted at another time, and the image is the same.
CONTAINER = """
hostname twin
mount --bind "$1" /proc/sys/kernel/random/boot_id
[ ! -e /etc/machine-id ] || mount --bind "$2" /etc/machine-id
shift 2
exec "$@"
"""


@contextmanager
def holder(folder: Path, *container: str) -> Iterator[subprocess.Popen[str]]:
    """Another process that drives the run in ``folder``."""
    command = [*container, sys.executable, "-c", HOLD, str(folder)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "mine\n"
        yield process
    finally:
        process.kill()
        process.wait()  # a container's process is killed with its parent: first, or the end of its input would end it
        process.communicate()


@pytest.fixture(scope="module")
def dead() -> Owner:
    """A process of this machine that has ended."""
    process = subprocess.Popen(["sleep", "1000"])
    owner = replace(Owner.me(), pid=process.pid, born=int(Path(f"/proc/{process.pid}/stat").read_text().split()[21]))
    process.kill()
    # A zombie is dead too.
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    assert owner.alive() is False
    process.wait()
    return owner


def leave(folder: Path, owner: Owner) -> None:
    (folder / LOCK).write_text(json.dumps(asdict(owner)))


def test_nobody_then_me_then_nobody(tmp_path: Path) -> None:
    assert owner_of(tmp_path) is None
    with driving(tmp_path):
        owner = owner_of(tmp_path)
        assert owner is not None
        assert owner.pid == os.getpid()
        assert owner.alive() is True
        assert [path.name for path in tmp_path.iterdir()] == [LOCK]
    assert list(tmp_path.iterdir()) == []


def test_an_error_inside_releases_it(tmp_path: Path) -> None:
    with pytest.raises(KeyError), driving(tmp_path):
        raise KeyError
    assert list(tmp_path.iterdir()) == []


def test_the_second_is_refused_until_the_first_is_dead(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with holder(tmp_path) as process:
        with pytest.raises(ConfigError) as refused, driving(tmp_path):
            pass
        text = str(refused.value)
        assert f"process {process.pid} on " in text
        assert "fedray stop " in text
        assert len(text.splitlines()) <= 3
        assert [path.name for path in tmp_path.iterdir()] == [LOCK]
        process.send_signal(signal.SIGKILL)
        process.wait(timeout=60)
        with driving(tmp_path):
            owner = owner_of(tmp_path)
            assert owner is not None
            assert owner.pid == os.getpid()
        assert f"taking the run folder over from a dead driver: process {process.pid}" in caplog.text
    assert list(tmp_path.iterdir()) == []


def test_a_process_id_that_was_given_again_is_not_the_owner(tmp_path: Path) -> None:
    me = Owner.me()
    assert me.born is not None
    leave(tmp_path, replace(me, born=me.born - 1, token="another"))
    with driving(tmp_path):
        pass


@pytest.mark.parametrize(
    "change",
    [
        {"host": "node7"},
        {"host": "node7", "space": "another boot", "machine": "m1"},
        {"space": "another boot", "machine": "m2"},
        {"space": "another boot", "machine": ""},
        {"space": "", "machine": "m1"},
        {"host": "node7", "job": "55"},
    ],
    ids=str,
)
def test_who_cannot_be_seen_from_here_is_left_in_peace(
    change: dict[str, Any], tmp_path: Path, dead: Owner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lock, "_machine", lambda: "m1" if change.get("machine") else "")
    owner = replace(dead, **change)
    assert owner.alive() is None
    leave(tmp_path, owner)
    with pytest.raises(ConfigError, match=f"if it is surely gone, delete {tmp_path / LOCK}"), driving(tmp_path):
        pass
    assert owner_of(tmp_path) == owner


def test_a_boot_leaves_nobody_alive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock, "_machine", lambda: "m1")
    # Its process id is ours again by chance.
    leave(tmp_path, replace(Owner.me(), space="another boot", token="another"))
    with driving(tmp_path):
        pass


def test_another_container_of_the_machine_is_not_dead(dead: Owner, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock, "_machine", lambda: "m1")
    assert replace(dead, machine="m1", space=f"{dead.boot} pid:[1]").alive() is None


def test_a_later_boot_is_no_evidence_in_a_container(dead: Owner, monkeypatch: pytest.MonkeyPatch) -> None:
    lock._machine.cache_clear()
    monkeypatch.setitem(lock._FIRST, "uts", "uts:[another]")
    try:
        assert Owner.me().machine == ""
        assert replace(dead, space="another boot", machine=Owner.me().machine).alive() is None
    finally:
        lock._machine.cache_clear()


@pytest.fixture
def twins(tmp_path: Path) -> list[list[str]]:
    """Commands that run another in a container: two of one name and one image, on machines booted at other times."""
    (tmp_path / "id").write_text("the image's\n")
    commands = []
    for boot in ("one", "two"):
        (tmp_path / boot).write_text(f"boot-{boot}\n")
        unshare = ["unshare", "--pid", "--uts", "--mount", "--fork", "--kill-child", "--mount-proc", "sh", "-ec"]
        commands.append([*unshare, CONTAINER, "sh", str(tmp_path / boot), str(tmp_path / "id")])
    try:
        tried = subprocess.run([*commands[0], "true"], capture_output=True, text=True)
    except FileNotFoundError:
        pytest.skip("needs unshare (util-linux)")
    if tried.returncode != 0:
        pytest.skip(f"needs root and Linux namespaces: {tried.stderr.strip()}")
    return commands


def test_containers_of_one_name_do_not_take_each_other_for_dead(tmp_path: Path, twins: list[list[str]]) -> None:
    """Nor does the first one, started again, itself: its processes have a new list.  All are told what to do."""
    (run := tmp_path / "run").mkdir()

    def refused(container: list[str]) -> str:
        command = [*container, sys.executable, "-c", HOLD, str(run)]
        second = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, cwd=ROOT)
        assert second.stdout == ""
        assert f"if it is surely gone, delete {run / LOCK}" in second.stderr
        return second.stderr

    with holder(run, *twins[0]):
        assert "it is in another container or machine of the name twin, so" in refused(twins[1])
    assert owner_of(run) is not None, "killed"
    assert "it is in another container of this machine, so" in refused(twins[0])


@pytest.mark.parametrize(
    ("job", "restart", "alive"), [("55", 2, False), ("55", 1, None), ("55", 0, None), ("56", 2, None), (None, 2, None)]
)
def test_an_earlier_start_of_the_same_slurm_job_is_dead(
    job: str | None, restart: int, alive: bool | None, tmp_path: Path, dead: Owner, monkeypatch: pytest.MonkeyPatch
) -> None:
    owner = replace(dead, host="node7", job="55", restart=1)
    monkeypatch.setenv("SLURM_RESTART_COUNT", str(restart))
    if job is None:
        monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    else:
        monkeypatch.setenv("SLURM_JOB_ID", job)
    assert owner.alive() is alive
    leave(tmp_path, owner)
    if alive is False:
        with driving(tmp_path):
            pass
    else:
        with pytest.raises(ConfigError, match="Slurm job 55"), driving(tmp_path):
            pass


def test_who_died_while_taking_over_is_taken_over_too(tmp_path: Path, dead: Owner) -> None:
    leave(tmp_path, dead)
    (tmp_path / f"{LOCK}.taking").write_text(json.dumps(asdict(replace(dead, token="taker"))))
    with driving(tmp_path):
        owner = owner_of(tmp_path)
        assert owner is not None
        assert owner.pid == os.getpid()
    assert list(tmp_path.iterdir()) == []


def test_only_its_own_lock_is_released(tmp_path: Path) -> None:
    other = replace(Owner.me(), token="another")
    with driving(tmp_path):
        leave(tmp_path, other)
    assert owner_of(tmp_path) == other


def test_a_damaged_lock_is_said(tmp_path: Path) -> None:
    (tmp_path / LOCK).write_text("{")
    with pytest.raises(ConfigError, match="is damaged"), driving(tmp_path):
        pass


def test_who_starts_a_driver_leaves_the_folder_to_it_and_to_nobody_else(tmp_path: Path) -> None:
    with starting_a_driver(tmp_path) as (token, dead):
        assert dead is None
        assert (mine := owner_of(tmp_path)) is not None
        assert mine.alive()
        for heir_of in (None, "another"):
            with pytest.raises(ConfigError, match="in use by another driver"), driving(tmp_path, heir_of=heir_of):
                pass
        with driving(tmp_path, heir_of=token):
            assert (heir := owner_of(tmp_path)) is not None
            assert heir.token != token
            with pytest.raises(ConfigError, match="in use by another driver"), driving(tmp_path, heir_of=token):
                pass
        assert owner_of(tmp_path) is None
        with driving(tmp_path):
            assert owner_of(tmp_path) is not None
    assert owner_of(tmp_path) is None


def test_who_starts_a_driver_says_from_whom_it_takes_the_folder(tmp_path: Path) -> None:
    gone = replace(Owner.me(), born=1, token="gone")
    (tmp_path / LOCK).write_text(json.dumps(asdict(gone)))
    with starting_a_driver(tmp_path) as (token, dead):
        assert dead == gone
        assert token != "gone"


def test_of_many_who_take_over_one_wins(tmp_path: Path, dead: Owner) -> None:
    ended = subprocess.run(
        [sys.executable, "-c", RACE, str(tmp_path), json.dumps(asdict(dead)), "6", "40"],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
    )
    assert ended.returncode == 0, ended.stderr
    rounds = json.loads(ended.stdout)
    assert len(rounds) == 40
    for answers, left in rounds:
        assert sorted(answers) == [*"rrrrrw"], ended.stderr
        assert left == []


def test_a_full_disk_is_one_clear_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(durable, "write", full)
    for take in (driving, starting_a_driver):
        with pytest.raises(ConfigError, match="cannot be written: No space left on device"), take(tmp_path):
            pass
    assert list(tmp_path.iterdir()) == []
