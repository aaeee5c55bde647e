"""Top-k: what is sent and what is kept are what there was, and each client, and each transform, keeps its own."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fedray.core.fields import Field
from fedray.rundir.state_rows import StateRows
from fedray.sampling import Uniform
from fedray.transforms import TopK
from fedray.transforms.codec import encoded_bytes
from tests.aggregators.test_mean import update
from tests.helpers import class_problem, federation

NAMES = ["transforms[0].residual", "transforms[1].residual"]


@given(st.integers(1, 4), st.integers(1, 30), st.floats(0.01, 1.0), st.integers(0, 2**16))
def test_what_is_sent_and_what_is_kept_is_what_there_was(rows: int, width: int, fraction: float, seed: int) -> None:
    draw = np.random.default_rng(seed)
    delta, residual = (torch.from_numpy(draw.standard_normal((rows, width)).astype("f4")) for _ in range(2))
    block = update(delta.clone(), [1.0] * rows)
    block.state["residual"] = residual.clone()
    topk = TopK(fraction)
    topk.on_clients(block)
    sent, kept, wanted = block.parts["delta"], block.state["residual"], delta + residual
    assert torch.equal(sent + kept, wanted)
    assert bool((torch.where(sent != 0, kept, torch.zeros(1)) == 0).all())
    assert (sent != 0).sum(dim=1).tolist() == [topk.kept(width)] * rows
    largest = np.sort(wanted.abs().numpy(), axis=1)[:, ::-1][:, : topk.kept(width)]
    np.testing.assert_array_equal(np.sort(sent.abs().numpy(), axis=1)[:, ::-1][:, : topk.kept(width)], largest)


def test_without_feedback_the_rest_is_lost_and_nothing_is_kept(tmp_path: Path) -> None:
    block = update(torch.tensor([[1.0, -3.0, 2.0]]), [1.0])
    TopK(0.4, error_feedback=False).on_clients(block)
    assert block.parts["delta"].tolist() == [[0.0, -3.0, 2.0]]
    assert not block.state
    run = federation(class_problem(), tmp_path, transforms=[TopK(0.4, error_feedback=False)], rounds=2)
    run.run()
    assert not run.state.store.rows
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("feedback", [True, False])
def test_sending_everything_changes_no_bit(feedback: bool, tmp_path: Path) -> None:
    plain = federation(class_problem(), tmp_path / "a")
    everything = federation(class_problem(), tmp_path / "b", transforms=[TopK(1.0, error_feedback=feedback)])
    plain.run()
    everything.run()
    assert torch.equal(plain.vector, everything.vector)


def test_a_residual_waits_for_its_client(tmp_path: Path) -> None:
    run = federation(class_problem(), tmp_path, transforms=[TopK(0.1)], rounds=1, sampler=Uniform(2))
    run.run()
    first = run.plan.cohort(1)
    rows = StateRows(tmp_path, run.job.state_fields())
    kept, known = rows.read(first, run.state.store.rows, torch.device("cpu"))
    rows.close()
    assert known.tolist() == [True, True]
    assert sorted(run.state.store.rows) == first.tolist()
    assert bool((kept["transforms[0].residual"].abs().amax(dim=1) > 0).all())


def test_each_keeps_its_own_residual(tmp_path: Path) -> None:
    """Of two, the second finds what it left out itself, not what the first did."""
    pair = [TopK(0.5), TopK(0.2)]
    run = federation(class_problem(), tmp_path, transforms=pair)
    assert run.job.state_fields() == dict.fromkeys(NAMES, Field(run.plan.layout.size))
    draw = np.random.default_rng(2)
    first, second, rows = (torch.from_numpy(draw.standard_normal((3, 20)).astype("f4")) for _ in range(3))
    alone = update(rows.clone(), [1.0] * 3)
    left = []
    for transform, residual in zip(pair, (first, second), strict=True):
        alone.state = {"residual": residual.clone()}
        transform.on_clients(alone)
        left.append(alone.state["residual"])
    together = update(rows.clone(), [1.0] * 3)
    together.state = {"control": rows.clone(), **dict(zip(NAMES, (first.clone(), second.clone()), strict=True))}
    run.plan.algorithm.transforms.on_clients(together, {})
    assert torch.equal(together.parts["delta"], alone.parts["delta"])
    assert sorted(together.state) == ["control", *NAMES]
    assert torch.equal(together.state["control"], rows), "a rule's own is left alone"
    for name, expected in zip(NAMES, left, strict=True):
        assert torch.equal(together.state[name], expected)


def test_what_two_left_out_is_stored_apart(tmp_path: Path) -> None:
    run = federation(class_problem(), tmp_path, transforms=[TopK(0.5), TopK(0.2)], rounds=1)
    run.run()
    rows = StateRows(tmp_path, run.job.state_fields())
    kept, _ = rows.read(run.plan.cohort(1), run.state.store.rows, torch.device("cpu"))
    rows.close()
    first, second = (kept[name] != 0 for name in NAMES)
    assert bool(first.any(dim=1).all())
    assert bool(second.any(dim=1).all())
    assert not bool((first & second).any()), "what the first keeps back never reached the second"


@pytest.mark.parametrize(
    ("size", "fraction", "kept"),
    [(10, 0.1, 1), (10, 0.11, 2), (10, 1.0, 10), (3, 0.01, 1), (100, 0.07, 7), (7, 0.5, 4)],
)
def test_how_many_are_sent(size: int, fraction: float, kept: int) -> None:
    assert TopK(fraction).kept(size) == kept
    assert encoded_bytes([TopK(fraction)], size) == 8 * kept
