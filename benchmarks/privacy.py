"""The cost of privacy to a model of digits: accuracy at epsilon 1, 3, 8 and without: ``make reference-privacy``.

The digits that fedray comes with, resampled to 1,000 clients, with central differential privacy for each of them.
"""

from __future__ import annotations

import argparse
import logging
import math
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

import fedray
from benchmarks.rows import Found, interval, keeping, kept, written
from benchmarks.settings import digits
from fedray.data.columns.base import ClientData
from fedray.report import save_figures

if TYPE_CHECKING:
    from matplotlib.axes import Axes

CLIENTS, ROWS, TEST = 1000, 14, 360
"""Clients, the rows that each draws (as many as 100 clients of these digits would have), and images of the test set."""

PICTURE = "privacy-accuracy"
"""The name of the picture, which stands beside the page."""


@dataclass(frozen=True)
class Recipe:
    """The training of a row of the table.

    Args:
        rate: each client's probability of being in a round.
        rounds: how many.
        norm: what updates are clipped to; of no use without privacy.
        server_lr: learning rate of the server.
    """

    rate: float
    rounds: int
    norm: float
    server_lr: float


RECIPES = {
    1.0: Recipe(0.5, 80, 0.3, 10 / 3),
    3.0: Recipe(0.5, 80, 0.3, 8.0),
    8.0: Recipe(0.5, 160, 0.3, 3.0),
    math.inf: Recipe(0.5, 160, 0.3, 2.0),
}
"""By epsilon: the most accurate of those tried on seeds 1000 and 1001, which the table does not have."""


def resampled(seed: int) -> ClientData:
    """Split the digits into a test set and rows to train on, and let each client draw some of these, with replacement.

    >>> data = resampled(0)
    >>> len(data), set(data.sizes.tolist())
    (1000, {14})
    """
    pixels, y = digits()
    x = pixels.astype(np.float32) / 240
    draw = np.random.default_rng(seed)
    test, train = np.split(draw.permutation(len(y)), [TEST])
    rows = draw.choice(train, CLIENTS * ROWS)
    owner = np.repeat(np.arange(CLIENTS), ROWS)
    return fedray.FederatedData.from_arrays(x[rows], y[rows], owner, test=(x[test], y[test]))


def measured(epsilon: float, seed: int, recipe: Recipe | None = None) -> Found:
    """Run a row of the table, and return what it reached, the noise it took, and its processor seconds.

    Args:
        epsilon: the privacy of the whole run, at delta 1e-5; infinity: no clip and no noise.
        seed: of split, first model, cohorts and noise.
        recipe: by default that of ``RECIPES``.
    """
    recipe = recipe or RECIPES[epsilon]
    options: dict[str, Any] = (
        {} if math.isinf(epsilon) else {"privacy": fedray.Privacy(epsilon=epsilon, norm=recipe.norm, noise="seeded")}
    )
    started = time.process_time()
    with tempfile.TemporaryDirectory() as folder:
        result = fedray.train(
            fedray.FederatedModel({"name": "mlp", "hidden": [64]}),
            resampled(seed),
            fedray.TrainArgs(
                rounds=recipe.rounds,
                seed=seed,
                epochs=1,
                batch_size=4,
                optimizer={"name": "sgd", "lr": 0.3},
                evaluate_every=recipe.rounds,
                checkpoint_every=0,
                tracking=[],
            ),
            sampler=fedray.Poisson(recipe.rate),
            server={"name": "sgd", "lr": recipe.server_lr},
            cluster="inline",
            run_dir=Path(folder) / "run",
            progress=False,
            **options,
        )
    seconds = time.process_time() - started
    if result.stopped or len(result.history) != recipe.rounds:
        raise SystemExit("stopped before its last round; --lines FILE keeps what is measured")
    last = result.history[-1]
    told = last.metrics.get("privacy", {})
    return {
        "epsilon": None if math.isinf(epsilon) else epsilon,  # JSON has no infinity
        "seed": seed,
        "accuracy": last.test["accuracy"],
        "noise_multiplier": told.get("noise_multiplier", 0.0),
        "norm": told.get("clip"),
        "rate": recipe.rate,
        "rounds": recipe.rounds,
        "seconds": seconds,
    }


def by_epsilon(found: Sequence[Found]) -> dict[float, list[Found]]:
    """Sort rows by their epsilon, the largest, none, last."""
    named = [(math.inf if one["epsilon"] is None else one["epsilon"], one) for one in found]
    return {epsilon: [one for key, one in named if key == epsilon] for epsilon in sorted({key for key, _ in named})}


def table(found: Sequence[Found]) -> Iterator[str]:
    """Yield the lines of the table of what ``measured`` has returned.

    A row of fewer seeds than others says of how many.
    """
    seeds = len({one["seed"] for one in found})
    head = ["accuracy", "noise multiplier", "clip", "rate", "rounds", "processor seconds"]
    yield f"| {' | '.join([f'epsilon, {seeds} seed' + 's' * (seeds != 1), *head])} |"
    yield "|---|---|---|---|---|---|---|"
    for epsilon, own in by_epsilon(found).items():
        mean, half = interval([one["accuracy"] for one in own])
        name = "∞" if math.isinf(epsilon) else f"{epsilon:g}"
        fewer = f" ({len(own)} seed{'s' * (len(own) > 1)})" if len(own) < seeds else ""
        spread = f" ± {half:.3f}" if len(own) > 1 else ""
        first, seconds = own[0], float(np.mean([one["seconds"] for one in own]))
        clip = "none" if first["norm"] is None else f"{first['norm']:g}"
        shown = [f"{name}{fewer}", f"{mean:.3f}{spread}", f"{first['noise_multiplier']:g}", clip]
        yield f"| {' | '.join([*shown, format(first['rate'], 'g'), str(first['rounds']), f'{seconds:.1f}'])} |"


@dataclass(frozen=True)
class AgainstEpsilon:
    """The picture: accuracy against epsilon, with its interval; that without privacy is a line of its own.

    Args:
        points: epsilon, mean accuracy and half width of its interval, by rising epsilon.
    """

    points: Sequence[tuple[float, float, float]]
    name: str = PICTURE
    caption: str = "Accuracy on digits against epsilon, with 95 % intervals over the seeds, and that without privacy."
    inches: tuple[float, float] = (5.0, 3.0)

    @classmethod
    def of(cls, found: Sequence[Found]) -> AgainstEpsilon:
        """Of what ``measured`` has returned."""
        return cls([(key, *interval([one["accuracy"] for one in own])) for key, own in by_epsilon(found).items()])

    def draw(self, axes: Axes) -> None:
        """Draw it."""
        from fedray.report.charts import FAINT, SERIES

        private = [point for point in self.points if math.isfinite(point[0])]
        for _, level, spread in (point for point in self.points if math.isinf(point[0])):
            axes.axhline(level, color=FAINT, linestyle="--", label="without privacy")
            axes.axhspan(level - spread, level + spread, color=FAINT, alpha=0.18, linewidth=0)
        if private:
            at, mean, half = ([point[place] for point in private] for place in range(3))
            axes.errorbar(at, mean, half, color=SERIES[0], marker="o", capsize=3, label="client-level privacy")
            axes.set_xscale("log")
            axes.set_xticks([epsilon for epsilon, *_ in private], [f"{epsilon:g}" for epsilon, *_ in private])
            axes.minorticks_off()
        axes.set(xlabel="epsilon of the run, at delta 0.00001", ylabel="accuracy on the test set")
        axes.grid(axis="y")
        axes.legend(loc="lower right")

    def table(self) -> Iterator[Sequence[Any]]:
        """Yield its numbers."""
        yield ["epsilon", "accuracy", "half width of the interval"]
        yield from self.points


def write(page: Path, found: Sequence[Found]) -> None:
    """Make the table of a page, and the picture beside it, anew."""
    page.write_text(written(page.read_text(), list(table(found)), "| epsilon, "))
    with tempfile.TemporaryDirectory() as folder:
        files = save_figures([AgainstEpsilon.of(found)], Path(folder))
        (page.parent / f"{PICTURE}.svg").write_bytes(next(one for one in files if one.suffix == ".svg").read_bytes())


def main() -> int:
    """Measure what is asked for, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--epsilons", type=float, nargs="+", default=list(RECIPES), choices=list(RECIPES))
    parser.add_argument("--lines", type=Path, help="a file of JSON lines: what it has is not measured again")
    parser.add_argument("--write", type=Path, help="a page whose table, and the picture beside it, are made anew")
    asked = parser.parse_args()
    found = kept(asked.lines)
    known = {(epsilon, one["seed"]) for epsilon, rows in by_epsilon(found).items() for one in rows}
    left = [
        (epsilon, seed) for seed in range(asked.seeds) for epsilon in asked.epsilons if (epsilon, seed) not in known
    ]
    found.extend(keeping((measured(epsilon, seed) for epsilon, seed in left), asked.lines))
    print("\n".join(table(found)))
    if asked.write:
        write(asked.write, found)
    return 0


if __name__ == "__main__":
    # Switches of the process, which is ours here alone.
    logging.getLogger("fedray").setLevel(logging.ERROR)
    torch.set_num_threads(1)
    sys.exit(main())
