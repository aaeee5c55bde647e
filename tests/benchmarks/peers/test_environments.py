"""A peer that cannot be had is a reason in one line; one that is there is not installed again."""

from __future__ import annotations

import doctest
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.peers import environments
from benchmarks.peers.environments import PEERS, NotInstalled, Peer, installed
from benchmarks.processes import CommandFailed

PEER = Peer("some", ("some==1.0",), ("3.99", "3.98"), {"Some": "some"})


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The commands that would have been run, with an interpreter that is there."""
    commands: list[list[str]] = []

    def execute(command: list[str], timeout: float = 0.0) -> str:
        commands.append(command)
        if "venv" in command:
            Path(command[-1]).mkdir(parents=True)
        return ""

    monkeypatch.setattr(environments, "execute", execute)
    monkeypatch.setattr(environments, "_interpreter", {"3.98": "/python3.98"}.get)
    return commands


def test_its_examples_are_true() -> None:
    assert doctest.testmod(environments).failed == 0


def test_no_interpreter_that_it_supports(tmp_path: Path) -> None:
    with pytest.raises(NotInstalled, match=r"^it supports Python 3\.99 or 3\.98, of which none is here$"):
        installed(PEER, tmp_path)
    assert not list(tmp_path.iterdir())


def test_this_interpreter_can_make_environments() -> None:
    assert environments._interpreter(f"{sys.version_info[0]}.{sys.version_info[1]}") or not sys.executable


def test_it_is_installed_once_and_anew_for_other_requirements(asked: list[list[str]], tmp_path: Path) -> None:
    python = installed(PEER, tmp_path)
    assert python == tmp_path / "some" / "bin" / "python"
    assert asked[0] == ["/python3.98", "-m", "venv", str(tmp_path / "some")]
    assert (asked[1][0], asked[1][-1]) == (str(python), "some==1.0")
    assert installed(PEER, tmp_path) == python
    assert len(asked) == 2
    installed(replace(PEER, requirements=("some==2.0",)), tmp_path)
    assert asked[3][-1] == "some==2.0"


def test_what_pip_says_last_is_the_reason(
    asked: list[list[str]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def fails(command: list[str], timeout: float = 0.0) -> str:
        raise CommandFailed(
            "python -m pip: exit status 1\nERROR: a line\nERROR: No matching distribution for some==1.0"
        )

    monkeypatch.setattr(environments, "execute", fails)
    for _ in range(2):  # a failure is not kept as a success
        with pytest.raises(NotInstalled, match=r"^ERROR: No matching distribution for some==1\.0$"):
            installed(PEER, tmp_path)


def test_every_peer_has_adapters_that_are_there() -> None:
    folder = Path(environments.__file__).parent
    adapters = [adapter for peer in PEERS for adapter in peer.adapters.values()]
    assert len(adapters) == len(set(adapters)) >= 3
    for module, function in (adapter.split(".") for adapter in adapters):
        assert f"\ndef {function}(task: Task)" in (folder / f"{module}.py").read_text()
