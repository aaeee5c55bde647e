"""Ports and addresses of a job's nodes."""

from __future__ import annotations

import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedray.core.errors import ConfigError
from fedray.slurm.network import BLOCK, BLOCKS, FIRST, blocks, can_bind, choose_ports, own_address

jobs = st.integers(1, 1 << 40)


@given(jobs)
def test_every_block_comes_once_and_none_leaves_the_range(job: int) -> None:
    bases = [ports.base for ports in blocks(job)]
    assert sorted(bases) == list(range(FIRST, FIRST + BLOCK * BLOCKS, BLOCK))
    assert FIRST + BLOCK * BLOCKS <= 32768, "from there on Linux gives ports out by itself"


@given(jobs, st.integers(1, BLOCKS - 1))
def test_jobs_near_each_other_begin_at_different_blocks(job: int, distance: int) -> None:
    assert next(blocks(job)) != next(blocks(job + distance))


@given(jobs)
def test_no_two_uses_share_a_port(job: int) -> None:
    ports = next(blocks(job))
    assert sorted([ports.control, ports.client, *ports.agents]) == list(ports.used)
    assert len(ports.used) <= BLOCK


@given(jobs, st.integers(0, 20))
def test_a_block_with_a_taken_port_is_passed_over(job: int, taken: int) -> None:
    in_turn = list(blocks(job))
    busy = {ports.used[i % len(ports.used)] for i, ports in enumerate(in_turn[:taken])}
    assert choose_ports(job, "10.0.0.1", lambda host, port: port not in busy) == in_turn[taken]


def test_no_free_block_is_an_error() -> None:
    with pytest.raises(ConfigError, match="no free block"):
        choose_ports(1, "10.0.0.1", lambda host, port: False)


def test_a_port_that_somebody_listens_on_is_not_free() -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        assert not can_bind("127.0.0.1", port)
    assert can_bind("127.0.0.1", port)


def test_the_address_is_that_of_the_interface_or_of_the_route() -> None:
    assert own_address("lo", "192.0.2.1") == "127.0.0.1"
    assert own_address(None, "127.0.0.1") == "127.0.0.1"
    assert own_address(None, None) == "127.0.0.1", "a job of one node shows itself to nobody"
    with pytest.raises(ConfigError, match=r"'ib7' has no IPv4 address .* there are: .*lo"):
        own_address("ib7", None)
    with pytest.raises(ConfigError, match="no way from this node to nowhere"):
        own_address(None, "nowhere.invalid")
