"""A question to every node: who cannot answer is named, and disturbs nobody else."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from ray.exceptions import ActorDiedError

from fedray.cluster.place import survey
from fedray.cluster.place.survey import Survey
from fedray.cluster.start.connect import Cluster
from tests.cluster.rayless import FakeRay


@pytest.fixture
def ray(monkeypatch: pytest.MonkeyPatch) -> FakeRay:
    """Three nodes alive, two of them on one host, and a dead one."""
    names = [("left", "a", True), ("twin", "b", True), ("twin", "c", True), ("gone", "d", False)]
    fake = FakeRay(
        nodes=[{"NodeManagerHostname": host, "NodeID": id * 56, "Alive": alive} for host, id, alive in names]
    )
    monkeypatch.setattr(survey, "ray", fake)
    connection = SimpleNamespace(close=lambda: fake.calls.append("closed"))
    monkeypatch.setattr(Cluster, "connect", lambda cpus: connection)
    return fake


def broken() -> int:
    raise ZeroDivisionError("by hand")


def test_each_node_that_is_alive_answers_under_a_name_of_its_own(ray: FakeRay) -> None:
    with Survey() as nodes:
        assert {name: answer.value for name, answer in nodes.ask(lambda: 7).items()} == {
            "left": 7,
            "twin/bbbbbb": 7,
            "twin/cccccc": 7,
        }
        assert [actor.options["scheduling_strategy"].node_id[0] for actor in ray.made] == ["a", "b", "c"]
    assert ray.killed == ray.made
    assert ray.calls[-1] == "closed"


@pytest.mark.parametrize(
    ("fate", "error"), [(ActorDiedError(), "The actor died unexpectedly"), ("late", "Get timed out")]
)
def test_who_cannot_answer_is_said_and_the_others_are_heard(ray: FakeRay, fate: Any, error: str) -> None:
    with Survey(patience=0.0) as nodes:
        ray.fails["call"] = [fate]
        first, *others = nodes.ask(lambda: 7).values()
        assert first.value is None
        assert (first.error or "").startswith(error)
        assert [(one.value, one.error) for one in others] == [(7, None)] * 2


def test_of_what_a_function_raised_its_last_line_is_kept_and_who_is_asked_in_turn_answers_in_turn(ray: FakeRay) -> None:
    with Survey() as nodes:
        assert {answer.error for answer in nodes.ask(broken).values()} == {"ZeroDivisionError: by hand"}
        answers = list(nodes.ask_in_turn(lambda: 7).values())
    times = [time for answer in answers for time in (answer.asked, answer.answered)]
    assert times == sorted(times)
