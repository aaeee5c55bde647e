"""Metrics of how well scores rank: of a histogram of margins in bfloat16, which is counted exactly."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
import torch
from torch import Tensor

from fedray.core.errors import ConfigError
from fedray.core.messages import Floats, Ints
from fedray.metrics.base import Metric, metrics
from fedray.metrics.confusion import part
from fedray.metrics.sums import Counts, State
from fedray.tasks import Task

MOST_CLASSES = 1_000
"""The classes, or labels, above which no ranks are counted."""

_SCORES = 1 << 17
"""Keys of one question: one of 2**16 bfloat16 scores, and if the class is there."""


def keys_of(scores: Tensor) -> Tensor:
    """Return integers, below 2**16, in the order of scores as bfloat16 knows them.

    >>> keys_of(torch.tensor([-2.0, -0.0, 0.0, 1.0]))
    tensor([16383, 32768, 32768, 49024])
    """
    # There are two zeros, and a number may round to the other one.
    bits = (scores.float().to(torch.bfloat16) + 0.0).view(torch.int16).to(torch.int64) & 0xFFFF
    return torch.where(bits >= 0x8000, 0xFFFF - bits, bits + 0x8000)


@dataclass(frozen=True)
class Ranked(Metric):
    """The base of metrics of a ranking: of two classes by the score of the second, of more by each against the others.

    Scores are counted as bfloat16 numbers, of log-odds: equal ones are ties.  A class that all or none of the examples
    have is left out of the mean; if that leaves none, there is no value (NaN).

    Args:
        average: ``macro``: the mean over classes; ``none``: each class, under its name.
        label: the name of the number in records; default: that of the metric.
    """

    average: Literal["macro", "none"] = "macro"
    label: str | None = None

    needs: ClassVar[Literal["classes", "numbers", ""]] = "classes"
    counted: ClassVar[frozenset[str]] = frozenset({"scores"})
    rests_on_classes: ClassVar[bool] = True

    def of(self, task: Task) -> Metric:
        """Return the metric of a task; ConfigError where it has too many classes."""
        if task.kind == "classes" and (count := len(task.classes)) > MOST_CLASSES:
            raise ConfigError(
                f"{self.title} counts each position once for each of {count:,} classes, which would take longer than "
                f"training; it is for at most {MOST_CLASSES:,}, take accuracy or perplexity"
            )
        return super().of(task)

    def update(self, output: Tensor, target: Tensor) -> dict[str, Tensor]:
        """Return a key for each question and position: of the score, and if the class is there."""
        found = self.task.ranking(output, target)
        question = torch.arange(found.scores.shape[1], device=output.device).view(1, -1, 1)
        keys = question * _SCORES + keys_of(found.scores) * 2 + found.positive.to(torch.int64)
        if found.known is not None:
            keys = keys.masked_fill(~found.known.unsqueeze(1), -1)
        broken = torch.isnan(found.scores).flatten(1).any(dim=1)
        return {"scores": keys.flatten(1), "broken": broken.to(torch.float32)}

    def score(self, positive: Floats, negative: Floats) -> float:
        """Return the number of one question.

        Args:
            positive: the examples of the class with each score, which rises, ``[S]``.
            negative: the others, ``[S]``.
        """
        raise NotImplementedError

    def compute(self, state: State) -> float | dict[str, float]:
        """Return the mean over questions, or each."""
        if float(state["broken"]):
            return float("nan")
        counts: Counts = state["scores"]
        question = counts.keys // _SCORES
        questions = range(int(question.max()) + 1 if len(question) else 0)
        each = [self._one(counts.keys[question == k] % _SCORES, counts.counts[question == k]) for k in questions]
        if self.average == "none" and len(each) > 1:
            return {part(name): value for name, value in zip(self.task.classes, each, strict=False)}
        return _mean(each)

    def _one(self, keys: Ints, counts: Ints) -> float:
        scores, place = np.unique(keys >> 1, return_inverse=True)
        both = np.zeros((2, len(scores)))
        np.add.at(both, (keys & 1, place), counts)
        negative, positive = both
        if not positive.sum() or not negative.sum():
            return float("nan")
        return self.score(positive, negative)


def _mean(values: Sequence[float]) -> float:
    there = [value for value in values if value == value]
    return sum(there) / len(there) if there else float("nan")


@metrics.register("auroc")
@dataclass(frozen=True)
class AUROC(Ranked):
    """The area under the ROC curve: the chance that one of the class scores higher than another; ties count one half.

    Of more than two classes, the mean over each against all others (``ovr`` of scikit-learn).  Scores are rounded to
    bfloat16, which moves it by less than 1e-4 for thousands of examples.

    >>> AUROC().on(torch.tensor([[0.0, 1.0], [0.0, 2.0], [0.0, 0.5], [0.0, 3.0]]), torch.tensor([0, 1, 0, 1]))
    1.0
    """

    def areas(self, classes: int) -> dict[str, int]:
        """Return the class of each area, by its name; of a mean over classes, nothing."""
        if self.task.several:
            return {}
        if classes == len(self.task.classes) == 2:
            return {self.title: 1}
        each = self.task.classes if self.average == "none" else ()
        return {f"{self.title}_{part(name)}": place for place, name in enumerate(each)}

    def score(self, positive: Floats, negative: Floats) -> float:
        """Return the area."""
        below = np.cumsum(negative) - negative
        return float((positive * (below + negative / 2)).sum() / (positive.sum() * negative.sum()))


@metrics.register("average_precision")
@dataclass(frozen=True)
class AveragePrecision(Ranked):
    """The mean precision over the positives, from the highest score down: ``sum_n (R_n - R_{n-1}) P_n``.

    Of more than two classes, the mean over each against all others.  Scores are rounded to bfloat16, which moves it by
    less than 2e-3 for thousands of examples.

    >>> AveragePrecision().on(torch.tensor([[0.0, 1.0], [0.0, 2.0], [0.0, 3.0]]), torch.tensor([1, 0, 1]))
    0.8333333333333333
    """

    def score(self, positive: Floats, negative: Floats) -> float:
        """Return the average precision."""
        found, said = np.cumsum(positive[::-1]), np.cumsum((positive + negative)[::-1])
        return float((positive[::-1] * found / said).sum() / positive.sum())
