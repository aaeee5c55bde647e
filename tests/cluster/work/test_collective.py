"""Groups whose ranks are threads of this process: what crosses, what breaks, and who talks by what."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
import torch
from torch import Tensor

from fedray.aggregators.exact import GRID
from fedray.cluster.work import collective
from fedray.cluster.work.collective import (
    Backend,
    ProcessGroup,
    ProcessGroupBroken,
    RankSpec,
    Rendezvous,
    devices,
    dist,
    meet,
)

STAGED = replace(Backend.on("cpu"), stage=Tensor.clone)
RANKS = 3


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(collective, "PATIENCE", timedelta(seconds=20))


def together(work: Callable[[RankSpec], Any], places: Sequence[str] = ("cpu",) * RANKS) -> list[Any]:
    """What each rank of a new group gives."""
    meeting = Rendezvous()
    with ThreadPoolExecutor(len(places)) as pool:
        return list(pool.map(work, meeting.ranks(places)))


def vectors(rank: int) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """A broadcast, and an accumulator of grid points."""
    draw = torch.Generator().manual_seed(rank)
    down = {"model": torch.randn(1000, generator=draw), "control": torch.randn(7, generator=draw)}
    grid = {name: torch.randint(-(1 << 50), 1 << 50, (len(v),), generator=draw) * GRID for name, v in down.items()}
    return down, {name: v.double() for name, v in grid.items()}


def exchange(backend: Backend | None) -> Callable[[RankSpec], tuple[dict[str, Tensor], dict[str, Tensor]]]:
    """One round of a rank."""

    def rank(invitation: RankSpec) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        group = ProcessGroup(invitation, backend)
        down, up = vectors(invitation.rank)
        group.broadcast(down)
        group.reduce(up)
        meet(dist.TCPStore(invitation.host, invitation.port, None, False), invitation.rank, invitation.size)
        group.close()
        return down, up

    return rank


def check(results: list[tuple[dict[str, Tensor], dict[str, Tensor]]]) -> None:
    """Everybody has what rank 0 had, and rank 0 the exact sum."""
    sent, total = vectors(0)
    for other in range(1, len(results)):
        total = {name: vector + vectors(other)[1][name] for name, vector in total.items()}
    for down, _ in results:
        assert all(torch.equal(down[name], sent[name]) for name in sent)
    assert all(torch.equal(results[0][1][name], total[name]) for name in total)


@pytest.mark.parametrize("backend", [None, STAGED], ids=["in place", "staged"])
def test_vectors_cross_whole(backend: Backend | None) -> None:
    """Where the ranks take copies, as NCCL does, the results come back from these."""
    check(together(exchange(backend)))


@pytest.mark.gpu
@pytest.mark.parametrize("ranks", [1, 2])
def test_vectors_cross_by_nccl(ranks: int) -> None:
    """The same bits from GPUs."""
    if torch.cuda.device_count() < ranks:
        pytest.skip(f"needs {ranks} CUDA devices, one for each rank")
    check(together(exchange(None), [f"cuda:{rank}" for rank in range(ranks)]))


@pytest.mark.parametrize("backend", [None, STAGED], ids=["in place", "staged"])
def test_a_rank_that_leaves_breaks_the_group(backend: Backend | None) -> None:
    # One that leaves while others still connect would break their start instead.
    connected = threading.Barrier(RANKS)

    def rank(invitation: RankSpec) -> str:
        group = ProcessGroup(invitation, backend)
        connected.wait(60)
        if invitation.rank == 1:
            group.close()
            return "left"
        down, up = vectors(invitation.rank)
        try:
            group.reduce(up)
            group.broadcast(down)
        except ProcessGroupBroken:
            return "broken"
        finally:
            group.close()
            group.close()
        return "whole"

    assert together(rank) == ["broken", "left", "broken"]


def test_what_a_backend_raises_breaks_the_group() -> None:
    def refuses(error: Exception) -> Callable[[Any, int, int], Any]:
        def make(store: Any, rank: int, size: int) -> Any:
            raise error

        return make

    meeting = Rendezvous()
    (invitation,) = meeting.ranks(["cpu"])
    for error in (torch.cuda.OutOfMemoryError("no room"), ValueError("no GPUs found")):
        with pytest.raises(ProcessGroupBroken, match=str(error)):
            ProcessGroup(invitation, replace(STAGED, make=refuses(error)))


def test_ranks_meet_or_say_that_one_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(collective, "PATIENCE", timedelta(seconds=0.2))
    store = dist.HashStore()
    with pytest.raises(RuntimeError):
        meet(store, 0, 2)
    meet(store, 1, 2)
    meet(store, 0, 2)


def unasked() -> list[int]:
    raise AssertionError("asked for nothing")


@pytest.mark.parametrize(
    ("driver", "nccl", "nodes", "gpus", "found", "why"),
    [
        (0.5, True, "ab", unasked, ["cpu"] * 3, "driver.gpus is below 1"),
        (1, False, "ab", unasked, ["cpu"] * 3, "torch is built without NCCL"),
        (1, True, "ab", lambda: [4, 0], ["cpu"] * 3, "there is not a GPU for each rank on its node"),
        (1, True, "aba", lambda: [1, 4, 1], ["cpu"] * 4, "there is not a GPU for each rank on its node"),
        (2, True, "aba", lambda: [2, 1, 2], ["cuda:0", "cuda:0", "cuda:0", "cuda:1"], "each rank has a GPU of its own"),
    ],
)
def test_gpus_are_used_if_each_rank_has_its_own(
    driver: float,
    nccl: bool,
    nodes: str,
    gpus: Callable[[], list[int]],
    found: list[str],
    why: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(dist, "is_nccl_available", lambda: nccl)
    assert devices(driver, list(nodes), gpus) == (found, why)
    assert Backend.on(found[-1]).name == ("nccl" if "cuda" in found[-1] else "gloo")
