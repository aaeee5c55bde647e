"""Codecs in a run: what is folded and what clients train from is what comes out at the other end, draw by draw."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from fedray.aggregators import Median
from fedray.aggregators.gathered import Gathered, Rows
from fedray.algorithms import FedAvg, Scaffold
from fedray.core.messages import Parts
from fedray.core.now import Now
from fedray.core.rng import numpy_generator
from fedray.transforms import BF16, Clip, Codec, Int8, TopK, Transform
from fedray.transforms.codec import Draws, encoded_bytes, travelled
from tests.helpers import Federation, class_problem, federation

PROBLEM = class_problem((7, 3, 12, 9, 5), test=20)
SIZE = 83


class Mean64(Gathered):
    """The plain mean in float64, which keeps what it was shown."""

    def __init__(self) -> None:
        self.seen: Rows | None = None

    def aggregate(self, rows: Rows, now: Now) -> Parts:
        self.seen = Rows(rows.clients, rows.weight, {name: part.clone() for name, part in rows.parts.items()})
        return {name: part.double().mean(dim=0).float() for name, part in rows.parts.items()}


def run(folder: Path, transforms: list[Transform], **options: Any) -> Federation:
    return federation(PROBLEM, folder, transforms=transforms, **{"rounds": 1, **options})


def int8_numpy(row: NDArray[Any], generator: np.random.Generator | None) -> NDArray[np.float64]:
    """One row through int8, in NumPy and float64, but for the scales, which travel in float32."""
    drawn = generator.random(len(row), dtype=np.float32) if generator else None
    out = np.zeros(len(row))
    for start in range(0, len(row), 256):
        part = row[start : start + 256].astype("f8")
        scale = float(np.float32(np.abs(part).max() / 127)) or 1.0
        steps = part / scale
        low = np.floor(steps)
        whole = np.rint(steps) if drawn is None else low + (drawn[start : start + 256] < steps - low)
        out[start : start + 256] = np.clip(whole, -127, 127) * scale
    return out


@pytest.mark.parametrize("rounding", ["stochastic", "nearest"])
def test_the_server_folds_what_it_decodes(rounding: Any, tmp_path: Path) -> None:
    """Each update in float64 NumPy, with the draws that bear the client's name."""
    before, after = Mean64(), Mean64()
    run(tmp_path / "before", [], aggregator=before).run()
    encoded = run(tmp_path / "after", [Int8(rounding)], aggregator=after)
    encoded.run()
    assert before.seen
    assert after.seen
    seed, keys = encoded.plan.task.seed, PROBLEM.data.keys(before.seen.clients)
    for key, row, got in zip(keys.tolist(), before.seen.delta.numpy(), after.seen.delta.numpy(), strict=True):
        draws = numpy_generator(seed, "encode", 1, key) if rounding == "stochastic" else None
        expected = int8_numpy(row, draws)
        # A float32 quotient may lie on the other side of a draw, or of a half, for an entry or two.
        step = np.abs(row).max() / 127
        assert (np.abs(got - expected) > 1e-3 * step).sum() <= 2
        assert np.abs(got - row).max() <= step * (1 + 1e-5)


def test_clients_train_from_the_decoded_broadcast_and_the_server_moves_its_own(tmp_path: Path) -> None:
    rounded, plain = run(tmp_path / "a", [BF16("down")]), run(tmp_path / "b", [])
    start = plain.vector.clone()
    heard = start.to(torch.bfloat16).float()
    assert not torch.equal(heard, start)
    plain.vector.copy_(heard)
    rounded.run()
    plain.run()
    change = plain.vector - heard
    # To a rounding of the addition, which begins from another number.
    torch.testing.assert_close(rounded.vector - start, change, rtol=0, atol=3e-7)
    assert float((rounded.vector - plain.vector).abs().max()) > 1e-4, "the server's own is not the decoded one"


def test_what_is_evaluated_is_the_servers_model(tmp_path: Path) -> None:
    rounded = run(tmp_path, [Int8(direction="down")])
    (record,) = rounded.run()
    model, test = PROBLEM.model_fn(), PROBLEM.data.test
    assert test is not None
    rounded.plan.layout.show(model, rounded.vector)
    with torch.no_grad():
        expected = PROBLEM.loss_fn(model(torch.as_tensor(test.x)), torch.as_tensor(test.y))
    assert record.test["loss"] == pytest.approx(float(expected), rel=1e-6)


@pytest.mark.parametrize("codec", [BF16("both"), Int8(direction="both"), Int8("nearest", "both")], ids=repr)
@pytest.mark.parametrize("algorithm", [FedAvg(), Scaffold()], ids=repr)
def test_blocks_do_not_show(codec: Codec, algorithm: Any, tmp_path: Path) -> None:
    """A client's draws are its own: in a stack of three, of one, or of all, it sends the same."""
    found = [Mean64() for _ in range(3)]
    for rule, stack in zip(found, (1, 3, 5), strict=True):
        federation(
            PROBLEM, tmp_path / str(stack), algorithm, transforms=[codec], stack=stack, rounds=1, aggregator=rule
        ).run()
    seen = [rule.seen.delta for rule in found if rule.seen]
    step = float(seen[0].abs().max()) / 127
    for other in seen[1:]:
        # Stacked and alone differ in the last digits, which may tip a rounding over.
        assert int(((other - seen[0]).abs() > 1e-5).sum()) <= 3
        assert float((other - seen[0]).abs().max()) <= 1.01 * step


@pytest.mark.parametrize(
    ("transforms", "up", "down"),
    [
        ([], 4 * SIZE, 4 * SIZE),
        ([BF16()], 2 * SIZE, 4 * SIZE),
        ([BF16("down")], 4 * SIZE, 2 * SIZE),
        ([Int8(direction="both")], SIZE + 4, SIZE + 4),
        ([TopK(0.25)], 8 * 21, 4 * SIZE),
        ([TopK(0.25), Int8()], 21 * (4 + 1) + 4, 4 * SIZE),
        ([Clip(1.0), TopK(0.25), BF16("both")], 21 * (4 + 2), 2 * SIZE),
    ],
    ids=repr,
)
def test_bytes_are_counted_as_encoded(transforms: list[Transform], up: int, down: int, tmp_path: Path) -> None:
    (record,) = run(tmp_path, transforms).run()
    assert record.bytes["up"] == 5 * up
    assert record.bytes["down"] == 5 * down


def test_other_parts_travel_as_they_are(tmp_path: Path) -> None:
    """The control variates of SCAFFOLD, here and there, in float32."""
    federation_ = federation(PROBLEM, tmp_path, Scaffold(), transforms=[Int8(direction="both")], rounds=1)
    (record,) = federation_.run()
    assert record.bytes["up"] == record.bytes["down"] == 5 * (SIZE + 4 + 4 * SIZE)


def test_what_has_no_codec_up_is_left_alone(tmp_path: Path) -> None:
    """A sparse update arrives bit by bit as it was sent, and a codec of the broadcast changes no update."""
    one, other = run(tmp_path / "a", [TopK(0.3)]), run(tmp_path / "b", [Clip(1e9), TopK(0.3)])
    one.run()
    other.run()
    assert torch.equal(one.vector, other.vector)
    draws, rows = Draws(), torch.randn(3, 50, generator=torch.Generator().manual_seed(1))
    assert torch.equal(travelled((), rows, draws), rows)
    sparse = rows.masked_fill(rows.abs() < 1.0, 0.0)
    assert torch.equal(travelled([TopK(1.0)], sparse, draws), sparse)


def test_a_diverged_update_is_not_made_finite(tmp_path: Path) -> None:
    for codec in (BF16(), Int8(), Int8("nearest"), TopK(0.5)):
        for bad in (float("nan"), float("inf"), -float("inf")):
            rows = torch.randn(2, 300)
            rows[1, 7] = bad
            draws = Draws(1, "encode", 1, [3, 4])
            got = travelled([codec], rows, draws)
            assert bool(torch.isfinite(got[0]).all())
            assert not bool(torch.isfinite(got[1]).all()), (codec, bad)


def test_single_updates_may_be_looked_at_once_they_are_decoded(tmp_path: Path) -> None:
    middle = run(tmp_path, [Int8()], aggregator=Median())
    start = middle.vector.clone()
    middle.run()
    assert not torch.equal(middle.vector, start)


def test_nothing_to_send_costs_nothing() -> None:
    for codec in (BF16(), Int8(), TopK(0.5)):
        assert encoded_bytes([codec], 0) == 0
        assert travelled([codec], torch.empty(3, 0), Draws(keys=(1, 2, 3))).shape == (3, 0)
