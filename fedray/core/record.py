"""The record of a round, one line of ``metrics.jsonl``; and what is known of a metric by its name."""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, fields
from typing import Any

_LESS_IS_BETTER = frozenset({"brier", "error", "loss", "mae", "mse", "nll", "perplexity", "rmse", "std"})


VIEWS = {"global": "clients_test", "personal": "clients_personal", "finetuned": "clients_finetuned"}
"""The views of an evaluation of clients, each with the section of a record that has its numbers."""


OWN = "own"
"""The name of a section that no record has: the numbers of the model that each client would use, see :func:`own`."""


SPREAD = ("mean", "client_mean", "std", "p10", "p50", "p90", "worst")
"""The numbers that describe how a metric spreads over clients."""


@dataclass(slots=True)
class RoundRecord:
    """A finished round.

    >>> record = RoundRecord(3, seconds=2.0, clients={"sampled": 10, "ok": 9, "failed": 1}, train={"loss": 0.5})
    >>> record.to_json()["clients"], RoundRecord.from_json(record.to_json()) == record
    ({'sampled': 10, 'ok': 9, 'failed': 1}, True)

    Args:
        round: number, from 1; 0 stands for the model before training, if it is evaluated.
        seconds: wall time of the round.
        phases: seconds by phase: ``broadcast``, ``train``, ``aggregate``, ``evaluate`` (worker seconds; overlapped
            with the next round's training, unless somebody decides by the record whether there is to be one),
            ``checkpoint`` (in the background, likewise).
        clients: ``sampled``, ``ok``, ``failed``; and ``dropped``, those who dropped out under ``failures.dropout``.
        examples: training examples used, counted once for each local epoch.
        train: ``loss``, the mean over examples, or over their positions that count, of all local steps; ``lr``, the
            clients' learning rate.
        test: metrics on the central test set, where due.
        clients_test: metrics of the global model on the clients' held-out data, or own test sets, where due, each with
            its spread: the ``mean``, of the examples of all clients together; and, each client counted once,
            ``client_mean``, ``std``, the percentiles ``p10``, ``p50``, ``p90``, and ``worst``, the mean over the tenth
            of the clients that it is worst for.
        clients_personal: the same of the clients' own models, where they have some.
        clients_finetuned: the same of models that were fine-tuned on the client's training data.
        evaluated: number of clients evaluated (``clients``), where due; of those that could not be, as nobody could
            reach them (``missing``), and of those that have nothing to be evaluated on (``without``), if any; where
            clients keep something, of those who have (``taken_part``): the others are evaluated as newcomers; and the
            training examples that evaluations used (``fitted``), if any.
        weight: sum of the accepted clients' aggregation weights.
        bytes: bytes that the cohort would receive (``down``) and send (``up``) over a network, and that did cross
            from node to node (``network``).
        model_sha256: SHA-256 of the global vector's float32 bytes after the round; where that is no model that clients
            use (IFCA, FedProto), of all that the algorithm keeps on the server as well.
        failures: one object for each failed client.
        workers: the number of workers that took part.
        stack: the largest number of clients that stepped at once.
        metrics: numbers that parts of the run tell of the round, by the name of the part.
        tables: metrics that are no numbers, by the section and the metric's name: a confusion matrix as
            ``{"test": {"confusion_matrix": {"classes": [...], "counts": [[...]]}}}``; where metrics rest on single
            classes also ``support``: the examples of each class (``counts``), and those taken for it (``said``).
        samples: completions by a language model of prompts of the test set, where due: of each the ``row``, its
            ``prompt``, the ``completion``, and as ``reference`` the row's own.
        attackers: ids of the clients whose updates were forged by an attack.
        usage: ``nodes``; ``retries`` (blocks done again because a worker was lost); ``cpu_seconds`` of the workers;
            ``gpu_seconds`` (GPUs reserved times seconds); ``joules``, where measured; ``failures`` (clients by stage);
            ``hardware`` (the kinds that workers ran on); and lists in the order of ``worker`` (names): ``idle``
            (seconds of the train phase without work), ``rss`` and ``gpu_memory`` (peaks so far, bytes), ``gpu_use``
            (share of the last moments in which its GPUs ran a kernel, by NVML; null: not measured).
    """

    round: int
    seconds: float = 0.0
    phases: dict[str, float] = field(default_factory=dict)
    clients: dict[str, int] = field(default_factory=dict)
    examples: int = 0
    train: dict[str, float] = field(default_factory=dict)
    test: dict[str, float] = field(default_factory=dict)
    clients_test: dict[str, dict[str, float]] = field(default_factory=dict)
    clients_personal: dict[str, dict[str, float]] = field(default_factory=dict)
    clients_finetuned: dict[str, dict[str, float]] = field(default_factory=dict)
    evaluated: dict[str, int] = field(default_factory=dict)
    weight: float | None = None
    bytes: dict[str, int] = field(default_factory=dict)
    model_sha256: str | None = None
    failures: list[dict[str, Any]] = field(default_factory=list)
    workers: int = 0
    stack: int = 0
    metrics: dict[str, dict[str, float]] = field(default_factory=dict)
    tables: dict[str, dict[str, Any]] = field(default_factory=dict)
    samples: list[dict[str, Any]] = field(default_factory=list)
    attackers: list[str] = field(default_factory=list)
    usage: dict[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Return the record ready for JSON: empty sections are left out, NaN and infinities become null."""
        # Not dataclasses.asdict, which copies everything; what is not finite is sought in fresh copies anyway.
        values = ((f.name, getattr(self, f.name)) for f in fields(self))
        kept = {name: value for name, value in values if value not in ({}, [], None)}
        told = finite(kept)
        assert isinstance(told, dict)
        return told

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> RoundRecord:
        """Make a record of what ``to_json`` has returned; a number of the training that JSON could not hold is NaN.

        Metrics may have no value, which is None.

        >>> RoundRecord.from_json({"round": 3, "train": {"loss": None}, "test": {"auc": None}}).train
        {'loss': nan}
        """
        train = {name: math.nan if value is None else value for name, value in data.get("train", {}).items()}
        return cls(**{**data, "train": train})


def finite(value: Any) -> Any:
    """Return a value for JSON, which has no infinity and no number that is none: None in their place.

    >>> finite({"epsilon": math.inf, "delta": 1e-5})
    {'epsilon': None, 'delta': 1e-05}
    """
    if isinstance(value, dict):
        return {name: finite(v) for name, v in value.items()}
    if isinstance(value, list):
        return [finite(v) for v in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value


def own(sections: Mapping[str, Mapping[str, Any]]) -> str:
    """Return the section of a record that has the model each client would use: its own, or else the global one.

    >>> own({"clients_test": {"loss": {}}}), own({"clients_test": {"loss": {}}, "clients_personal": {"loss": {}}})
    ('clients_test', 'clients_personal')
    """
    return VIEWS["personal"] if sections.get(VIEWS["personal"]) else VIEWS["global"]


def more_is_better(metric: str) -> bool:
    """Tell if a model with more of a metric is the better one, by the words of its name.

    >>> more_is_better("accuracy"), more_is_better("loss"), more_is_better("clients_test.loss.p90")
    (True, False, False)
    """
    return _LESS_IS_BETTER.isdisjoint(re.split(r"[._]", metric.lower()))


def headline(metrics: Collection[str]) -> str:
    """Return the metric that stands for all where there is room for one.

    >>> headline(["loss", "accuracy"]), headline(["loss", "mse"]), headline(["loss"])
    ('accuracy', 'mse', 'loss')
    """
    others = [name for name in metrics if name != "loss"]
    return "accuracy" if "accuracy" in metrics else (others or ["loss"])[0]


def by_weight(metrics: Collection[str]) -> list[str]:
    """Return metrics in the order in which they are shown where there is not room for all.

    >>> by_weight(["loss", "f1", "accuracy"])
    ['accuracy', 'loss', 'f1']
    """
    return sorted(metrics, key=lambda name: (name != headline(metrics), name != "loss")) if metrics else []


_WORDS = {"auc": "AUC", "auroc": "AUROC", "mae": "MAE", "miou": "mIoU", "mse": "MSE", "r2": "R²", "rmse": "RMSE"}


def title(metric: str) -> str:
    """Return a metric's name as it begins a sentence.

    >>> title("average_precision"), title("auroc"), title("f1_macro")
    ('Average precision', 'AUROC', 'F1 macro')
    """
    first, *rest = (_WORDS.get(word, word) for word in metric.split("_"))
    return " ".join([first if first in _WORDS.values() else first[:1].upper() + first[1:], *rest])


_SHARES = (
    "accuracy", "auc", "auroc", "average_precision", "calibration_error", "dice", "exact_match", "f1", "jaccard",
    "miou", "precision", "recall", "sensitivity", "specificity",
)  # fmt: skip


def limits(metric: str) -> tuple[float, float]:
    """Return the least and the largest value of a metric, by its name; infinite where the name does not tell.

    >>> limits("accuracy"), limits("f1_benign"), limits("loss")
    ((0.0, 1.0), (0.0, 1.0), (-inf, inf))
    """
    share = metric in _SHARES or metric.startswith(tuple(f"{name}_" for name in _SHARES))
    return (0.0, 1.0) if share else (-math.inf, math.inf)
