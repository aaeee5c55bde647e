"""Workers of two processes: the result is that of one up to rounding, the same each time, also after a death."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import psutil
import pytest
import torch
import torch.distributed as dist

import fedray
from fedray import optim
from fedray.cluster.work.collective import RankSpec, Rendezvous
from fedray.cluster.work.ranks import LeadingRank, Ranks, _use_interface
from fedray.core.messages import Broadcast, Failure
from fedray.run.rank import RanksBroken
from fedray.run.usage import Reading
from tests.cluster import problem
from tests.helpers import class_problem, federation


@pytest.fixture
def spec(monkeypatch: pytest.MonkeyPatch) -> Iterator[RankSpec]:
    """The only rank of a worker, this process."""
    monkeypatch.setattr("fedray.cluster.work.collective.get_node_ip_address", lambda: "127.0.0.1")
    monkeypatch.setattr("fedray.cluster.work.ranks._use_interface", lambda address: None)
    meeting = Rendezvous()
    yield meeting.ranks(["cpu"])[0]
    dist.destroy_process_group()


def test_the_first_rank_is_a_worker_that_tells_the_others(
    spec: RankSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[str] = []
    one = federation(class_problem((5, 4)), tmp_path, stack="off")
    leading = LeadingRank(one.job, spec, 0)
    monkeypatch.setattr(Ranks, "tell", lambda self, what, *said: told.append(what))
    leading.begin(Broadcast(1, {"model": one.vector}, 9.0))
    for block in one.plan.blocks(1, one.plan.cohort(1), one.state.store):
        leading.handle(block)
    leading.put({name: torch.zeros_like(part) for name, part in leading.finish().items()})
    assert leading.read(Reading("n/0", hardware="x")).hardware == "x, 1 ranks"
    assert told == ["begin", "handle", "handle", "put", "read"]


def test_ranks_on_other_nodes_are_sent_their_rows_and_send_what_they_folded(
    spec: RankSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Here the only one is as if it were elsewhere."""
    given: list[tuple[torch.Tensor, int]] = []
    one = federation(class_problem((5, 4)), tmp_path, stack="off")
    monkeypatch.setattr(Ranks, "give", lambda self, part, rank: given.append((part, rank)))
    monkeypatch.setattr(Ranks, "take", lambda self, count, dtype, rank: torch.full((count,), 2.0, dtype=dtype))
    leading = LeadingRank(one.job, replace(spec, away=(0,)), 0)
    leading.begin(Broadcast(1, {"model": one.vector}, 9.0))
    ((sent, to),) = given
    assert torch.equal(sent, one.vector)
    assert to == 0
    into = {name: torch.zeros_like(part) for name, part in leading.finish().items()}
    leading.put(into)
    assert all(bool((part == 2.0).all()) for part in into.values())


def test_ranks_talk_by_the_interface_of_rays_address_unless_told_another(monkeypatch: pytest.MonkeyPatch) -> None:
    names = ("GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME")
    for name in names:
        monkeypatch.setenv(name, "ib0")
    _use_interface("127.0.0.1")
    assert [os.environ[name] for name in names] == ["ib0", "ib0"]
    for name in names:
        monkeypatch.delenv(name)
    _use_interface("192.0.2.1")  # of no machine
    assert not any(name in os.environ for name in names)
    _use_interface("127.0.0.1")
    assert "127.0.0.1" in {address.address for address in psutil.net_if_addrs()[os.environ[names[0]]]}


def test_the_reason_for_which_ranks_are_broken_is_the_first_one(spec: RankSpec) -> None:
    ranks = Ranks(spec)
    with pytest.raises(RanksBroken, match=r"^rank 0: ValueError: a bad row$"), ranks.unbroken():
        raise ValueError("a bad row")
    with pytest.raises(RanksBroken, match=r"^rank 0: ValueError: a bad row$"), ranks.unbroken():
        raise RuntimeError("the connection is closed")


def test_the_first_rank_finds_the_failure_that_another_one_left(spec: RankSpec) -> None:
    ranks, failure = Ranks(spec), Failure(3, "d", 2, "train", "ValueError: a bad row", "Traceback ...")
    ranks.broken(RanksBroken("ValueError: a bad row", failure))
    with pytest.raises(RanksBroken, match=r"^rank 0: ValueError: a bad row$") as caught, ranks.unbroken():
        raise RanksBroken("RuntimeError: the connection is closed")
    assert caught.value.failure == failure


def of_two_ranks(folder: Path, **parts: Any) -> fedray.Result:
    return problem.train(folder, fedray.Cluster(workers=1, ranks=2, cpus=1), **parts)


@pytest.mark.slow
def test_two_ranks_are_one_process_up_to_rounding_and_twice_the_same(tmp_path: Path, four_cpus: None) -> None:
    """Their number stands in the record."""
    inline = problem.train(tmp_path / "inline", "inline")
    first, second = (of_two_ranks(tmp_path / name) for name in ("first", "second"))
    assert problem.hashes(first) == problem.hashes(second)
    ours, theirs = (result.model.state_dict() for result in (first, inline))
    for name, tensor in theirs.items():
        torch.testing.assert_close(ours[name], tensor, rtol=1e-4, atol=1e-5)
    for one, other in zip(first.history, inline.history, strict=True):
        assert one.train["loss"] == pytest.approx(other.train["loss"], rel=1e-5)
    assert all(kind.endswith(", 2 ranks") for record in first.history for kind in record.usage["hardware"])


@pytest.mark.slow
def test_clients_of_two_ranks_go_on_with_their_moments_and_resume_with_one(tmp_path: Path, four_cpus: None) -> None:
    """Which shows: rounds of an Adam that forgets are others."""

    def go(name: str, place: Any, keep: bool = True, **more: Any) -> fedray.Result:
        algorithm = fedray.DiLoCo(server_lr=1.0, momentum=0.0, keep=keep)
        return problem.train(tmp_path / name, place, algorithm=algorithm, optimizer=optim.Adam(0.02), **more)

    inline, without = go("inline", "inline"), go("without", "inline", keep=False)
    go("two", fedray.Cluster(workers=1, ranks=2), rounds=3)
    resumed = go("two", fedray.Cluster(workers=1), resume=True)
    assert [record.round for record in resumed.history] == [1, 2, 3, 4]
    ours, others = (
        max(
            float((a - b).detach().abs().max())
            for a, b in zip(one.model.parameters(), inline.model.parameters(), strict=True)
        )
        for one in (resumed, without)
    )
    assert 20 * ours < others


@pytest.mark.slow
def test_a_rank_that_dies_takes_its_worker_and_not_the_run(
    tmp_path: Path, four_cpus: None, caplog: pytest.LogCaptureFixture
) -> None:
    """Killed after a round, and the blocks of the next are done by a new worker."""
    quiet = of_two_ranks(tmp_path / "quiet")
    before = set(problem.processes("ray::FollowingRank"))
    killed: list[int] = []

    def kill(record: fedray.RoundRecord) -> None:
        if record.round == 2:
            killed.extend(set(problem.processes("ray::FollowingRank")) - before)
            os.kill(killed[0], signal.SIGKILL)

    result = of_two_ranks(tmp_path / "killed", callbacks=[kill])
    assert len(killed) == 1
    assert problem.hashes(result) == problem.hashes(quiet)
    assert "round 3: worker" in caplog.text
    assert "died, and is replaced (rank 0: " in caplog.text


@pytest.mark.slow
@pytest.mark.parametrize("policy", ["abort", "drop"])
def test_a_client_that_raises_on_a_rank_fails_with_the_reason(
    policy: Literal["abort", "drop"], tmp_path: Path, four_cpus: None, caplog: pytest.LogCaptureFixture
) -> None:
    """As with one process, and not as a worker that died; it costs one worker."""

    class Picky(torch.nn.Linear):
        def forward(self, input: torch.Tensor) -> torch.Tensor:
            if bool((input > 1e6).any()):
                raise ValueError("no such input")
            return super().forward(input)

    x, y = torch.randn(36, 12, generator=torch.Generator().manual_seed(1)).numpy(), torch.arange(36).numpy() % 3
    x[-1] = 1e7
    data = fedray.FederatedData.from_arrays(x, y, [*"abc" * 12])
    model = fedray.FederatedModel(lambda: Picky(12, 3), problem.OPTIMIZER)
    args = fedray.TrainArgs(rounds=1, batch_size=8, tracking=[], evaluate_every=0, on_failure=policy)

    def train(place: fedray.Cluster | Literal["inline"], name: str) -> fedray.Result:
        return fedray.train(model, data, args, cluster=place, run_dir=tmp_path / name, progress=False)

    ranks = fedray.Cluster(workers=1, ranks=2)
    if policy == "abort":
        with pytest.raises(
            fedray.RunFailed, match=r"client 'c' failed in round 1 \(train\): ValueError: no such input"
        ):
            train(ranks, "run")
    else:
        ours, alone = train(ranks, "run"), train("inline", "inline")
        assert ours.history[-1].failures == alone.history[-1].failures
        assert ours.history[-1].clients == {"sampled": 3, "ok": 2, "failed": 1}
        for one, other in zip(ours.model.parameters(), alone.model.parameters(), strict=True):
            torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)
    assert caplog.text.count("is replaced") == 1
    assert "ended, as a client failed on one of its ranks, and is replaced (rank " in caplog.text


@pytest.mark.slow
def test_a_run_of_two_ranks_tells_what_one_process_tells_of_the_same_model(tmp_path: Path, four_cpus: None) -> None:
    """Of the first model, before any training: numbers of the test set and of clients' own rows."""
    numbers = torch.Generator().manual_seed(1)
    x, y = torch.randn(60, 3, generator=numbers), torch.randint(2, (60,), generator=numbers)
    data = fedray.FederatedData.from_arrays(x[:40], y[:40], [0, 1, 2, 3] * 10, test=(x[40:], y[40:]))
    args = fedray.TrainArgs(
        rounds=1, batch_size=4, evaluate_before=True, evaluate_batch_size=3, evaluate_clients_every=1
    )

    def first(place: Any, name: str) -> fedray.RoundRecord:
        model = fedray.FederatedModel(lambda: torch.nn.Linear(3, 2))
        held = data.with_holdout(0.3, seed=1)
        return fedray.train(model, held, args, cluster=place, run_dir=tmp_path / name, progress=False).history[0]

    one, two = first("inline", "one"), first(fedray.Cluster(workers=1, ranks=2, cpus=1), "two")
    assert two.round == 0
    assert {"loss", "accuracy"} <= set(two.test)
    assert two.test == one.test
    assert two.clients_test == one.clients_test


@pytest.mark.slow
def test_a_model_that_fails_in_an_evaluation_ends_the_run_with_the_reason(tmp_path: Path, four_cpus: None) -> None:
    """On one of the ranks, while the other waits for it."""

    class Fails(torch.nn.Linear):
        def forward(self, input: torch.Tensor) -> torch.Tensor:
            if float(input.max()) == 29.0:
                raise ValueError("too large")
            return super().forward(input)

    zeros = torch.zeros(10, dtype=torch.int64)
    test = torch.arange(30.0).view(10, 3), zeros
    data = fedray.FederatedData.from_arrays(torch.ones(8, 3), zeros[:8], [0, 1] * 4, test=test)
    args = fedray.TrainArgs(rounds=1, batch_size=2, evaluate_batch_size=1)
    model, place = fedray.FederatedModel(lambda: Fails(3, 2)), fedray.Cluster(workers=1, ranks=2)
    with pytest.raises(fedray.RunFailed, match=r"two workers died of the evaluation .*ValueError: too large") as caught:
        fedray.train(model, data, args, cluster=place, run_dir=tmp_path, progress=False)
    assert "the evaluation on the test set failed" in str(caught.value)
