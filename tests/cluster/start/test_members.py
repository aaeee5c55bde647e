"""Who is in a cluster: told at first, and then only when it changes."""

from __future__ import annotations

import json
import socket
import sys
from collections.abc import Iterator
from itertools import islice
from types import SimpleNamespace

import pytest

from fedray.cluster.start import members
from fedray.cluster.start.members import alive, changes, main


@pytest.fixture
def address(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A port that answers, of a cluster whose members come and go."""
    monkeypatch.setattr(members, "PERIOD", 0.0)
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"127.0.0.1:{server.getsockname()[1]}"


def seen(monkeypatch: pytest.MonkeyPatch, *looks: list[str] | Exception) -> None:
    waiting = iter(looks)

    def look(address: str) -> list[str]:
        found = next(waiting)
        if isinstance(found, Exception):
            raise found
        return found

    monkeypatch.setattr(members, "alive", look)


def test_only_changes_are_told_and_whoever_is_not_reached_is_nobody(
    address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen(monkeypatch, ["a"], ["a"], ["a", "b"], RuntimeError("no answer"), OSError("gone"), ["b"], ["b"])
    assert list(islice(changes(address), 4)) == [["a"], ["a", "b"], [], ["b"]]


def test_a_closed_port_is_nobody_and_no_client_is_made_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        closed = f"127.0.0.1:{one.getsockname()[1]}"
    seen(monkeypatch, AssertionError("a client would wait for five seconds"))
    assert next(changes(closed)) == []


def test_names_of_the_living_are_sorted(monkeypatch: pytest.MonkeyPatch) -> None:
    nodes = {name: SimpleNamespace(node_name=name, state=state) for name, state in (("b", 0), ("c", 1), ("a", 0))}
    monkeypatch.setattr(members, "GcsClient", lambda address: SimpleNamespace(get_all_node_info=lambda: nodes))
    assert alive("x:1") == ["a", "b"]


def test_each_change_is_a_line_of_json_until_nobody_reads_on(
    address: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Reader:
        """Reads two lines."""

        def __init__(self) -> None:
            self.lines: list[str] = []

        def write(self, text: str) -> None:
            if len(self.lines) == 2:
                raise BrokenPipeError
            self.lines.append(text)

        def flush(self) -> None:
            pass

    seen(monkeypatch, ["a"], ["b"], ["c"])
    reader = Reader()
    monkeypatch.setattr(sys, "stdout", reader)
    main(address)
    assert [json.loads(line) for line in reader.lines] == [["a"], ["b"]]
