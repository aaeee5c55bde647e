"""The moment of a round: draws by its name, and nothing shared with another moment."""

from __future__ import annotations

from fedray.core.now import Now
from fedray.core.rng import numpy_generator


def test_draws_are_named_by_seed_round_and_client() -> None:
    def draw(seed: int, round: int, client: int = 0) -> list[float]:
        return list(Now(seed, round).generator(client).random(4))

    assert draw(1, 2, 3) == list(numpy_generator(1, "aggregate", 2, 3).random(4))
    assert draw(1, 2, 3) == draw(1, 2, 3)
    assert len({tuple(draw(*name)) for name in [(1, 2, 3), (2, 2, 3), (1, 3, 3), (1, 2, 4), (1, 2, 0)]}) == 5


def test_moments_share_nothing() -> None:
    one, other = Now(1, 2), Now(1, 2)
    one.metrics["score"], one.shares[3] = 0.5, 1.0
    assert (other.metrics, other.shares, other.state) == ({}, {}, {})
