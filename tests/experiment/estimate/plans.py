"""Plans as ``fedray plan`` makes them."""

from __future__ import annotations

from pathlib import Path

import torch

from fedray.experiment.build import Config
from fedray.experiment.estimate.memory import settle
from fedray.run.plan import Plan


def prepared(path: Path, *overrides: str) -> tuple[Config, Plan, torch.Tensor]:
    """A config, its plan with the server rule settled, and its first model."""
    config = Config.load(path, overrides)
    plan = config.plan()
    vector = plan.layout.pack(dict(plan.task.model_fn().state_dict()))
    settle(plan, vector)
    return config, plan, vector
