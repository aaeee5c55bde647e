"""Questions of yes or no, against torch and scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn import metrics as oracle
from torch.nn import functional

from fedray.core.errors import ConfigError
from fedray.core.losses import batch_loss, has_direct, per_example
from fedray.data import DataSpec
from fedray.metrics import AUROC, F1, Accuracy, ConfusionMatrix, Metric, Sensitivity, Specificity
from fedray.tasks import Binary, Multilabel, Task

DRAW = torch.Generator().manual_seed(1)
LOGITS, YES = torch.randn(200, generator=DRAW), torch.randint(0, 2, (200,), generator=DRAW)
MANY, LABELS = torch.randn(200, 3, generator=DRAW), torch.randint(0, 2, (200, 3), generator=DRAW)
SPEC = DataSpec((4,), 2, classes=("well", "ill"))


@pytest.mark.parametrize("column", [False, True])
@pytest.mark.parametrize("floats", [False, True])
def test_the_loss_is_torchs_for_targets_of_any_type_and_shape(column: bool, floats: bool) -> None:
    output, target = (one[:, None] if column else one for one in (LOGITS, YES))
    loss = Binary().loss_fn
    expected = functional.binary_cross_entropy_with_logits(LOGITS, YES.float())
    assert torch.equal(loss(output, target.float() if floats else YES), expected)
    assert has_direct(loss)
    each = per_example(loss, output, target.float() if floats else YES)
    assert each.shape == (200,)
    torch.testing.assert_close(each.mean(), expected)
    assert torch.equal(batch_loss(loss, output, YES), expected)


def test_its_metrics_are_scikit_learns() -> None:
    task, said = Binary().of(SPEC), (LOGITS > 0).long()
    cases: list[tuple[Metric, float]] = [
        (Accuracy(), oracle.accuracy_score(YES, said)),
        (F1(), oracle.f1_score(YES, said)),
        (Sensitivity(), oracle.recall_score(YES, said)),
        (Specificity(), oracle.recall_score(YES, said, pos_label=0)),
        (F1(positive="well"), oracle.f1_score(YES, said, pos_label=0)),
        (AUROC(), oracle.roc_auc_score(YES, LOGITS)),
    ]
    for metric, expected in cases:
        assert metric.on(LOGITS[:, None], YES, task) == pytest.approx(expected, abs=1e-3)
    matrix = ConfusionMatrix().of(task)
    table = matrix.table(matrix.state(LOGITS, YES))
    assert table == {"classes": ["well", "ill"], "counts": oracle.confusion_matrix(YES, said).tolist()}


def test_each_label_is_a_question_of_its_own() -> None:
    task, said = Multilabel(names=["a", "b", "c"]).of(DataSpec((4,), 3, "regression")), (MANY > 0).long()
    target = LABELS.float()
    assert Accuracy().on(MANY, target, task) == pytest.approx(1 - oracle.hamming_loss(LABELS, said))
    for average in ("macro", "micro", "weighted"):
        expected = oracle.f1_score(LABELS, said, average=average)
        assert F1(average=average).on(MANY, target, task) == pytest.approx(expected)
    assert list(F1(average="none").on(MANY, target, task)) == ["a", "b", "c"]
    assert AUROC().on(MANY, target, task) == pytest.approx(oracle.roc_auc_score(LABELS, MANY), abs=1e-3)
    metric = ConfusionMatrix().of(task)
    table = metric.table(metric.state(MANY, target))
    assert table is not None
    np.testing.assert_array_equal(table["counts"], oracle.multilabel_confusion_matrix(LABELS, said))
    torch.testing.assert_close(task.loss(MANY, target), functional.binary_cross_entropy_with_logits(MANY, target))
    torch.testing.assert_close(task.each(MANY, LABELS).mean(), task.loss(MANY, LABELS))


def test_integers_of_labels_are_no_classes() -> None:
    assert Multilabel().of(SPEC, (8, 5)).classes == ("0", "1", "2", "3", "4")


@pytest.mark.parametrize(
    ("task", "shape", "target", "words"),
    [
        (Binary(), (2, 3), (2,), r"the model gives \(2, 3\) for targets \(2,\)"),
        (Binary(), (2, 1), (2, 4), r"the model gives \(2, 1\) for targets \(2, 4\)"),
        (Binary().of(DataSpec((), 3)), (2, 1), (2,), "targets 0 and 1, and there are 3 classes"),
        (Multilabel(), (2, 3), (2, 4), r"the model gives \(2, 3\) for targets \(2, 4\)"),
        (Multilabel(["a"]), (2, 3), (2, 3), r"task\.names: 1 names are given for 3 labels"),
    ],
)
def test_shapes_that_do_not_fit_are_both_named(
    task: Task, shape: tuple[int, ...], target: tuple[int, ...], words: str
) -> None:
    with pytest.raises(ConfigError, match=words):
        task.check(shape, target)


def test_a_named_model_gets_one_output() -> None:
    assert Binary().for_model(SPEC).outputs == 1
