"""Metrics of one confusion matrix: how often each class was taken for each."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

from fedray.config.binding import check_words, nearest
from fedray.core.errors import ConfigError
from fedray.metrics.base import Metric, metrics
from fedray.metrics.sums import State
from fedray.tasks import Task

Average = Literal["auto", "binary", "macro", "micro", "weighted", "none"]

SPAN = 1 << 20
"""More than there are classes."""


class Cases(NamedTuple):
    """True and false positives and negatives of each class, float64 ``[K]``."""

    tp: Tensor
    fp: Tensor
    fn: Tensor
    tn: Tensor

    def summed(self) -> Cases:
        """Return those of all classes together, ``[1]``."""
        return Cases(*(part.sum(dim=0, keepdim=True) for part in self))


class Confusion(Metric):
    """The base of metrics of the confusion matrix: how often each class was taken for each, over all positions.

    >>> class Errors(Confusion):
    ...     def compute(self, state):
    ...         matrix = self.matrix(state)
    ...         return float(matrix.sum() - matrix.diag().sum())
    >>> Errors().on(torch.tensor([[2.0, 0.0], [2.0, 0.0], [0.0, 1.0]]), torch.tensor([0, 1, 1]))
    1.0
    """

    needs: ClassVar[Literal["classes", "numbers", ""]] = "classes"
    counted: ClassVar[frozenset[str]] = frozenset({"pairs"})

    def update(self, output: Tensor, target: Tensor) -> dict[str, Tensor]:
        """Return a key for each position: of the class that it has, and of the one it was given."""
        found = self.task.answers(output, target)
        keys = found.actual * SPAN + found.predicted
        if self.task.several:
            keys = keys + torch.arange(keys.shape[1], device=keys.device) * SPAN * SPAN
        return {"pairs": keys if found.known is None else keys.masked_fill(~found.known, -1)}

    def matrix(self, state: State) -> Tensor:
        """Return the confusion matrix, ``[K, K]``: a row for each class that is, a column for each that is said.

        Where each class is a question of its own: ``[K, 2, 2]``, a matrix for each.
        """
        # By NumPy, which takes half of torch's time where an evaluation has a matrix for each of many clients.
        keys, counts, known = state["pairs"].keys, state["pairs"].counts, len(self.task.classes)
        question, actual, said = keys // (SPAN * SPAN), keys // SPAN % SPAN, keys % SPAN
        size = max(known, int(actual.max()) + 1, int(said.max()) + 1) if len(keys) else known
        shape = (known, 2, 2) if self.task.several else (size, size)
        place = (question * 2 + actual) * 2 + said if self.task.several else actual * size + said
        found = np.bincount(place, weights=counts, minlength=math.prod(shape))
        return torch.from_numpy(found.reshape(shape))

    def cases(self, state: State) -> Cases:
        """Return how often each class was seen and said."""
        matrix = self.matrix(state)
        if self.task.several:
            return Cases(matrix[:, 1, 1], matrix[:, 0, 1], matrix[:, 1, 0], matrix[:, 0, 0])
        counts = matrix.numpy()
        tp, said, is_ = counts.diagonal().copy(), counts.sum(axis=0), counts.sum(axis=1)
        return Cases(*map(torch.from_numpy, (tp, said - tp, is_ - tp, counts.sum() - said - is_ + tp)))


def part(words: str) -> str:
    """Return a class name as a part of the name of a number: a dot would end it.

    >>> part("St. Gallen")
    'St_Gallen'
    """
    return re.sub(r"[^A-Za-z0-9-]+", "_", words).strip("_") or "_"


@dataclass(frozen=True)
class Averaged(Confusion):
    """The base of metrics of single classes, and of their averages, as scikit-learn has them.

    A class that a client's examples neither have nor were given is left out of its averages.  Of single classes, what
    the examples leave without a value (no positive among them: no sensitivity) is NaN, where scikit-learn warns and
    says 0, so that it drags down no mean over clients; in averages over classes it is 0, as there.

    Args:
        average: ``binary``: of the positive class; ``macro``: the mean over classes; ``weighted``: each class counts as
            often as it is there; ``micro``: of all classes together; ``none``: each class, under its name; ``auto``:
            binary for two classes, else macro.
        positive: the positive class of ``binary``, by name or number; default: the second.
        label: the name of the number in records; default: that of the metric.
    """

    rests_on_classes: ClassVar[bool] = True
    share_of: ClassVar[Literal["class", "others", ""]] = ""  # the examples that the number of a class is a share of

    average: Average = "auto"
    positive: Any = None
    label: str | None = None

    def of(self, task: Task) -> Metric:
        """Return the metric of a task.

        Raises:
            ConfigError: it has no classes, not two for ``binary``, or no such positive class.
        """
        found = super().of(task)
        two = len(task.classes) == 2 and not task.several
        if self.average == "binary" and not two:
            raise ConfigError(f"{self.title}: average=binary is of two classes, and there are {len(task.classes)}")
        if self.positive is not None:
            if not two or self.average not in ("auto", "binary"):
                raise ConfigError(f"{self.title}: positive={self.positive} is for average=binary of two classes")
            if str(self.positive) not in (*task.classes, "0", "1"):
                check_words(f"{self.title}: positive", self.positive)
                known = ", ".join(task.classes)
                hint = nearest(str(self.positive), task.classes)
                raise ConfigError(f"{self.title}: no class is {self.positive!r}{hint}; there are {known}")
        return found

    def ratio(self, cases: Cases) -> tuple[Tensor, Tensor]:
        """Return above and below the line of each class, ``[K]``."""
        raise NotImplementedError

    def compute(self, state: State) -> float | dict[str, float]:
        """Return the average, or the value of each class."""
        cases, names = self.cases(state), self.task.classes
        average = self.average
        if average == "auto":
            average = "binary" if len(names) == 2 and not self.task.several else "macro"
        if average == "micro":
            above, below = self.ratio(cases.summed())
            return float(above / below)
        above, below = self.ratio(cases)
        each = above / below  # 0 / 0 is NaN: it has no value
        if average == "binary":
            return float(each[self._positive()])
        if average == "none":
            return {part(name): float(value) for name, value in zip(names, each.tolist(), strict=False)}
        there = (cases.tp + cases.fp + cases.fn) > 0
        each, weight = each.nan_to_num(0.0)[there], (cases.tp + cases.fn)[there]
        return float(each.mean() if average == "macro" else (each * weight).sum() / weight.sum())

    def shares(self, support: Sequence[int]) -> dict[str, int]:
        """Return how many examples each of its numbers is a share of, by its name; of averages, nothing."""
        if not self.share_of or self.task.several:
            return {}
        counts = [count if self.share_of == "class" else sum(support) - count for count in support]
        if self.average == "none":
            return {f"{self.title}_{part(name)}": n for name, n in zip(self.task.classes, counts, strict=False)}
        single = self.average in ("auto", "binary") and len(self.task.classes) == len(counts) == 2
        return {self.title: counts[self._positive()]} if single else {}

    @property
    def unsaid(self) -> str | None:
        """The class that counts as the positive one though nobody has said so; None: there is no such class."""
        names = self.task.classes
        binary = len(names) == 2 and not self.task.several and self.average in ("auto", "binary")
        return names[1] if binary and self.positive is None else None

    def _positive(self) -> int:
        names = self.task.classes
        if self.positive is None:
            return 1
        return names.index(str(self.positive)) if str(self.positive) in names else int(self.positive)


@metrics.register("precision")
@dataclass(frozen=True)
class Precision(Averaged):
    """``TP / (TP + FP)``: the share of those said to be of a class that are.

    >>> logits, target = torch.tensor([[0.0, 1.0], [0.0, 1.0], [1.0, 0.0]]), torch.tensor([1, 0, 1])
    >>> Precision().on(logits, target)
    0.5
    """

    def ratio(self, cases: Cases) -> tuple[Tensor, Tensor]:
        """Return above and below the line of each class, ``[K]``; who said none of those there are is at 0."""
        said = cases.tp + cases.fp
        return cases.tp, torch.where((said == 0) & (cases.fn > 0), torch.ones_like(said), said)


@metrics.register("recall")
@dataclass(frozen=True)
class Recall(Averaged):
    """``TP / (TP + FN)``: the share of a class that was found.

    >>> logits, target = torch.tensor([[0.0, 1.0], [0.0, 1.0], [1.0, 0.0]]), torch.tensor([1, 0, 1])
    >>> Recall(average="none").on(logits, target)
    {'0': 0.0, '1': 0.5}
    """

    share_of: ClassVar[Literal["class", "others", ""]] = "class"

    def ratio(self, cases: Cases) -> tuple[Tensor, Tensor]:
        """Return above and below the line of each class, ``[K]``."""
        return cases.tp, cases.tp + cases.fn


@metrics.register("sensitivity")
@dataclass(frozen=True)
class Sensitivity(Recall):
    """``TP / (TP + FN)``, recall by the name that medicine has for it.

    >>> logits, target = torch.tensor([[0.0, 1.0], [0.0, 1.0], [1.0, 0.0]]), torch.tensor([1, 0, 1])
    >>> Sensitivity().on(logits, target)
    0.5
    """


@metrics.register("specificity")
@dataclass(frozen=True)
class Specificity(Averaged):
    """``TN / (TN + FP)``: the share of all others that were not taken for the class.

    >>> logits, target = torch.tensor([[0.0, 1.0], [1.0, 0.0], [1.0, 0.0]]), torch.tensor([0, 0, 1])
    >>> Specificity().on(logits, target)
    0.5
    """

    share_of: ClassVar[Literal["class", "others", ""]] = "others"

    def ratio(self, cases: Cases) -> tuple[Tensor, Tensor]:
        """Return above and below the line of each class, ``[K]``."""
        return cases.tn, cases.tn + cases.fp


@metrics.register("f1")
@dataclass(frozen=True)
class F1(Averaged):
    """``2 TP / (2 TP + FP + FN)``: the harmonic mean of precision and recall.

    >>> logits, target = torch.tensor([[0.0, 1.0], [0.0, 1.0], [1.0, 0.0]]), torch.tensor([1, 0, 1])
    >>> F1().on(logits, target), F1(average="macro").on(logits, target)
    (0.5, 0.25)
    """

    def ratio(self, cases: Cases) -> tuple[Tensor, Tensor]:
        """Return above and below the line of each class, ``[K]``."""
        return 2 * cases.tp, 2 * cases.tp + cases.fp + cases.fn


@metrics.register("jaccard")
@dataclass(frozen=True)
class Jaccard(Averaged):
    """``TP / (TP + FP + FN)``: intersection over union.

    >>> logits, target = torch.tensor([[0.0, 1.0], [0.0, 1.0], [1.0, 0.0]]), torch.tensor([1, 0, 1])
    >>> round(Jaccard().on(logits, target), 4)
    0.3333
    """

    def ratio(self, cases: Cases) -> tuple[Tensor, Tensor]:
        """Return above and below the line of each class, ``[K]``."""
        return cases.tp, cases.tp + cases.fp + cases.fn


@metrics.register("kappa")
@dataclass(frozen=True)
class Kappa(Confusion):
    """Cohen's kappa ``(p - e) / (1 - e)``: agreement ``p`` beyond what the shares of the classes ``e`` give by chance.

    >>> logits, target = torch.tensor([[0.0, 1.0], [1.0, 0.0], [1.0, 0.0], [1.0, 0.0]]), torch.tensor([1, 0, 0, 1])
    >>> Kappa().on(logits, target)
    0.5

    Args:
        label: the name of the number in records; default: that of the metric.
    """

    label: str | None = None

    def of(self, task: Task) -> Metric:
        """Return the metric of a task; ConfigError where each class is a question of its own."""
        if task.several:
            raise ConfigError(f"{self.title} is of one class for each example, and the task is {task.name}")
        return super().of(task)

    def compute(self, state: State) -> float:
        """Return kappa; NaN where all is of one class, and said to be."""
        matrix = self.matrix(state)
        total = matrix.sum()
        agreed, chance = matrix.diag().sum() / total, (matrix.sum(dim=0) @ matrix.sum(dim=1)) / total**2
        return float((agreed - chance) / (1 - chance))


@metrics.register("confusion_matrix")
@dataclass(frozen=True)
class ConfusionMatrix(Confusion):
    """The number of examples of each class that was taken for each, in ``tables`` of a record, with the class names.

    Where clients are evaluated, their table (:func:`fedray.read_clients`) has that of each client.

    >>> from fedray.tasks import inferred
    >>> logits, target = torch.tensor([[2.0, 0.0], [2.0, 0.0], [0.0, 1.0]]), torch.tensor([0, 1, 1])
    >>> metric = ConfusionMatrix().of(inferred(logits, target))
    >>> metric.table(metric.state(logits, target))
    {'classes': ['0', '1'], 'counts': [[1, 0], [1, 1]]}
    >>> metric.cells(metric.state(logits, target))[1]
    {'true': '1', 'predicted': '0', 'count': 1}

    Args:
        label: the name of the table in records; default: that of the metric.
    """

    by_client: ClassVar[bool] = True
    label: str | None = None

    def compute(self, state: State) -> dict[str, float]:
        """Return nothing: it is a table."""
        return {}

    def cells(self, state: State) -> list[dict[str, Any]]:
        """Return the counts above zero: ``true`` and ``predicted``, names of classes, and ``count``, row by row.

        Where each class is a question of its own: ``class``, its name, and ``true`` and ``predicted``, 0 or 1.
        """
        table = self.table(state)
        names, counts = table["classes"], np.asarray(table["counts"], np.int64)
        places = zip(*(axis.tolist() for axis in np.nonzero(counts)), strict=True)
        if self.task.several:
            return [
                {"class": names[k], "true": str(one), "predicted": str(said), "count": int(counts[k, one, said])}
                for k, one, said in places
            ]
        return [{"true": names[a], "predicted": names[b], "count": int(counts[a, b])} for a, b in places]

    def table(self, state: State) -> dict[str, Any]:
        """Return ``classes`` and ``counts``: a row for each class that is, a column for each that is said.

        Where each class is a question of its own, ``counts`` has a two by two matrix for each.
        """
        matrix = self.matrix(state)
        names = [*self.task.classes, *map(str, range(len(self.task.classes), len(matrix)))]
        return {"classes": names, "counts": matrix.long().tolist()}


@dataclass(frozen=True)
class Regions(Averaged):
    """The base of metrics of regions: over the pixels of all examples together, the mean over classes.

    Args:
        average: as of :class:`Averaged`.
        positive: likewise.
        label: the name of the number in records; default: that of the metric.
        background: class 0 counts, too; else it is left out of averages.
    """

    rests_on_classes: ClassVar[bool] = False  # a picture has thousands of pixels

    average: Average = "macro"
    background: bool = True

    def cases(self, state: State) -> Cases:
        """Return how often each class was seen and said; nothing of the background, where that is left out."""
        cases = super().cases(state)
        if self.background:
            return cases
        there = (torch.arange(len(cases.tp)) > 0).double()
        return Cases(*(one * there for one in cases))


@metrics.register("dice")
@dataclass(frozen=True)
class Dice(Regions, F1):
    """``2 TP / (2 TP + FP + FN)`` of the pixels of each class, the mean over classes.

    >>> logits, target = torch.tensor([[[2.0, 0.0, 0.0], [0.0, 1.0, 1.0]]]), torch.tensor([[0, 0, 1]])
    >>> round(Dice().on(logits, target), 4), round(Dice(background=False).on(logits, target), 4)
    (0.6667, 0.6667)
    """


@metrics.register("miou")
@dataclass(frozen=True)
class MeanIoU(Regions, Jaccard):
    """Intersection over union, ``TP / (TP + FP + FN)``, of the pixels of each class, the mean over classes.

    >>> logits, target = torch.tensor([[[2.0, 0.0, 0.0], [0.0, 1.0, 1.0]]]), torch.tensor([[0, 0, 1]])
    >>> MeanIoU().on(logits, target)
    0.5
    """
