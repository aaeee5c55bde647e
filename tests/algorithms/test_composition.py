"""The one compatibility check: what fits together, and what is said of what does not."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import pytest
import torch
from torch import nn

from fedray.aggregators import Mean, Median, TrimmedMean
from fedray.algorithms import FedAvg, FedNova, FedSGD, Scaffold
from fedray.algorithms.base import Algorithm
from fedray.algorithms.composition import Composition, compose
from fedray.config.sections import LocalSection
from fedray.core.errors import ConfigError
from fedray.core.fields import Field
from fedray.core.layout import Layout
from fedray.core.messages import Aggregate
from fedray.core.regions import Regions
from fedray.local.clients import Clients
from fedray.local.program import Profile
from fedray.server import Server
from fedray.transforms import Clip, Gaussian, TopK, Transform

ARGS = LocalSection(2, 8)
PRIVATE: list[Transform] = [Clip(1.0), Gaussian(1.0)]


def made(config: Algorithm, transforms: list[Transform] | None = None, args: LocalSection = ARGS) -> Composition:
    return compose(config, transforms or [], Mean(), args)


def test_updates_keep_their_start_only_where_nothing_looks_at_them() -> None:
    assert made(FedAvg()).subtracts
    assert not made(FedAvg(), [Clip(1.0)]).subtracts
    assert not compose(FedAvg(), [], Median(), ARGS).subtracts


class Corrected(Algorithm):
    """Stands for a local rule of before client programs."""

    def start(self, *_: object) -> dict[str, torch.Tensor]:
        return {}

    def gradient(self, *_: object) -> None: ...


class Finished(Algorithm):
    def finish(self, *_: object) -> None: ...


class Ruled(Algorithm):
    def rule(self) -> None: ...


class Program(Corrected):
    """Calls a method of its own by that name."""

    def client(self, c: Clients) -> None:
        c.fit(gradient=self.gradient)


class Stepped(Finished):
    def step(self, s: Server, total: Aggregate) -> None:
        self.finish()


@pytest.mark.parametrize("old", [Corrected(), Finished(), Ruled()], ids=lambda old: old.name)
def test_an_algorithm_of_the_old_contract_is_refused_with_where_to_read(old: Algorithm) -> None:
    with pytest.raises(ConfigError, match=r"^algorithm: \w+ has a local rule .*: see docs/write-your-own\.md$"):
        made(old)


@pytest.mark.parametrize("new", [Program(), Stepped()], ids=lambda new: new.name)
def test_programs_may_have_methods_of_such_names(new: Algorithm) -> None:
    assert made(new).program is new


class Masked(Transform):
    """Stands for secure aggregation: single updates are hidden."""

    name = "masked"
    linear_only = True


@pytest.mark.parametrize(
    ("config", "transforms", "message"),
    [
        (FedAvg(), [*PRIVATE, TopK(0.5)], r"^transforms\[2\]: topk with error feedback undoes the clip"),
        (FedAvg(weight="examples"), PRIVATE, r"^algorithm\.weight: gaussian needs every client to weigh the same"),
        (Scaffold(weight="examples"), [], r"^algorithm\.weight: scaffold needs every client to weigh the same"),
    ],
)
def test_parts_that_cannot_work_together(config: Algorithm, transforms: list[Transform], message: str) -> None:
    with pytest.raises(ConfigError, match=message) as raised:
        made(config, transforms)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(("config", "part"), [(Scaffold(), "control"), (FedNova(), "tau")])
def test_noise_protects_the_update_alone(config: Algorithm, part: str) -> None:
    seen = Profile({part: 1})
    with pytest.raises(ConfigError, match=f"^transforms: gaussian protects the update only, but .* also sends {part};"):
        made(config, PRIVATE).tried(seen)
    assert made(config, [Clip(1.0)]).tried(seen).profile == seen


@pytest.mark.parametrize("aggregator", [Median(), TrimmedMean(0.2)])
def test_hidden_updates_need_a_linear_aggregator(aggregator: Median | TrimmedMean) -> None:
    with pytest.raises(ConfigError, match=r"^aggregator: masked hides single updates.*use mean$"):
        compose(FedAvg(), [Masked()], aggregator, ARGS)
    with pytest.raises(ConfigError, match=r"^aggregator: the noise of gaussian is made for the mean.*use mean$"):
        compose(FedAvg(), PRIVATE, aggregator, ARGS)
    compose(FedAvg(), [Masked()], Mean(), ARGS)


@pytest.mark.parametrize(
    "transforms",
    [
        PRIVATE,
        [TopK(0.5), *PRIVATE],
        [Clip(9.0), TopK(0.5), *PRIVATE],
        [Clip(1.0), TopK(0.5, error_feedback=False), Gaussian(1.0)],
        [*PRIVATE, TopK(0.5, error_feedback=False)],
    ],
)
def test_private_parts_that_fit(transforms: list[Transform]) -> None:
    algorithm = made(FedAvg(), transforms)
    assert algorithm.weight == "uniform"
    assert len(algorithm.transforms) == len(transforms)


def test_how_clients_weigh() -> None:
    assert made(FedAvg()).weight == "examples"
    assert made(FedAvg(weight="uniform")).weight == "uniform"
    assert made(Scaffold()).weight == "uniform"
    assert made(FedAvg(), PRIVATE).weight == "uniform"
    assert made(FedAvg(), [TopK(0.5)]).weight == "examples"


def test_fedsgd_is_one_step_on_everything_whatever_was_asked() -> None:
    assert made(FedSGD()).args == LocalSection(1, None, None)
    assert made(FedAvg()).args == ARGS


def test_what_travels_and_what_stays() -> None:
    layout = Layout.of(nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2)))
    trained, everything = layout.trained, layout.size
    assert (trained, everything) == (12, 17)
    scaffold = made(Scaffold(), [TopK(0.1)]).tried(Profile({"control": trained}, {"control": Field(trained)}))
    rest = everything - trained
    assert scaffold.sends(layout) == {"delta": trained, "buffers": rest, "control": trained}
    assert scaffold.widths(layout) == {**scaffold.sends(layout), "buffers.coarse": rest}
    assert scaffold.state(layout) == {"control": Field(trained), "transforms[0].residual": Field(layout.shared)}
    assert scaffold.upload(layout) == 8 * 2 + 4 * rest + 4 * trained
    assert made(FedAvg()).upload(layout) == 4 * everything
    for args in (replace(ARGS, buffers="keep"), replace(ARGS, buffers="local")):
        own = Layout.of(nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2)), Regions(buffers=args.buffers))
        assert made(FedAvg(), args=args).upload(own) == 4 * trained
    assert made(FedNova()).tried(Profile({"tau": 1})).upload(layout) == 4 * everything + 4
    assert made(FedAvg(), [TopK(0.1, error_feedback=False)]).state(layout) == {}
    # What is sparse stays sparse when it is clipped, and noise is added on the server.
    assert made(FedAvg(), [TopK(0.1), *PRIVATE]).upload(layout) == 8 * 2 + 4 * rest


@pytest.mark.parametrize("buffers", ["mean", "keep", "local"])
def test_noise_asks_that_no_buffer_travels_without_it(buffers: Literal["mean", "keep", "local"]) -> None:
    private = made(FedAvg(), PRIVATE, args=replace(ARGS, buffers=buffers))
    frozen = nn.Linear(3, 2)
    frozen.bias.requires_grad_(False)
    assert private.sends(Layout.of(frozen)) == {"delta": 6}
    private.check(Layout.of(frozen))
    norm = Layout.of(nn.BatchNorm1d(3), Regions(buffers=buffers))
    made(FedAvg(), [Clip()], args=replace(ARGS, buffers=buffers)).check(norm)
    if buffers != "mean":
        private.check(norm)
        return
    with pytest.raises(ConfigError, match=r"^local.buffers: gaussian .* such as running_mean; set it to keep or local"):
        private.check(norm)


def test_each_run_keeps_server_state_of_its_own() -> None:
    parts, layout = made(Scaffold()), Layout.of(nn.Linear(2, 1))
    one, other = (parts.start(torch.zeros(3), layout, 2, 1, 7) for _ in range(2))
    one.state["control"].add_(1.0)
    assert not other.state["control"].any()
