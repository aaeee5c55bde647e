"""Plans as ``fedray plan`` makes them."""

from __future__ import annotations

from pathlib import Path

from fedray.experiment.build import Config
from fedray.run.plan import Plan
from fedray.server import Server


def prepared(path: Path, *overrides: str) -> tuple[Config, Plan, Server]:
    """A config, its plan, and its server."""
    config = Config.load(path, overrides)
    plan = config.plan()
    return config, plan, plan.start(plan.layout.pack(dict(plan.task.model_fn().state_dict())))
