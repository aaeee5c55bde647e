"""Ports and addresses of a job's Ray nodes: chosen by job id, probed, never the defaults that jobs would share."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import psutil

from fedray.core.errors import ConfigError, listed

FIRST, BLOCK, BLOCKS = 20000, 16, 750
"""Blocks of ports from 20000 to 31999, below the range from which Linux gives out ports by itself."""

_LOOPBACK = "127.0.0.1"


@dataclass(frozen=True)
class Ports:
    """A block of consecutive ports of one Ray node, by what listens there."""

    base: int

    @property
    def control(self) -> int:
        """Ray's control store, on the head."""
        return self.base

    @property
    def client(self) -> int:
        """Ray's client server, on the head: two heads would share its default without an error."""
        return self.base + 1

    @property
    def agents(self) -> tuple[int, int, int, int]:
        """Metrics, agent gRPC, agent HTTP, runtime environments.

        Given, because a raylet waits only 15 s, hard-coded, for agents that choose their own.
        """
        return self.base + 2, self.base + 3, self.base + 4, self.base + 5

    @property
    def used(self) -> range:
        """All ports of the block."""
        return range(self.base, self.base + 6)


def blocks(job: int) -> Iterator[Ports]:
    """Yield all blocks, each once, beginning with the one that belongs to the job id."""
    # 7 has no common factor with 750: jobs that follow each other begin far apart, and no two of 750 at one block.
    for step in range(BLOCKS):
        yield Ports(FIRST + BLOCK * ((7 * job + step) % BLOCKS))


def choose_ports(job: int, address: str, free: Callable[[str, int], bool] | None = None) -> Ports:
    """Return the first block of the job's sequence whose ports are all free on this host.

    Args:
        job: Slurm's job id.
        address: the address at which Ray will listen.
        free: a test of a port at an address; the default tries to bind it.

    Raises:
        ConfigError: there is none.
    """
    probe = free or can_bind
    for ports in blocks(job):
        if all(probe(host, port) for port in ports.used for host in {address, _LOOPBACK}):
            return ports
    raise ConfigError(f"no free block of {BLOCK} ports from {FIRST} to {FIRST + BLOCK * BLOCKS - 1} on this node")


def can_bind(host: str, port: int) -> bool:
    """Return True if a TCP port is free."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True


def own_address(interface: str | None, peer: str | None) -> str:
    """Return the IPv4 address at which the job's other nodes reach this one.

    Args:
        interface: network interface that is to be used (``ib0``); it wins.
        peer: name or address of another node: the address from which this host would talk to it.  None: the job has no
            other node, so it stays on the loopback interface, where no other host sees it.

    Raises:
        ConfigError: no such interface, or no way to the peer.
    """
    if interface:
        return interface_address(interface)
    if peer is None:
        return _LOOPBACK
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect((peer, 9))  # of a datagram socket: looks up the route and sends nothing
        except OSError as error:
            raise ConfigError(f"no way from this node to {peer}: {error.strerror or error}") from None
        return str(probe.getsockname()[0])


def interface_address(interface: str) -> str:
    """Return the IPv4 address of a network interface of this host.

    Raises:
        ConfigError: there is no such interface, or it has no address.
    """
    there = psutil.net_if_addrs()
    for found in there.get(interface, []):
        if found.family == socket.AF_INET:
            return str(found.address)
    raise ConfigError(
        f"cluster.interface: {interface!r} has no IPv4 address on {socket.gethostname()}; there are: {listed(there)}"
    )
