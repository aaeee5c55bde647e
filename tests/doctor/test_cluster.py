"""How nodes fit together, on made-up clusters."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedray.core.terminal import plain
from fedray.doctor import Facts, Finding, Folder, Report, compare
from tests.doctor.test_checks import HEALTHY

SEEN = replace(HEALTHY, run_dir=Folder("/shared", "nfs4", 10**12, marker="abc"))


def found(subject: str, *changes: dict[str, Any], marker: str | None = "abc") -> Finding:
    facts = {f"node{n}": replace(SEEN, **change) for n, change in enumerate(changes)}
    (finding,) = [one for one in compare(facts, dict.fromkeys(facts, (0.0, 0.0)), marker) if one.subject == subject]
    return finding


def test_equal_nodes_fit() -> None:
    facts = {f"node{n}": SEEN for n in range(5)}
    assert {one.level for one in compare(facts, dict.fromkeys(facts, (0.01, 0.002)), "abc")} == {"ok"}


@pytest.mark.parametrize(
    ("subject", "change", "level"),
    [
        ("python", {"python": "3.11.9"}, "error"),
        ("torch", {"packages": {**HEALTHY.packages, "torch": "2.12.0"}}, "error"),
        ("ray", {"packages": {**HEALTHY.packages, "ray": None}}, "error"),
        ("cuda", {"cuda": "12.4"}, "error"),
        ("nccl", {"nccl": None}, "error"),
        ("driver", {"driver": "12.4"}, "warning"),
        ("cpu", {"cpu": "AVX2"}, "warning"),
        ("gpus", {"gpus": ("A100",)}, "warning"),
    ],
)
def test_one_that_differs_is_named(subject: str, change: dict[str, Any], level: str) -> None:
    finding = found(subject, {}, {}, change)
    assert finding.level == level
    assert finding.text.startswith("not the same: ")
    assert "on node0, node1;" in finding.text
    assert finding.text.endswith("on node2")
    assert finding.advice


@pytest.mark.parametrize(
    ("blind", "level"), [((False, False), "ok"), ((False, True), "warning"), ((True, True), "error")]
)
def test_the_shared_folder(blind: tuple[bool, ...], level: str) -> None:
    changes = [{"run_dir": Folder("/shared", marker="stale" if one else "abc")} for one in blind]
    assert found("run folder", *changes).level == level


@pytest.mark.parametrize(
    ("ahead", "unsure", "level"),
    [(0.5, 0.0, "ok"), (5.0, 4.5, "ok"), (-5.0, 0.1, "warning"), (40.0, 5.0, "error"), (-40.0, 5.0, "error")],
)
def test_clocks(ahead: float, unsure: float, level: str) -> None:
    findings = compare({"a": SEEN, "b": SEEN}, {"a": (0.0, 0.0), "b": (ahead, unsure)}, None)
    (finding,) = [one for one in findings if one.subject == "clocks"]
    assert finding.level == level
    assert finding.text.startswith("b is ") == (level != "ok")


@given(st.lists(st.sampled_from("xyz"), min_size=1, max_size=12))
def test_every_node_is_counted_once(versions: list[str]) -> None:
    facts: dict[str, Facts] = {f"n{i}": replace(SEEN, python=version) for i, version in enumerate(versions)}
    finding = next(one for one in compare(facts, {}, None) if one.subject == "python")
    assert (finding.level == "ok") == (len(set(versions)) == 1)
    if finding.level == "error":
        told = finding.text.removeprefix("not the same: ").split("; ")
        assert [one[0] for one in told] == list(dict.fromkeys(versions))


def test_nodes_that_say_the_same_share_a_line() -> None:
    ok, bad = Finding("ok", "python", "3.12.4"), Finding("error", "/dev/shm", "not there", "mount it")
    report = Report({"a": [ok], "b": [ok, bad], "cluster": [ok]})
    assert plain(report.table()).splitlines() == [
        "ok       python      3.12.4  [a, b, cluster]",
        "error    /dev/shm    not there  [b]",
        "                     -> mount it",
    ]
    assert plain(Report({"a": [ok], "b": [ok]}).table()) == "ok       python      3.12.4  [all 2 nodes]\n"
    assert plain(Report({"a": [ok]}).table()) == "ok       python      3.12.4\n"
    assert report.errors == 1
