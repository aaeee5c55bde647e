"""Where a run runs: what this machine lacks is missed only where it is this machine's."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import pytest

from fedray.config.sections import ClusterSection, WorkerSection
from fedray.core.errors import ConfigError
from fedray.experiment.place import Place


@pytest.fixture(autouse=True)
def _no_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RAY_ADDRESS", "RAY_JOB_ID"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.delitem(sys.modules, "ray", raising=False)


def place(name: str) -> Place:
    return Place(ClusterSection(name), worker=WorkerSection(gpus=64.0))  # type: ignore[arg-type]


def connected(monkeypatch: pytest.MonkeyPatch, answer: bool) -> None:
    monkeypatch.setitem(sys.modules, "ray", SimpleNamespace(is_initialized=lambda: answer))


def test_gpus_of_a_ray_that_this_process_is_connected_to_are_not_looked_for_here(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    connected(monkeypatch, True)
    place("ray").check()
    with pytest.raises(ConfigError, match="this machine has"):
        place("inline").check()


def test_gpus_of_a_ray_still_to_be_started_are_looked_for_here(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match="this machine has"):
        place("ray").check()
    connected(monkeypatch, False)
    with pytest.raises(ConfigError, match="this machine has"):
        place("ray").check()


def test_a_cluster_that_is_to_be_joined_may_have_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "head:6379")
    place("ray").check()
