"""A search: which settings a sweep tries, by drawing them, and which of them go on from rung to rung."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from fedray.core.errors import ConfigError
from fedray.core.monitor import Monitor
from fedray.sweep.grid import SEED, Cell, axes_of, combined, grid
from fedray.sweep.space import draw, ranged, space_of

Setting = tuple[tuple[str, str], ...]
"""The keys of a setting, all but ``seed``, each with its value as YAML text."""


@dataclass(frozen=True)
class Search:
    """The options of a search.

    Args:
        trials: settings to draw; None: every combination of the values is tried.
        sampler: ``random``, or ``tpe``: Optuna's tree-structured Parzen estimator, which draws by what earlier batches
            have reached.
        by: the metric that settings are compared by, ``test.accuracy``; its mean over seeds counts.
        mode: ``min``: less is better; ``max``: more is better; ``auto``: ``min`` for losses and errors.
        rungs: rounds after which only the better settings go on.
        factor: of so many settings, one goes on from a rung.
        seed: names the draws.
        batch: settings that ``tpe`` draws at once, before any of them has ended.

    Raises:
        ConfigError: a value that is not allowed, or options that do not go together.
    """

    trials: int | None = None
    sampler: Literal["random", "tpe"] = "random"
    by: str | None = None
    mode: Literal["auto", "min", "max"] = "auto"
    rungs: tuple[int, ...] = ()
    factor: int = 3
    seed: int = 0
    batch: int = 1

    def __post_init__(self) -> None:
        if self.trials is not None and self.trials < 1:
            raise ConfigError(f"--trials {self.trials}: at least 1")
        if self.sampler == "tpe" and self.trials is None:
            raise ConfigError("--sampler tpe: it draws settings; say how many with --trials")
        if self.factor < 2:
            raise ConfigError(f"--factor {self.factor}: of at least 2 settings one goes on from a rung")
        if list(self.rungs) != sorted({rung for rung in self.rungs if rung >= 1}):
            raise ConfigError(f"--rungs {','.join(map(str, self.rungs))}: rounds are needed that rise, as in 5,15")
        if (self.rungs or self.sampler == "tpe") and self.by is None:
            raise ConfigError("--by: settings are compared by a metric; name it, as in --by test.accuracy")
        _ = self.monitor

    @property
    def monitor(self) -> Monitor:
        """The metric that settings are compared by.

        Raises:
            ConfigError: no record can have it.
        """
        try:
            return Monitor(self.by or "train.loss", self.mode)
        except ValueError as error:
            raise ConfigError(f"--by: {error}") from None

    @property
    def staged(self) -> bool:
        """True where what is run next depends on what has ended."""
        return bool(self.rungs) or self.sampler == "tpe"

    def cells(self, axes: Sequence[str], batches: Sequence[Sequence[Setting]]) -> tuple[Cell, ...]:
        """Return the cells of the axes: each setting once, with each seed.

        Args:
            axes: ``key=value,value...``.
            batches: the settings that ``tpe`` has drawn so far.

        Raises:
            ConfigError: a mistake in an axis, or a range without ``trials``.
        """
        if self.trials is None:
            for key, values in axes_of(axes).items():
                if ranged(key, values):
                    raise ConfigError(
                        f"{key}: values are drawn from a range; say how many with --trials, as in --trials 20"
                    )
            return tuple(grid(axes))
        texts = {key: ",".join(values) for key, values in axes_of(axes).items()}
        space = space_of(texts)
        if not space:
            raise ConfigError(
                "--trials: there is nothing to draw; give a key other than seed several values or a range"
            )
        drawn = [one for batch in batches for one in batch]
        if self.sampler == "random":
            drawn = [tuple(draw(space, trial, self.seed).items()) for trial in range(self.trials)]
        seeds = axes_of(axes).get(SEED)
        return combined(list(axes_of(axes)), list(dict.fromkeys(drawn)), seeds)

    def better(self, values: Mapping[Setting, float | None], among: Sequence[float | None]) -> list[Setting]:
        """Return the settings that go on from a rung, in their order.

        A share of ``1 / factor`` of all that have reached the rung goes on, at least one; of equal ones the first. One
        without a finite value never does.

        >>> search = Search(by="test.accuracy", rungs=(3,), factor=2)
        >>> values = {(("lr", "1"),): 0.5, (("lr", "2"),): 0.9, (("lr", "3"),): None}
        >>> search.better(values, among=[])
        [(('lr', '2'),)]

        Args:
            values: of the settings in question, the mean over seeds; None: one of its runs has failed.
            among: those of the settings that came to the rung before.
        """
        sign = -1.0 if self.monitor.direction == "max" else 1.0
        everyone = [*among, *values.values()]
        ranked = [(sign * value, i) for i, value in enumerate(everyone) if value is not None and math.isfinite(value)]
        best = {i for _, i in sorted(ranked)[: max(1, len(everyone) // self.factor)]}
        return [setting for i, setting in enumerate(values, start=len(among)) if i in best]

    def to_json(self) -> dict[str, Any]:
        """Return the options ready for JSON."""
        return {**vars(self), "rungs": list(self.rungs)}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Search:
        """Make it of what ``to_json`` has returned."""
        return cls(**{**content, "rungs": tuple(content.get("rungs", ()))})
