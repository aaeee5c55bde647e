"""The regions of a model's tensors, by pattern and by algorithm, and what the vector holds of them."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from fedray.core.errors import ConfigError
from fedray.core.layout import Layout
from fedray.core.regions import Entry, Region, Regions


def net() -> nn.Module:
    return nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3), nn.Linear(3, 2))


def norm_at_home(entry: Entry) -> Region:
    return "personal" if issubclass(entry.owner, nn.BatchNorm1d) else "shared"


def test_what_travels_leads_and_what_is_personal_has_places_among_parameters_and_buffers() -> None:
    layout = Layout.of(net(), Regions(norm_at_home))
    assert [e.name for e in layout.entries] == [
        "0.weight",
        "0.bias",
        "2.weight",
        "2.bias",
        "1.weight",
        "1.bias",
        "1.running_mean",
        "1.running_var",
        "1.num_batches_tracked",
    ]
    assert (layout.shared, layout.trained, layout.size, layout.personal) == (17, 23, 30, 13)
    assert layout.spans == {"delta": slice(0, 17)}
    models = torch.arange(60.0).view(2, 30)
    own = layout.personal_of(models)
    assert own[1].tolist() == models[1, 17:].tolist()
    layout.put_personal(models, own + 100.0)
    assert torch.equal(layout.personal_of(models), own + 100.0)
    assert models[0, :17].tolist() == list(range(17))


@pytest.mark.parametrize(("buffers", "travels", "personal"), [("mean", 30, 0), ("local", 23, 7), ("keep", 23, 0)])
def test_buffers_are_what_the_option_says(buffers: str, travels: int, personal: int) -> None:
    layout = Layout.of(net(), Regions(buffers=buffers))  # type: ignore[arg-type]
    assert (layout.travels, layout.personal, layout.size) == (travels, personal, 30)


def test_what_is_frozen_may_be_of_any_type_and_has_no_place() -> None:
    module = nn.Sequential(nn.Linear(2, 3).bfloat16(), nn.BatchNorm1d(3).bfloat16(), nn.Linear(3, 2))
    with pytest.raises(ConfigError, match=r"^model: 0\.weight is torch\.bfloat16.*model\.frozen"):
        Layout.of(module)
    regions = Regions(frozen=("0", "1.*"))
    layout = Layout.of(regions.freeze(module), regions)
    assert [e.name for e in layout.entries] == ["2.weight", "2.bias"]
    assert len(layout.frozen) == 7
    vector = layout.pack(dict(module.state_dict()))
    found = layout.state_dict(vector, layout.frozen_of(module))
    assert found.keys() == module.state_dict().keys()
    assert all(torch.equal(found[name], tensor) for name, tensor in module.state_dict().items())


def test_a_pattern_that_is_the_name_of_nothing_is_refused_with_the_names_there_are() -> None:
    with pytest.raises(ConfigError, match=r"^model\.personal: nothing is called 'head'; the model has 0\.weight"):
        Regions(personal=("head",)).freeze(net())


def test_a_layout_comes_back_from_json_with_its_regions() -> None:
    layout = Layout.of(net(), Regions(norm_at_home))
    assert Layout.from_json(layout.to_json()) == layout


@pytest.mark.parametrize("buffers", ["mean", "local", "keep"])
def test_a_buffer_of_the_servers_has_a_place_and_never_goes_up(buffers: str) -> None:
    def of(entry: Entry) -> Region:
        return "kept" if entry.name == "1.running_mean" else "shared"

    regions = Regions(of, buffers=buffers)  # type: ignore[arg-type]
    (mean,) = (entry for entry in Layout.of(net(), regions).rest if entry.name == "1.running_mean")
    assert mean.region == "frozen"
    layout = Layout.of(net(), regions)
    assert all(not span.start <= mean.start < span.stop for span in layout.spans.values())
    with pytest.raises(ConfigError, match=r"^algorithm: 0\.weight is a parameter, and only buffers can be kept"):
        Layout.of(net(), Regions(lambda entry: "kept"))


def test_an_algorithm_prepares_a_module_before_patterns_are_looked_for() -> None:
    def prepare(module: nn.Module) -> None:
        module.add_module("head", nn.Linear(2, 1))

    module = Regions(frozen=("head",), prepare=prepare).freeze(net())
    assert [name for name, p in module.named_parameters() if not p.requires_grad] == ["head.weight", "head.bias"]
