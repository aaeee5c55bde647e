"""The models of a worker: made when they are needed, and told what was broadcast once a round."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from fedray.algorithms import HeteroFL
from fedray.core.messages import Broadcast
from fedray.run.trained import Models
from tests.helpers import class_problem, federation


def test_each_variant_has_a_trainer_of_its_own_and_hears_its_part(tmp_path: Path) -> None:
    run = federation(class_problem((5,) * 12), tmp_path, HeteroFL(), stack="off")
    task = run.plan.task
    models = Models(task, run.plan.algorithm, [torch.device("cpu")])
    down = Broadcast(1, {"model": run.vector}, 1.0)
    numbers = task.variants(np.arange(12))
    assert set(numbers) == {0, 1, 2}
    for client, number in enumerate(numbers.tolist()):
        model = models.of(np.array([client]), down)
        assert model.number == number
        assert model.layout is models.layout(number)
        assert len(model.down.parts["model"]) == model.layout.size
        update = model.train(np.array([client]), {}, torch.zeros(1, dtype=torch.bool), {})
        assert update.variant == number
        assert update.parts["delta"].shape == (1, model.layout.shared)
    first = np.flatnonzero(numbers == 0)[:1]
    heard = models.of(first, down)
    assert models.of(first, down) is heard
    models.forget()
    assert models.of(first, down) is not heard
    assert models.of(first, down).trainer is heard.trainer
