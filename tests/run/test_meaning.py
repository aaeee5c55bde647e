"""What a model's inputs and outputs mean is read from a checkpoint as it was written."""

from __future__ import annotations

import json

import pytest

from fedray.core.errors import ConfigError
from fedray.data import DataSpec
from fedray.data.spec import Column
from fedray.run.meaning import Meaning
from fedray.tasks import Multilabel, Segmentation


@pytest.mark.parametrize(
    "meaning",
    [
        Meaning(DataSpec((3, 8, 8), 10), (), {"name": "classification"}),
        Meaning(DataSpec((2,), 2, classes=("no", "yes")), (), {"name": "binary"}),
        Meaning(DataSpec((1, 4, 4), 3), (4, 4), {"name": "segmentation", "ignore_index": 255}),
        Meaning(DataSpec((5,), 4, "regression"), (4,), {"name": "multilabel", "names": ["a", "b", "c", "d"]}),
        Meaning(DataSpec((), 2, columns=(Column("a", (3,)), Column("b", (5,), 40))), (), {"name": "classification"}),
        Meaning(DataSpec((4,), 64, "regression", target=(8, 8)), (8, 8), {"name": "regression"}),
        Meaning(DataSpec((12,), 9, vocabulary=9), (12,), {"name": "causal_lm", "shift": True}),
    ],
)
def test_it_is_read_as_it_was_written(meaning: Meaning) -> None:
    found = Meaning.from_json(json.loads(json.dumps(meaning.to_json())))
    assert found == meaning
    assert found.task.spec.shape == meaning.spec.shape


def test_the_task_has_its_options() -> None:
    spec = DataSpec((5,), 2, "regression")
    section = {"name": "multilabel", "names": ["fever", "cough"]}
    task = Meaning(spec, (2,), section).task
    assert isinstance(task, Multilabel)
    assert task.classes == ("fever", "cough")
    task = Meaning(DataSpec((1, 2, 2), 2), (2, 2), {"name": "segmentation", "ignore_index": 7}).task
    assert task == Segmentation(ignore_index=7)


def test_a_task_of_ones_own_is_not_made_up() -> None:
    with pytest.raises(ConfigError, match="task: it is code of one's own"):
        _ = Meaning(DataSpec((1,), 1), (), None).task
    with pytest.raises(ConfigError, match="not written as fedray does"):
        Meaning.from_json({"spec": {"form": [2]}, "target": [], "task": None})
