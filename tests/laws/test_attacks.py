"""A fifth of the clients lies: the mean breaks, and the robust aggregators hold."""

from __future__ import annotations

from pathlib import Path

import pytest

import fedray
from fedray.aggregators import Aggregator
from fedray.attacks import Attack
from fedray.config.registry import name_of

MEAN = fedray.TrimmedMean(0.0)
"""The plain mean, of updates that are gathered, so that every attack can be shown them."""

HOLD: list[Aggregator] = [
    fedray.Median(),
    fedray.TrimmedMean(0.25),
    fedray.Krum(4),
    fedray.MultiKrum(4),
    fedray.GeometricMedian(),
    fedray.CenteredClip(0.5, steps=3),
]


def accuracy(folder: Path, aggregator: Aggregator, attack: Attack | None) -> float:
    """Digits over 20 clients, of whom four attack, after 15 rounds."""
    result = fedray.train(
        fedray.FederatedModel({"name": "mlp", "hidden": [32]}),
        {"name": "digits", "flat": True, "partition": {"name": "iid", "clients": 20}},
        fedray.TrainArgs(
            rounds=15,
            epochs=2,
            batch_size=16,
            optimizer={"name": "sgd", "lr": 0.1},
            tracking=[],
            evaluate_every=15,
            checkpoint_every=0,
            seed=1,
        ),
        aggregator=aggregator,
        attack=attack,
        cluster="inline",
        run_dir=folder,
        progress=False,
    )
    assert len(result.history[-1].attackers) == (4 if attack else 0)
    return result.history[-1].test["accuracy"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("attack", "broken"),
    [
        (fedray.SignFlip(0.2), 0.2),
        (fedray.GaussianAttack(0.2), 0.5),
        # Far beyond what hides among the others: where they do hide, they cost little, and Krum chooses them.
        (fedray.ALIE(0.2, z=8.0), 0.6),
    ],
)
def test_the_mean_breaks_and_the_robust_hold(attack: Attack, broken: float, tmp_path: Path) -> None:
    assert accuracy(tmp_path / "honest", MEAN, None) >= 0.87
    assert accuracy(tmp_path / "mean", MEAN, attack) <= broken
    held = {name_of(rule): accuracy(tmp_path / name_of(rule), rule, attack) for rule in HOLD}
    assert {name: figure for name, figure in held.items() if figure < 0.7} == {}
