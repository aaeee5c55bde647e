"""A class for each pixel or token, of which some do not count."""

from __future__ import annotations

import math

import pytest
import torch
from sklearn import metrics as oracle
from torch import Tensor
from torch.nn import functional

from fedray.core.errors import ConfigError
from fedray.core.losses import ignored_class, per_example
from fedray.data import DataSpec
from fedray.metrics import AUROC, CalibrationError, MeanIoU, Metric, Perplexity
from fedray.metrics.means import Accuracy, PositionAccuracy
from fedray.tasks import CausalLM, Segmentation, Task, TokenClassification
from fedray.tasks.positions import Tokens

DRAW = torch.Generator().manual_seed(2)
IMAGES, MASKS = torch.randn(5, 3, 4, 6, generator=DRAW), torch.randint(0, 4, (5, 4, 6), generator=DRAW)
TOKENS, TAGS = torch.randn(5, 7, 4, generator=DRAW), torch.randint(0, 5, (5, 7), generator=DRAW)
TEXT = torch.randint(0, 4, (5, 7), generator=DRAW)


def flat(task: Task, output: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Logits and classes of the positions that count, one under the other, in plain torch."""
    logits = output.flatten(2).transpose(1, 2) if isinstance(task, Segmentation) else output
    labels = target.flatten(1)
    if isinstance(task, CausalLM):
        logits, labels = logits[:, :-1], labels[:, 1:]
    kept = labels != task.ignore_index  # type: ignore[attr-defined]
    return logits[kept], labels[kept]


CASES = [
    (Segmentation(ignore_index=3), IMAGES, MASKS),
    (TokenClassification(ignore_index=4), TOKENS, TAGS),
    (CausalLM(ignore_index=0), TOKENS, TEXT),
]
EACH = pytest.mark.parametrize(("task", "output", "target"), CASES, ids=[case[0].name for case in CASES])


@EACH
def test_loss_and_metrics_are_of_the_positions_that_count(task: Task, output: Tensor, target: Tensor) -> None:
    task = task.of(DataSpec((), 4))
    logits, labels = flat(task, output, target)
    expected = functional.cross_entropy(logits, labels)
    loss = task.loss_fn
    torch.testing.assert_close(loss(output, target), expected)
    assert ignored_class(loss) == task.ignore_index  # type: ignore[attr-defined]
    said, known = logits.argmax(dim=1), task.of(DataSpec((), 4))
    assert Accuracy().on(output, target, known) == pytest.approx(oracle.accuracy_score(labels, said))
    assert isinstance(Accuracy().of(task), PositionAccuracy)
    jaccard = oracle.jaccard_score(labels, said, average="macro")
    assert MeanIoU().on(output, target, known) == pytest.approx(jaccard)
    assert Perplexity().on(output, target, known) == pytest.approx(math.exp(expected), rel=1e-5)
    probability = logits.double().softmax(dim=1)
    one = AUROC(average="none").on(output, target, known)
    assert one["1"] == pytest.approx(oracle.roc_auc_score(labels == 1, probability[:, 1]), abs=2e-2)


@pytest.mark.parametrize(
    ("task", "target"),
    [
        (CausalLM(), TEXT),
        (CausalLM(ignore_index=0), TEXT),
        (CausalLM(shift=False), TEXT),
        (TokenClassification(), TEXT),
        (TokenClassification(ignore_index=4), TAGS),
    ],
    ids=str,
)
def test_the_gradient_of_tokens_is_softmax_less_one_where_they_count(task: Tokens, target: Tensor) -> None:
    output = (3 * TOKENS).requires_grad_()
    loss = task.loss_fn(output, target)
    (found,) = torch.autograd.grad(loss, output)
    softmax, first = output.detach().double().softmax(dim=2), task.unsaid
    wanted, total, count = torch.zeros_like(softmax), 0.0, 0
    for row, labels in enumerate(target[:, first:].tolist()):
        for place, label in enumerate(labels):
            if label != task.ignore_index:
                wanted[row, place] = softmax[row, place]
                wanted[row, place, label] -= 1
                total, count = total - math.log(softmax[row, place, label]), count + 1
    torch.testing.assert_close(found.double(), wanted / count, rtol=1e-6, atol=1e-7)
    assert loss.item() == pytest.approx(total / count, rel=1e-6)
    torch.testing.assert_close(per_example(task.loss_fn, output, target), task.each(output, target))


@EACH
def test_what_does_not_count_changes_nothing(task: Task, output: Tensor, target: Tensor) -> None:
    task = task.of(DataSpec((), 4))
    other = output.clone()
    labels = target if not isinstance(task, CausalLM) else torch.cat([target[:, 1:], target[:, :1] * 0], dim=1)
    gone = labels == task.ignore_index  # type: ignore[attr-defined]
    if isinstance(task, Segmentation):
        other.permute(0, 2, 3, 1)[gone] += 5.0
    else:
        other[gone] += 5.0
    for metric in (Accuracy(), MeanIoU(), Perplexity(), AUROC(), CalibrationError()):
        found: Metric = metric
        assert found.on(other, target, task) == found.on(output, target, task)
    torch.testing.assert_close(per_example(task.loss_fn, other, target), per_example(task.loss_fn, output, target))


@pytest.mark.parametrize(
    ("task", "shape", "target", "words"),
    [
        (Segmentation(), (2, 3, 4, 5), (2, 4, 6), r"the model gives \(2, 3, 4, 5\) for \(2, 4, 6\)"),
        (TokenClassification(), (2, 4, 7), (2, 7), r"logits \[B, T, K\].* the model gives \(2, 4, 7\) for \(2, 7\)"),
        (CausalLM(), (2, 7), (2, 7), r"the model gives \(2, 7\) for \(2, 7\)"),
    ],
)
def test_shapes_that_do_not_fit_are_both_named(
    task: Task, shape: tuple[int, ...], target: tuple[int, ...], words: str
) -> None:
    with pytest.raises(ConfigError, match=words):
        task.check(shape, target)


def test_a_negative_ignore_index_is_refused() -> None:
    with pytest.raises(ValueError, match=r"ignore_index=-100: it must be at least 0"):
        Segmentation(ignore_index=-100)
