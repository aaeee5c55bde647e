"""Asking where data lies: each place on its node, and each mistake as it was made there."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from ray.exceptions import ActorDiedError

from fedray.cluster.place import sites
from fedray.cluster.place.placement import Node
from fedray.cluster.place.sites import RaySites
from fedray.cluster.start.connect import Cluster
from fedray.core.errors import ConfigError, RunFailed
from fedray.data.sites import SiteData
from tests.cluster.rayless import FakeRay

LEFT, RIGHT = "1a" * 28, "2a" * 28
NODES = [
    Node(LEFT, "left", {"CPU": 2.0, "node:10.0.0.1": 1.0}, {"site": "a", "ray.io/node-id": "1"}),
    Node(RIGHT, "right", {"CPU": 2.0, "scanner": 1.0}, {}),
]


class Connection:
    """Counts how often it was closed."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, **fails: list[Any]) -> None:
        self.closed = 0
        self.ray = FakeRay(dict(fails))
        monkeypatch.setattr(sites, "ray", self.ray)
        monkeypatch.setattr(sites, "alive", lambda: NODES)
        monkeypatch.setattr(Cluster, "connect", lambda cpus: SimpleNamespace(close=self.close))

    def close(self) -> None:
        self.closed += 1


def source(name: str, where: str) -> SiteData[list[str]]:
    return SiteData(name, where, lambda: [name])


def test_two_places_on_a_node_are_one_process_and_two_things(monkeypatch: pytest.MonkeyPatch) -> None:
    connection = Connection(monkeypatch)
    with RaySites().opened([source("a", "site=a"), source("b", "scanner"), source("c", "site=a")]) as them:
        assert them.ask([lambda held: [*held, "asked"]] * 3) == [["a", "asked"], ["b", "asked"], ["c", "asked"]]
        places = [actor.options["scheduling_strategy"].node_id for actor in connection.ray.made]
        assert places == [LEFT, RIGHT]
    assert (connection.ray.killed, connection.closed) == (connection.ray.made, 1)


def test_a_place_that_no_node_has_is_told_with_those_that_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    connection = Connection(monkeypatch)
    for where, option in (("site=b", "--labels site=b"), ("mri", """--resources '{"mri": 1}'""")):
        with pytest.raises(ConfigError) as error, RaySites().opened([source("x", where)]):
            pass
        assert "they have: left (site=a, node:10.0.0.1); right (scanner)\n" in str(error.value)
        assert f"start its node with `ray start {option}`" in str(error.value)
    assert (connection.ray.made, connection.closed) == ([], 2)


def wrong(held: list[str]) -> None:
    raise ConfigError("a.csv, line 3: no number")


def broken(held: list[str]) -> None:
    raise ZeroDivisionError("by hand")


@pytest.mark.parametrize(
    ("fails", "question", "error"),
    [
        ({}, wrong, ConfigError(r"^a\.csv, line 3: no number$")),
        ({}, broken, RunFailed("^a: ZeroDivisionError: by hand$")),
        ({"ask": [ActorDiedError()]}, len, RunFailed("^a: its node was lost while it was asked")),
        ({"up": ["late"]}, len, RunFailed("no process came up in 2 s on the nodes of a")),
        ({"open": [ActorDiedError()]}, len, RunFailed("its node was lost")),
    ],
)
def test_what_goes_wrong_there_is_told_here_and_the_processes_are_ended(
    fails: dict[str, list[Any]], question: Any, error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    connection = Connection(monkeypatch, **fails)
    with pytest.raises(type(error), match=str(error)), RaySites(2.0).opened([source("a", "site=a")]) as them:
        them.ask([question])
    assert (connection.ray.killed, connection.closed) == (connection.ray.made, 1)
