"""Joining a Ray, or not: what is started here is ended, what is there is left, and a dead address is said at once."""

from __future__ import annotations

import os
import signal
import socket
from typing import Any

import pytest
from ray.exceptions import AuthenticationError

from fedray.cluster.start import connect
from fedray.cluster.start.connect import Cluster, probe
from fedray.core.errors import ConfigError
from tests.cluster.rayless import FakeRay


class Starting(FakeRay):
    """A Ray that is not there yet."""

    def __init__(self, error: BaseException | None = None) -> None:
        super().__init__()
        self.initialized, self._error = False, error
        self.given: dict[str, Any] = {}
        self.shut = 0

    def init(self, **given: Any) -> None:
        self.given = given
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # as Ray does
        if self._error is not None:
            raise self._error

    def shutdown(self) -> None:
        self.shut += 1


@pytest.fixture(autouse=True)
def _nothing_ahead(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RAY_ADDRESS", "RAY_JOB_ID", "RAY_AUTH_MODE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(connect, "await_ahead", lambda: None)
    monkeypatch.setattr(connect, "take", lambda: None)


def nobodys_address() -> str:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{one.getsockname()[1]}"


def test_a_ray_that_is_connected_is_used_and_left_running(monkeypatch: pytest.MonkeyPatch) -> None:
    ray = Starting()
    ray.initialized = True
    monkeypatch.setattr(connect, "ray", ray)
    connection = Cluster.connect(cpus=4)
    connection.close()
    assert (connection.started, connection.driver_cpus, ray.shut, ray.given) == (False, 0, 0, {})


def test_a_ray_of_ones_own_has_a_cpu_more_and_is_ended_and_signals_stay_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    ray = Starting()
    monkeypatch.setattr(connect, "ray", ray)
    monkeypatch.setattr(connect, "start", lambda cpus, dashboard: ray.init(num_cpus=cpus + 1))
    before = signal.getsignal(signal.SIGTERM)
    connection = Cluster.connect(cpus=4)
    assert signal.getsignal(signal.SIGTERM) is before
    assert (ray.given, connection.driver_cpus) == ({"num_cpus": 5}, 1)
    connection.close()
    assert ray.shut == 1


def test_a_head_that_was_started_ahead_is_ended_also_where_it_cannot_be_joined(monkeypatch: pytest.MonkeyPatch) -> None:
    class Head:
        closed = 0

        def address(self) -> str:
            return "127.0.0.1:1"

        def close(self) -> None:
            self.closed += 1

    for error in (None, RuntimeError("by hand")):
        head = Head()
        monkeypatch.setattr(connect, "take", lambda head=head: head)
        monkeypatch.setattr(connect, "ray", Starting(error))
        if error is None:
            Cluster.connect(cpus=4).close()
        else:
            with pytest.raises(RuntimeError, match="by hand"):
                Cluster.connect(cpus=4)
        assert head.closed == 1


def test_a_cluster_that_cannot_be_joined_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "auto")
    monkeypatch.setattr(connect, "ray", Starting(ConnectionError("Ray\n   is gone")))
    with pytest.raises(ConfigError, match=r"^RAY_ADDRESS: the cluster cannot be joined: Ray is gone$"):
        Cluster.connect(cpus=4)


def test_nobody_at_the_address_is_said_at_once_and_words_are_left_to_ray() -> None:
    with pytest.raises(ConfigError, match=r"^RAY_ADDRESS: nobody answers at 127\.0\.0\.1:\d+ \(Connection refused\)$"):
        probe(nobodys_address())
    for words in ("auto", "local", "", "ray://head"):
        probe(words)


def test_ray_complains_of_a_token_once_and_of_all_else_as_it_likes(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def members(error: Exception) -> Any:
        def ask(address: str) -> list[str]:
            os.write(2, b"a wall of text\n")
            raise error

        return ask

    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
        monkeypatch.setattr(connect, "members", members(AuthenticationError("x")))
        with pytest.raises(ConfigError, match=f"the cluster at {address} asks for a token"):
            probe(address)
        assert capfd.readouterr().err == ""
        monkeypatch.setattr(connect, "members", members(OSError("x")))
        probe(address)
        assert capfd.readouterr().err == "a wall of text\n"


def test_without_the_extra_there_is_no_dashboard(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connect, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"cluster\.dashboard: .*pip install 'fedray\[jobs\]'"):
        Cluster.connect(cpus=1, dashboard=True)
