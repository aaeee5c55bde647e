"""What workers of several ranks cannot do is refused in one line, before anything starts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from torch import Tensor, nn

from fedray.core.errors import ConfigError
from fedray.experiment.build import Config
from fedray.experiment.estimate.memory import memory
from fedray.local.task import LocalTask
from tests.cli.command import SMALL, Cli
from tests.experiment.estimate.plans import prepared


def task_of(**changes: Any) -> LocalTask:
    """The small config on workers of two ranks, with other values at the top."""
    content = {**yaml.safe_load(SMALL), "cluster": {"name": "ray"}, "worker": {"ranks": 2}, **changes}
    return Config.bind("small", content, content).plan().task


FITS: dict[str, dict[str, Any]] = {
    "plain": {},
    "fedprox": {"algorithm": {"name": "fedprox", "mu": 0.1}},
    "server optimizer": {"algorithm": "fedadam"},
    "clipped and noised": {"transforms": [{"name": "clip", "norm": 1.0}, {"name": "gaussian", "multiplier": 0.1}]},
    "bf16": {"transforms": ["bf16"]},
    "diloco": {"algorithm": "diloco", "local": {"optimizer": "adamw", "steps": 3}},
    "a kept momentum": {"local": {"optimizer": {"name": "sgd", "lr": 0.1, "momentum": 0.5}, "keep_optimizer": True}},
}


@pytest.mark.parametrize("name", FITS)
@pytest.mark.one_in(3)
def test_clients_that_only_fit_may_have_several_ranks(name: str) -> None:
    task = task_of(**FITS[name])
    assert (task.stacking.size, task.sharing.ranks, task.sharing.devices) == (1, 2, 1)
    assert "devices: a client's batch, and its model, are shared out over 2 ranks of its worker" in task.notes


class Buffered(nn.Module):
    """A buffer that is drawn behind the parameters, and is not saved."""

    def __init__(self, spec: Any) -> None:
        super().__init__()
        self.layer = nn.Linear(6, spec.outputs)
        self.register_buffer("offset", torch.randn(spec.outputs), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Return log-odds."""
        out: Tensor = self.layer(x) + self.offset
        return out


def test_ranks_build_the_model_bare_and_the_log_says_where_they_cannot() -> None:
    assert task_of().sharing.bare
    task = task_of(model={"name": f"{__name__}:Buffered"})
    assert not task.sharing.bare
    assert any(
        "each of them builds the whole model before it has its part, as what it has beside its" in n for n in task.notes
    )


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"cluster": {"name": "inline"}}, "with cluster.name=inline a worker is this process; set ray, or 1"),
        ({"local": {"stack": 4}}, "trains one client at a time, and local.stack=4 asks for more; leave it out"),
        ({"algorithm": "scaffold"}, "clients keep .* from round to round"),
        ({"algorithm": "fedsam"}, "the clients of fedsam may look at the whole model"),
        ({"algorithm": "fedper"}, "a model of a client's own"),
        ({"algorithm": "heterofl"}, "models of several widths"),
        ({"aggregator": "median"}, r"aggregator: .* needs whole updates"),
        ({"transforms": [{"name": "topk", "fraction": 0.5, "error_feedback": False}]}, "topk looks at whole updates"),
        ({"attack": {"name": "sign_flip", "clients": 0.2}}, "an attack makes whole updates"),
    ],
)
@pytest.mark.one_in(4)
def test_what_needs_more_than_a_shard_is_refused(changes: dict[str, Any], reason: str) -> None:
    with pytest.raises(ConfigError, match=rf"^worker\.ranks=2: .*{reason}"):
        task_of(**changes)


@pytest.mark.parametrize("worker", [{"ranks": 0}, {"ranks": 2, "gpus": 0.5}, {"ranks": 2, "gpus": 2}])
def test_each_rank_has_a_gpu_or_none(worker: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=r"^worker: (ranks=0: it must|gpus=.*: each of several ranks has a)"):
        task_of(worker=worker)


def test_a_plan_counts_the_bytes_of_each_rank(cli: Cli, small: Path) -> None:
    """Of 53 parameters: four and eight bytes each, twice where a rank's part is a copy."""
    _, plan, server = prepared(small, "cluster.name=ray", "worker.ranks=2")
    costs = memory(plan, server, 1).worker
    assert costs["accumulator"] == 8 * 53
    assert costs["local models"] == 4 * 53
    assert costs["gradients"] == 4 * 53 / 2
    assert costs["gathered layers"] == 2 * 4 * 35  # of the first layer, from 6 features to 5
    assert memory(plan, server, 1).built == 0  # where one process has 4 * 53
    shown = cli("plan", small, "cluster.name=ray", "worker.ranks=2").out
    assert "each of 2 ranks" in shown
    assert "not measured: 2 ranks train a client, and this is one process" in shown
