"""Tasks of runs: from what a person names, or leaves to be inferred, to the loss that is trained and the record."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

import fedray
from fedray.core.errors import ConfigError
from fedray.tasks import Segmentation

DRAW = np.random.default_rng(0)
X = DRAW.standard_normal((60, 6)).astype("f4")
CLIENTS = np.repeat(["a", "b", "c"], 20)
YES = (X[:, 0] > 0).astype("i8")
LABELS = (X[:, :3] > 0).astype("i8")
IMAGES = DRAW.standard_normal((60, 1, 4, 4)).astype("f4")
MASKS = np.where(DRAW.random((60, 4, 4)) < 0.2, 2, IMAGES[:, 0] > 0).astype("i8")
TEXT = np.cumsum(DRAW.integers(1, 3, (60, 6)), axis=1) % 5


def run(folder: Path, build: Any, x: Any, y: Any, task: Any = None, loss: Any = None, **options: Any) -> fedray.Result:
    data = fedray.FederatedData.from_arrays(x, y, CLIENTS, test=(x, y)).with_holdout(0.3, 1)
    model = fedray.FederatedModel(build, lambda p: torch.optim.SGD(p, lr=0.3), loss, task=task)
    args = fedray.TrainArgs(rounds=4, batch_size=7, epochs=2, evaluate_clients_every=4, **options)
    return fedray.train(model, data, args, cluster="inline", run_dir=folder / "run", progress=False)


class Language(nn.Module):
    """Embeds a token and says the next; its output is an object."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.head = nn.Embedding(5, 8), nn.Linear(8, 5)

    def forward(self, x: Tensor) -> SimpleNamespace:
        return SimpleNamespace(logits=self.head(self.embed(x)))


CASES = {
    "one logit": (lambda: nn.Linear(6, 1), X, YES, None, "binary: one output for two classes"),
    "floats": (lambda: nn.Linear(6, 1), X, YES.astype("f4"), "binary", "binary: as the config says"),
    "labels": (lambda: nn.Linear(6, 3), X, LABELS, None, "multilabel: an output for each target, 0 or 1"),
    "pixels": (lambda: nn.Conv2d(1, 2, 3, padding=1), IMAGES, MASKS, Segmentation(ignore_index=2), "segmentation"),
    "text": (Language, TEXT, TEXT, {"name": "causal_lm"}, "causal_lm"),
}
HEADS = {"one logit": "auroc", "floats": "auroc", "labels": "f1", "pixels": "miou", "text": "perplexity"}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.one_in(2)
def test_a_task_trains_and_has_the_metrics_of_its_readers(case: str, tmp_path: Path) -> None:
    build, x, y, task, said = CASES[case]
    result = run(tmp_path, build, x, y, task)
    first, last = result.history[0], result.history[-1]
    assert last.train["loss"] < first.train["loss"]
    assert HEADS[case] in last.test
    assert last.clients_test.keys() == last.test.keys()
    assert f"task: {said}" in (result.run_dir / "log.txt").read_text()
    stacked = (result.run_dir / "log.txt").read_text()
    assert "clients step at once" in stacked
    alone = run(tmp_path / "alone", build, x, y, task, stack="off")
    assert alone.history[-1].test == pytest.approx(last.test, abs=2e-3)


@pytest.mark.parametrize(
    "loss",
    [lambda o, t: functional.binary_cross_entropy_with_logits(o[:, 0], t.float()), None],
    ids=["one's own", "the task's"],
)
def test_a_loss_of_ones_own_and_the_tasks_train_alike(loss: Any, tmp_path: Path) -> None:
    own = run(tmp_path / "own", lambda: nn.Linear(6, 1), X, YES, loss=loss)
    plain = run(tmp_path / "plain", lambda: nn.Linear(6, 1), X, YES)
    assert own.history[-1].test == pytest.approx(plain.history[-1].test, abs=1e-5)


def test_floats_are_numbers_unless_the_loss_says_otherwise(tmp_path: Path) -> None:
    floats, bce = LABELS.astype("f4"), functional.binary_cross_entropy_with_logits
    assert "mse" in run(tmp_path / "numbers", lambda: nn.Linear(6, 3), X, floats).history[-1].test
    found = run(tmp_path / "labels", lambda: nn.Linear(6, 3), X, floats, loss=bce)
    assert "accuracy" in found.history[-1].test
    assert "multilabel: the loss is binary cross-entropy" in (found.run_dir / "log.txt").read_text()


def test_a_named_model_of_a_binary_task_has_one_logit_and_is_evaluated_when_it_is_over(tmp_path: Path) -> None:
    result = run(tmp_path, "logistic", X, YES, "binary")
    assert [tuple(p.shape) for p in result.model.parameters()] == [(1, 6), (1,)]
    assert "task:\n  name: binary\n" in (result.run_dir / "config.yaml").read_text()


@pytest.mark.parametrize(
    ("build", "x", "y", "task", "words"),
    [
        (lambda: nn.Linear(6, 3), X, YES, "binary", r"the model gives \(2, 3\) for targets \(2,\)"),
        (lambda: nn.Linear(6, 2), X, LABELS, "multilabel", r"the model gives \(2, 2\) for targets \(2, 3\)"),
        (lambda: nn.Linear(6, 2), X, YES, "binry", r"task\.name: unknown task 'binry' \(did you mean 'binary'\?\)"),
        (lambda: nn.Linear(6, 2), X, YES, 3, "task"),
        (lambda: nn.Linear(6, 2), X, YES, {"name": "segmentation", "ignore_index": -1}, "task: ignore_index=-1"),
    ],
)
def test_what_does_not_fit_is_refused_before_the_run(
    build: Any, x: Any, y: Any, task: Any, words: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=words):
        run(tmp_path, build, x, y, task)


@pytest.mark.parametrize(
    ("case", "algorithm"),
    [
        *((case, fedray.FedProto()) for case in CASES),
        *((case, fedray.FedLC()) for case in ("one logit", "floats", "labels")),
    ],
    ids=str,
)
def test_an_algorithm_of_classes_is_refused_where_there_are_none_or_features_of_many(
    case: str, algorithm: fedray.parts.Algorithm, tmp_path: Path
) -> None:
    build, x, y, task, said = CASES[case]
    words = rf"^algorithm: {algorithm.name} needs a class .* this is {said.split(':')[0]}; take another"
    with pytest.raises(ConfigError, match=words):
        fedray.train(
            fedray.FederatedModel(build, fedray.optim.SGD(lr=0.3), task=task),
            fedray.FederatedData.from_arrays(x, y, CLIENTS),
            fedray.TrainArgs(rounds=1),
            algorithm=algorithm,
            cluster="inline",
            run_dir=tmp_path / "run",
            progress=False,
        )
