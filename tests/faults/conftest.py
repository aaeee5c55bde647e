"""Two Ray nodes for the tests of a file."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import pytest

from tests.faults.nodes import Nodes, eventually, our_buffers


@pytest.fixture(scope="module")
def nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nodes]:
    """``head`` and ``second``, two CPUs each; this process is connected, and at the end nothing is left of them."""
    tmp_path_factory.getbasetemp()  # chosen before the nodes' own folder for temporary files is
    cluster = Nodes()
    try:
        cluster.add("head")
        cluster.add("second")
        with cluster.connected():
            yield cluster
            for title in ("ray::WorkerActor", "ray::NodeActor", "ray::DriverActor"):
                # Ray kills an actor that is still starting without waiting for its process.
                eventually(partial(_none_of, cluster, title), f"{title} is no more")
            assert not list(cluster.folder.glob("fedray-data-*"))
            assert not cluster.reserved()
            assert not our_buffers()
    finally:
        cluster.close()


def _none_of(cluster: Nodes, title: str) -> bool:
    return not cluster.processes(title)
