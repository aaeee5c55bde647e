"""How a command ended, and what tests of the command line read from a run folder."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from torch import nn

SMALL = """\
seed: 3
data: {name: synthetic, clients: 8, examples: 12, features: 6, classes: 3, heterogeneity: 0.5, test: 30}
model: {name: mlp, hidden: [5]}
local: {batch_size: 5, optimizer: {name: sgd, lr: 0.1, momentum: 0.5}}
rounds: 3
cluster: {name: inline}
tracking: []
"""


@dataclass(frozen=True)
class Outcome:
    """How a command ended."""

    status: int
    out: str
    err: str

    def refused(self, *words: str, status: int = 2) -> None:
        """Assert that it ended with one clear message of one to three lines, with these words in it."""
        lines = self.err.strip().splitlines()
        assert self.status == status, self.err
        assert 1 <= len(lines) <= 3, self.err
        assert lines[0].startswith("fedray: ")
        assert "Traceback" not in self.err + self.out
        for word in words:
            assert word in self.err, self.err


Cli = Callable[..., Outcome]


def hashes(run_dir: Path) -> list[str]:
    """The model's hash after each round, every round there once and in order."""
    records = [json.loads(line) for line in (run_dir / "metrics.jsonl").read_text().splitlines()]
    assert [record["round"] for record in records] == list(range(1, len(records) + 1))
    return [record["model_sha256"] for record in records]


def plain_module() -> nn.Module:
    """The configured model as a user would write it."""
    module = nn.Sequential()
    module.add_module("linear1", nn.Linear(6, 5))
    module.add_module("activation1", nn.ReLU())
    module.add_module("head", nn.Linear(5, 3))
    return module
