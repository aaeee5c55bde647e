"""The section of silos: where each client's table lies, checked before anybody is asked."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from fedray.config.registry import bind_part
from fedray.core.errors import ConfigError
from fedray.data import data_sources
from fedray.data.sites import LocalSites


def test_sites_are_asked_for_when_the_data_are_loaded_and_not_before(tmp_path: Path) -> None:
    asked: list[int] = []

    def sites() -> LocalSites:
        asked.append(1)
        return LocalSites()

    silos = {"a": {"node_label": "site=a", "path": str(tmp_path / "a.csv")}}
    section = bind_part(data_sources, {"name": "silos", "silos": silos, "target": "y"}, "data")
    assert not asked, "a config is read where no site can be reached"
    (tmp_path / "a.csv").write_text("u,y\n1,p\n2,q\n")
    data = section.load(0, sites)
    assert (len(asked), data.client_id(0), data.pin(0)) == (1, "a", "a")
    assert {name: silo.where for name, silo in data.silos.items()} == {"a": "site=a"}


@pytest.mark.parametrize(
    ("silo", "message"),
    [
        ({"path": "a.csv"}, "silos.a: say where it is: either node_label"),
        ({"path": "a.csv", "node_label": "s=a", "node_resource": "b"}, "silos.a: say where it is: either"),
        ({"path": "a.csv", "node_label": "site"}, "node_label=site: expected label=value"),
        ({"path": "a.csv", "node_label": "site="}, "node_label=site=: expected label=value"),
        ({"path": "a.csv", "node_resource": "s=a"}, "node_resource=s=a: expected the name"),
        ({"path": "", "node_label": "s=a"}, "path: the name of a file is needed"),
        ({"node_label": "s=a"}, r"silos\.a\.path: a value is needed"),
        ({"path": "a.csv", "nodelabel": "s=a"}, r"silos\.a\.nodelabel: unknown key \(did you mean 'node_label'"),
        ({"path": "a.csv", "node_label": "s=a", "cpus": -1}, r"cpus=-1: it must be from 0 to 10000"),
        ({"path": "a.csv", "node_label": "s=a", "gpus": "all"}, r"silos\.a\.gpus"),
        ("a.csv", r"silos\.a: expected a section"),
    ],
)
def test_a_wrong_section_is_one_clear_error(silo: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        bind_part(data_sources, {"name": "silos", "silos": {"a": silo}, "target": "y"}, "data")
