"""One Ray for the tests of a file: starting it costs seconds."""

from __future__ import annotations

from collections.abc import Iterator

import pytest


@pytest.fixture(scope="module")
def four_cpus() -> Iterator[None]:
    """A Ray of this process with four (logical) CPUs; ``fedray.train`` must use it as it is and leave it running."""
    import ray

    from fedray.cluster.start.connect import Cluster

    connection = Cluster.connect(cpus=4)
    assert connection.started
    yield
    assert ray.is_initialized(), "a run shut down a Ray that it had not started"
    connection.close()
