"""The members of a Ray cluster: ``python -m fedray.cluster.start.members ADDRESS`` prints the
names of its nodes as a JSON list, again each time they change, until nobody reads on.

It serves programs that must not become part of the cluster; the token is found as Ray finds it.
"""

from __future__ import annotations

import contextlib
import json
import socket
import sys
import threading
from collections.abc import Iterator

from ray._raylet import GcsClient  # type: ignore[attr-defined]

PERIOD = 0.2
_ALIVE = 0


def alive(address: str) -> list[str]:
    """Return the names of the nodes that are alive, sorted.

    Args:
        address: ``host:port`` of the cluster's control store.
    """
    found = GcsClient(address=address).get_all_node_info().values()
    return sorted(node.node_name for node in found if node.state == _ALIVE)


def changes(address: str) -> Iterator[list[str]]:
    """Yield the names at first, and whenever they have changed; an empty list as long as nobody answers."""
    host, _, port = address.rpartition(":")
    last: list[str] | None = None
    pause = threading.Event()
    while True:
        names: list[str] = []
        # A client of a closed port waits five seconds and complains; asking the port costs nothing.
        with contextlib.suppress(OSError, RuntimeError), socket.create_connection((host, int(port)), 1):
            names = alive(address)
        if names != last:
            yield names
            last = names
        pause.wait(PERIOD)


def main(address: str) -> None:
    """Print until nobody reads."""
    with contextlib.suppress(BrokenPipeError, KeyboardInterrupt):
        for names in changes(address):
            sys.stdout.write(json.dumps(names) + "\n")
            sys.stdout.flush()


if __name__ == "__main__":
    main(sys.argv[1])
