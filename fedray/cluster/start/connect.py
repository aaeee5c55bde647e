"""The connection to a Ray that is there, or that is started for a run; only what was started is ended."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import socket
import sys
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec

import ray
from ray.exceptions import AuthenticationError, RayError

from fedray.cluster.start.head import Head, await_ahead, joins, start, take
from fedray.cluster.start.members import alive as members
from fedray.cluster.start.token import ASKS, token_wanted
from fedray.core.errors import ConfigError
from fedray.core.unread import say
from fedray.run.interrupt import held

_PATIENCE = 5.0
_INSTALL = "set_sigterm_handler"


@dataclass(frozen=True)
class Cluster:
    """A Ray connection.

    Args:
        started: this process started Ray or connected to it, and :meth:`close` ends that.
        driver_cpus: CPUs kept for the driver: in a Ray started here there is one more than for the workers, so that its
            process, too, is started ahead.
        head: the process that started Ray ahead.
    """

    started: bool
    driver_cpus: int = 0
    head: Head | None = None

    @classmethod
    def connect(cls, cpus: int, dashboard: bool = False) -> Cluster:
        """Use Ray as it is if this process is connected; join the cluster of a Ray job; else use the Ray of this
        machine that was started ahead, or start it.

        Args:
            cpus: CPUs for workers of a Ray started here; one more stands for the driver.
            dashboard: start the dashboard, on the loopback interface.

        Raises:
            ConfigError: there is a cluster to join, and it cannot be joined; or no dashboard installed.
        """
        if dashboard and find_spec("aiohttp") is None:
            raise ConfigError("cluster.dashboard: Ray's dashboard is not installed; pip install 'fedray[jobs]'")
        if ray.is_initialized():
            return cls(started=False)
        await_ahead()
        connection: Cluster | None = None
        try:
            # Whoever leaves ``ray.init`` half way leaves threads that crash at the end of the process.
            with held("Ray is up"), _kept_handlers():
                connection = cls._start(cpus, dashboard)
        except (KeyboardInterrupt, SystemExit):
            if connection is not None:
                connection.close()
            raise
        return connection

    @classmethod
    def _start(cls, cpus: int, dashboard: bool) -> Cluster:
        if joins():
            probe(os.environ.get("RAY_ADDRESS", ""))
            try:
                ray.init(logging_level=logging.ERROR, log_to_driver=False)
            except (ValueError, RuntimeError, OSError, RayError) as error:
                reason = " ".join(str(error).split())[:300]
                raise ConfigError(f"RAY_ADDRESS: the cluster cannot be joined: {reason}") from None
            return cls(started=True)
        if head := take():
            try:
                ray.init(address=head.address(), logging_level=logging.ERROR, log_to_driver=False)
            except BaseException:
                head.close()
                raise
        else:
            start(cpus, dashboard)
        return cls(started=True, driver_cpus=1, head=head)

    def close(self) -> None:
        """Disconnect, and end Ray if it was started here."""
        if self.started:
            ray.shutdown()
        if self.head:
            self.head.close()


def probe(address: str) -> None:
    """Ask a cluster for its nodes, once: Ray would try for two minutes where nobody listens, and 20 s without a token.

    Args:
        address: ``host:port`` of its control store; nothing else is looked at.

    Raises:
        ConfigError: nobody answers there, or the answer is that a token is missing or wrong.
    """
    host, colon, port = address.rpartition(":")
    if not (colon and port.isdigit()):
        return
    try:
        socket.create_connection((host, int(port)), _PATIENCE).close()
    except OSError as error:
        raise ConfigError(f"RAY_ADDRESS: nobody answers at {address} ({error.strerror or error})") from None
    if wanted := token_wanted():
        raise ConfigError(wanted)
    try:
        with _complaints_held():
            members(address)
    except AuthenticationError:
        raise ConfigError(f"RAY_ADDRESS: the cluster at {address} {ASKS}") from None
    except (OSError, RuntimeError, RayError):
        return  # ray.init says it better


@contextlib.contextmanager
def _complaints_held() -> Iterator[None]:
    """Hold back what Ray's own code writes to standard error, and drop it where its exception says the same."""
    sys.stderr.flush()
    kept = os.dup(2)
    with tempfile.TemporaryFile() as held:
        os.dup2(held.fileno(), 2)
        try:
            yield
        except AuthenticationError:
            held.truncate(0)
            raise
        finally:
            os.dup2(kept, 2)
            os.close(kept)
            held.seek(0)
            say(held.read())


@contextlib.contextmanager
def _kept_handlers() -> Iterator[None]:
    """Keep this process's signal handlers over ``ray.init``.

    Ray puts a handler of its own in the place of SIGTERM's, which ends the process with Ray's status.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.getsignal(signal.SIGTERM)
    # Where Ray still has it under this name, also a SIGTERM that comes meanwhile is ours to handle.
    utils = getattr(ray._private, "utils", None)
    install = getattr(utils, _INSTALL, None)
    if install is not None:
        setattr(utils, _INSTALL, lambda handler: None)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
        if install is not None:
            setattr(utils, _INSTALL, install)
