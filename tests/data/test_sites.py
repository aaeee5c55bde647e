"""Where data lies, said in words, and asking there."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedray.config.sections import WorkerSection
from fedray.data.sites import Silo, SiteData, here

WORDS = st.text("abc.-_/", min_size=1)


@given(WORDS, WORDS, st.none() | st.integers(0, 4), st.none() | st.sampled_from([0.0, 0.25, 2.0]))
def test_a_silo_says_where_it_is_and_what_its_worker_gets(
    label: str, value: str, cpus: int | None, gpus: float | None
) -> None:
    silo = Silo(path="a.csv", node_label=f"{label}={value}", cpus=cpus, gpus=gpus)
    assert silo.where == f"{label}={value}"
    assert Silo(path="a.csv", node_resource=label, cpus=cpus, gpus=gpus).where == label
    assert (" CPUs" in str(silo), " GPUs" in str(silo)) == (cpus is not None, gpus is not None)


def test_each_rank_of_a_silos_worker_has_what_it_says() -> None:
    plain, own, ranks = (Silo(path="a.csv", node_resource="a", **said) for said in ({}, {"gpus": 0.5}, {"ranks": 3}))
    assert plain.own is None
    assert own.own == WorkerSection(gpus=0.5)
    assert ranks.own == WorkerSection(ranks=3)
    assert str(ranks) == "a, 3 ranks"
    for said, words in ({"ranks": 0}, "ranks=0: it must be"), ({"ranks": 2, "gpus": 0.5}, "gpus=0.5: each of several"):
        with pytest.raises(ValueError, match=words):
            Silo(path="a.csv", node_resource="a", **said)


def test_a_gpu_is_shared_or_whole() -> None:
    with pytest.raises(ValueError, match=r"gpus=1\.5: above 1 it must be a whole number"):
        Silo(path="a.csv", node_resource="a", gpus=1.5)
    with pytest.raises(ValueError, match="cpus=inf: it must be from 0 to 10000"):
        Silo(path="a.csv", node_resource="a", cpus=float("inf"))


def test_a_place_is_opened_once_and_each_question_goes_to_its_own() -> None:
    opened: list[str] = []

    def thing(name: str) -> SiteData[str]:
        return SiteData(name, "site=x", lambda: opened.append(name) or name)  # type: ignore[func-returns-value]

    with here().opened([thing("a"), thing("b")]) as them:
        assert them.ask([str.upper, lambda name: name * 2]) == ["A", "bb"]
        assert them.ask([len, len]) == [1, 1]
        with pytest.raises(ValueError, match="longer"):
            them.ask([len])
    assert opened == ["a", "b"]
