"""The comparison from the command line to the files, with measurements that cost nothing."""

from __future__ import annotations

import ast
import doctest
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.cases import CASES, Speed
from benchmarks.peers import run
from benchmarks.peers.environments import PEERS, NotInstalled, Peer
from benchmarks.peers.run import BARE, FEDRAY, ROUNDS, TOLERANCE, Side
from benchmarks.processes import CommandFailed
from benchmarks.workloads import WORKLOADS, Workload

BARE_ENDS = np.array([1.0, 1.0], np.float32)
"""The bare loop's parameters; all sides start at 0."""


def measured(command: list[str]) -> dict[str, Any]:
    """What each side says, and where it ends."""
    name, *options = command[command.index("-m") + 1 :]
    folder = Path(options[-1]).parent
    if name == "benchmarks.bare":
        np.save(options[-1], BARE_ENDS)
        np.save(folder / "start.npy", np.zeros(2, np.float32))
        return {"seconds_per_round": [1.0, 2.0, 3.0]}
    if name == "benchmarks.engine":
        return {"seconds_per_round": [0.5, 0.5]}
    adapter, there = options
    if adapter == "broken":
        raise CommandFailed("python -m benchmarks.peers.side\nTraceback\nImportError: no name")
    np.save(Path(there) / "end.npy", BARE_ENDS + {"right": TOLERANCE / 9, "wrong": 0.1, "lost": np.nan}[adapter])
    return {"seconds_per_round": [4.0, 4.0], "versions": {"python": "3.11.0", adapter: "1.0"}}


@pytest.fixture
def peers(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Peers with every outcome; the folder of the files."""
    titles = ("right", "wrong", "lost", "broken", "absent")
    monkeypatch.setattr(run, "PEERS", [Peer(name, (name,), ("3",), {name.title(): name}) for name in titles])

    def installed(peer: Peer, folder: Path) -> Path:
        if peer.name == "absent":
            raise NotInstalled("it supports Python 3.99, of which none is here")
        return Path("/python")

    monkeypatch.setattr(run, "installed", installed)
    monkeypatch.setattr(run, "measurement", measured)
    monkeypatch.setattr(run, "write", lambda *arguments: None)
    monkeypatch.setattr(run, "busy", lambda: 0.0)
    return tmp_path


def written(folder: Path) -> tuple[str, dict[str, Any]]:
    (path,) = folder.glob("*.md")
    return path.read_text(), json.loads(path.with_suffix(".json").read_text())


def test_its_examples_are_true() -> None:
    assert doctest.testmod(run).failed == 0


def test_only_who_ends_where_the_bare_loop_does_has_a_time(peers: Path) -> None:
    assert run.main(["tiny", "--output", str(peers)]) == 0
    page, report = written(peers)
    assert "| s/round (ratio) | bare loop | fedray | Right | Wrong | Lost | Broken | Absent |" in page
    assert (
        "| tiny | 2.00 (1.00) | 0.500 (0.25) | 4.00 (2.00) | differs | differs | not measured | not measured |" in page
    )
    assert "- **tiny, Wrong**: its parameters end 0.1 of the way from those of the bare loop" in page
    assert "- **tiny, Lost**: its parameters end nan of the way" in page
    assert "- **tiny, Broken**: not measured: ImportError: no name" in page
    assert "- **tiny, Absent**: not measured: it supports Python 3.99, of which none is here" in page
    assert "- Right: python 3.11.0, right 1.0" in page
    assert "**tiny, Right**" not in page
    assert report["found"]["tiny"][BARE]["seconds"] == [1.0, 2.0, 3.0] * 2, "before the others and after them"
    assert report["warning"] is None


def test_a_bare_loop_that_fails_is_an_error(peers: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(command: list[str]) -> dict[str, Any]:
        raise CommandFailed("python -m benchmarks.bare: exit status 1")

    monkeypatch.setattr(run, "measurement", fails)
    assert run.main(["tiny", "--output", str(peers)]) == 1
    assert not list(peers.iterdir())


def test_an_unknown_workload_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        run.main(["wide"])
    assert stopped.value.code == 2
    assert "unknown: wide; known: tiny, cnn, blaze, noop" in capsys.readouterr().err


def test_every_workload_is_one_that_peers_can_be_given() -> None:
    for name in ROUNDS:
        workload: Workload = WORKLOADS[name]
        assert isinstance(CASES[name], Speed)
        assert (workload.algorithm, workload.fewest, workload.tokens) == ("fedavg", None, 0)
        assert workload.epochs <= 1


def test_a_side_without_a_distance_is_not_compared() -> None:
    assert Side([1.0]).why == ""
    assert Side([1.0], distance=TOLERANCE).why == ""
    assert Side([1.0], distance=2 * TOLERANCE).why


def test_what_peers_import_has_nothing_of_fedray() -> None:
    folder = Path(run.__file__).parent
    adapters = {adapter.partition(".")[0] for peer in PEERS for adapter in peer.adapters.values()}
    told = [folder / f"{name}.py" for name in ("side", "task", *adapters)]
    told += [folder.parent / f"{name}.py" for name in ("bare", "workloads", "models")]
    for path in told:
        tree = ast.parse(path.read_text())
        names = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
        names |= {str(node.module) for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
        assert not {name for name in names if name.partition(".")[0] == FEDRAY}, path
        ours = {name for name in names if name.startswith("benchmarks.")}
        assert ours <= {f"benchmarks.{name}" for name in ("bare", "workloads", "models", "peers.task")}, path
