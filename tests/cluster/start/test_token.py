"""A cluster that asks for a token: one line that says what to do, from whoever meets it."""

from __future__ import annotations

import os
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from fedray.cluster.start.token import token_file, token_wanted

ROOT = Path(__file__).resolve().parents[3]


def test_where_the_token_is_looked_for(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert token_file() == tmp_path / ".ray" / "auth_token"
    assert token_wanted() is None
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    assert (token_wanted() or "").startswith(f"RAY_AUTH_MODE=token: there is no token in {token_file()}; ")
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(tmp_path / "other"))
    assert str(tmp_path / "other") in (token_wanted() or "")
    (tmp_path / "other").touch()
    assert token_wanted() is None
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(tmp_path / "gone"))
    monkeypatch.setenv("RAY_AUTH_TOKEN", "abc")
    assert token_wanted() is None


@dataclass(frozen=True)
class Closed:
    """A cluster that asks for a token."""

    address: str
    dashboard: str
    token: Path


def _free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def _answers(port: int) -> bool:
    with socket.socket() as one:
        return one.connect_ex(("127.0.0.1", port)) == 0


@pytest.fixture(scope="module")
def closed() -> Iterator[Closed]:
    folder = Path(tempfile.mkdtemp(prefix="fr-"))
    (folder / "token").write_text(secrets.token_hex(32))
    (folder / "token").chmod(0o600)
    ports = _free_port(), _free_port()
    command = [str(Path(sys.executable).parent / "ray"), "start", "--head", "--block", "--num-cpus=1"]
    command += [f"--port={ports[0]}", "--include-dashboard=true", "--dashboard-host=127.0.0.1"]
    command += [f"--dashboard-port={ports[1]}", f"--temp-dir={folder}/ray", "--node-ip-address=127.0.0.1"]
    shown = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(folder / "token")}
    quick = {"RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S": "0", "RAY_DEDUP_LOGS": "0"}
    head = subprocess.Popen(command, env=os.environ | shown | quick, stdout=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 120
        while not all(_answers(port) for port in ports):
            assert head.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.1)
        yield Closed(f"127.0.0.1:{ports[0]}", f"http://127.0.0.1:{ports[1]}", folder / "token")
    finally:
        head.terminate()
        head.wait(60)
        shutil.rmtree(folder, ignore_errors=True)


def fedray(closed: Closed, home: Path, *arguments: str, **shown: str) -> subprocess.CompletedProcess[str]:
    known = {name: value for name, value in os.environ.items() if not name.startswith("RAY_AUTH")}
    return subprocess.run(
        [sys.executable, "-m", "fedray", *arguments],
        cwd=ROOT,
        env={**known, "HOME": str(home), "RAY_ADDRESS": closed.address, **shown},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.slow
@pytest.mark.parametrize("shown", [{}, {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "0" * 64}], ids=["none", "wrong"])
@pytest.mark.parametrize("what", ["run", "doctor", "submit"])
def test_one_line_says_what_to_do(what: str, shown: dict[str, str], closed: Closed, tmp_path: Path) -> None:
    digits = str(ROOT / "configs" / "digits.yaml")
    arguments = {
        "run": ("run", digits, f"run.dir={tmp_path / 'run'}", "rounds=1"),
        "doctor": ("doctor", "--cluster"),
        "submit": ("submit", "configs/digits.yaml", "--address", closed.dashboard),
    }
    ended = fedray(closed, tmp_path, *arguments[what], **shown)
    assert ended.returncode == 2, ended.stderr
    (line,) = (line for line in ended.stderr.splitlines() if line.strip())
    assert "asks for a token" in line
    assert "export RAY_AUTH_MODE=token" in line
    assert not (tmp_path / "run" / "config.yaml").exists()


@pytest.mark.slow
def test_whoever_shows_it_is_let_in(closed: Closed, tmp_path: Path) -> None:
    shown = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(closed.token)}
    assert fedray(closed, tmp_path, "doctor", "--cluster", **shown).returncode in (0, 1)
