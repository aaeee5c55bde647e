"""Sources and partitioners of one's own, named by their import path."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from fedray.config.registry import bind_part, made
from fedray.core.errors import ConfigError
from fedray.data import ClientData, FederatedData
from fedray.data.registry import data_sources, partitioners
from fedray.data.sites import LocalSites, Sites
from tests.data.reading import everything, load

HERE = "tests.data.test_registry"


def shifted(seed: int, by: float = 0.0) -> FederatedData:
    """Data that show the seed they were asked for with."""
    return FederatedData.from_arrays(np.full((2, 1), seed + by), np.array([0, 1]), np.array([0, 1]))


def the_same() -> FederatedData:
    """Data of no seed."""
    return shifted(7)


@dataclass(frozen=True)
class AtSites:
    """A source like fedray's own, which asks for the sites."""

    by: float = 0.5

    def load(self, seed: int, sites: Callable[[], Sites]) -> ClientData:
        assert isinstance(sites(), LocalSites)
        return shifted(seed, self.by)


@dataclass(frozen=True)
class InTurn:
    """Deals rows to clients in turn."""

    clients: int

    def assign(self, labels: NDArray[np.int64], seed: int) -> NDArray[np.int64]:
        return np.arange(len(labels)) % self.clients


@pytest.mark.parametrize(
    ("node", "value"),
    [
        ({"name": "shifted"}, 3.0),
        ({"name": "shifted", "by": 2}, 5.0),
        ({"name": "the_same"}, 7.0),
        ({"name": "AtSites"}, 3.5),
    ],
)
def test_a_function_is_given_the_seed_if_it_takes_one(node: dict[str, Any], value: float) -> None:
    data = load(seed=3, **{**node, "name": f"{HERE}:{node['name']}"})
    assert everything(data)[0].tolist() == [[value]] * 2


def test_what_gives_no_data_is_refused_by_name() -> None:
    with pytest.raises(ConfigError, match=r"must return a fedray\.FederatedData, or a source .*, got InTurn"):
        load(name=f"{HERE}:InTurn", clients=2)
    with pytest.raises(ConfigError, match=r"fedray itself passes the data's seed to .*; leave it out"):
        bind_part(data_sources, {"name": f"{HERE}:shifted", "seed": 4}, "data")


def test_a_partitioner_is_whatever_assigns_rows() -> None:
    part = made(bind_part(partitioners, {"name": f"{HERE}:InTurn", "clients": 3}, "data.partition"))
    assert part.assign(np.zeros(4, dtype=np.int64), 0).tolist() == [0, 1, 2, 0]
    wrong = bind_part(partitioners, {"name": f"{HERE}:the_same"}, "data.partition")
    with pytest.raises(ConfigError, match=r"name: .* must return a partitioner, an object with assign"):
        made(wrong)


def ten() -> FederatedData:
    """Ten rows of one client, without a parameter of any name."""
    return FederatedData.from_arrays(np.arange(10.0)[:, None], np.arange(10) % 2, np.zeros(10, dtype=int))


def split_by_itself(holdout: float) -> FederatedData:
    """Data that hold out what they are asked to, and one half more, which shows who did it."""
    return ten().with_holdout(holdout + 0.5, seed=1)


def already() -> FederatedData:
    """Data with held-out rows."""
    return ten().with_holdout(0.5, seed=1)


def test_rows_are_held_out_of_what_a_function_returns() -> None:
    held = load(seed=3, name=f"{HERE}:ten", holdout=0.2)
    assert (held.sizes.tolist(), held.holdout_sizes.tolist()) == ([8], [2])
    own = ten().with_holdout(0.2, seed=3)
    assert everything(held)[0].tolist() == everything(own)[0].tolist()
    assert load(seed=3, name=f"{HERE}:ten", holdout=0).holdout_sizes.tolist() == [0]
    assert load(seed=3, name=f"{HERE}:split_by_itself", holdout=0.2).holdout_sizes.tolist() == [7]
    assert load(seed=3, name=f"{HERE}:AtSites", holdout=0.2).holdout_sizes.tolist() == [0, 0]  # of one row each


@pytest.mark.parametrize("fraction", [1, -0.1, "a fifth", True, None])
def test_a_fraction_that_is_none_is_refused_before_data_are_read(fraction: Any) -> None:
    with pytest.raises(ConfigError, match=r"^data\.holdout: must be at least 0 and below 1, got"):
        bind_part(data_sources, {"name": f"{HERE}:ten", "holdout": fraction}, "data")


def test_rows_are_not_held_out_twice() -> None:
    with pytest.raises(ConfigError, match="has held-out rows already"):
        load(name=f"{HERE}:already", holdout=0.2)
    with pytest.raises(ConfigError, match=r"^data\.test: .*:ten has no such parameter"):
        bind_part(data_sources, {"name": f"{HERE}:ten", "test": 0.2}, "data")
