"""The flat vector: what goes in comes out, for every kind of tensor a module may hold."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load, save
from torch import Tensor, nn

from fedray.core.errors import ConfigError
from fedray.core.layout import Layout


class Tied(nn.Module):
    """An embedding whose matrix is also the head's."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(5, 3)
        self.head = nn.Linear(3, 5)
        self.head.weight = self.embed.weight

    def forward(self, tokens: Tensor) -> Tensor:
        out: Tensor = self.head(self.embed(tokens).mean(dim=1))
        return out


class Buffers(nn.Module):
    """Float, integer and boolean buffers, one that is not saved, and a frozen parameter before a trained one."""

    def __init__(self) -> None:
        super().__init__()
        self.frozen = nn.Parameter(torch.tensor([1.5, -2.5]), requires_grad=False)
        self.trained = nn.Parameter(torch.tensor([[3.0]]))
        self.register_buffer("average", torch.tensor([0.25, 0.5, 0.75]))
        self.register_buffer("count", torch.tensor(7))
        self.register_buffer("small", torch.tensor([-3, 4], dtype=torch.int8))
        self.register_buffer("mask", torch.tensor([True, False, True]))
        self.register_buffer("scratch", torch.ones(4), persistent=False)


class Complex(nn.Module):
    """A parameter that no float32 vector holds."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(2, dtype=torch.complex64))


def norm() -> nn.Module:
    """A convolution with batch statistics that are not the initial ones."""
    module = nn.Sequential(nn.Conv2d(2, 3, 2), nn.BatchNorm2d(3), nn.ReLU())
    module(torch.randn(4, 2, 5, 5))
    return module


KINDS: dict[str, Callable[[], nn.Module]] = {
    "linear": lambda: nn.Linear(3, 2),
    "tied": Tied,
    "batchnorm": norm,
    "buffers": Buffers,
    "scalar": lambda: nn.PReLU(),
}
EVERY_KIND = pytest.mark.parametrize("make", KINDS.values(), ids=KINDS.keys())


@EVERY_KIND
def test_a_state_dict_comes_back_from_the_vector(make: Callable[[], nn.Module]) -> None:
    module = make()
    state = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    layout = Layout.of(module)
    vector = layout.pack(state)
    assert vector.shape == (layout.size,)
    assert vector.dtype == torch.float32
    other = make()
    for name, tensor in [*other.named_parameters(), *other.named_buffers()]:
        if name not in layout.frozen:
            tensor.detach().zero_()
    layout.load(other, vector)
    for name, tensor in other.state_dict().items():
        assert tensor.dtype == state[name].dtype
        assert torch.equal(tensor, state[name]), name
    for name, tensor in layout.unpack(vector).items():
        assert tensor.dtype == state[name].dtype
        assert torch.equal(tensor, state[name]), name


@EVERY_KIND
def test_a_layout_on_paper_makes_the_state_dict_without_the_module(make: Callable[[], nn.Module]) -> None:
    module = make()
    layout = Layout.of(module)
    vector = layout.pack(dict(module.state_dict()))
    again = Layout.from_json(json.loads(json.dumps(layout.to_json())))
    assert again == layout
    found, wanted = again.state_dict(vector, layout.frozen_of(module)), module.state_dict()
    assert found.keys() == wanted.keys()
    for name, tensor in found.items():
        assert (tensor.dtype, tensor.shape) == (wanted[name].dtype, wanted[name].shape)
        assert torch.equal(tensor, wanted[name]), name
    assert load(save(found)).keys() == wanted.keys(), "safetensors takes no two names on one memory"


@EVERY_KIND
def test_pack_copies(make: Callable[[], nn.Module]) -> None:
    module = make()
    layout = Layout.of(module)
    vector = layout.pack(dict(module.state_dict()))
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    vector.fill_(9.0)
    assert all(torch.equal(tensor, before[name]) for name, tensor in module.state_dict().items())


@EVERY_KIND
def test_an_attached_module_is_a_view_of_the_vector(make: Callable[[], nn.Module]) -> None:
    module = make()
    layout = Layout.of(module)
    vector = layout.pack(dict(module.state_dict()))
    layout.attach(module, vector)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(1.0)
    changed = layout.pack(dict(module.state_dict()))
    floats = torch.ones(layout.size, dtype=torch.bool)
    for entry in layout.integers:
        floats[entry.start : entry.stop] = False
    assert torch.equal(vector[floats], changed[floats])
    vector[: layout.trained] = 5.0
    assert all(bool((p == 5.0).all()) for p in module.parameters() if p.requires_grad)


def test_integer_buffers_of_an_attached_module_are_read_and_written() -> None:
    module = Buffers()
    layout = Layout.of(module)
    vector = layout.pack(dict(module.state_dict()))
    layout.attach(module, vector)
    module.get_buffer("count").fill_(12)
    module.get_buffer("mask").fill_(False)
    layout.read_back(module, vector)
    unpacked = layout.unpack(vector)
    assert int(unpacked["count"]) == 12
    assert unpacked["mask"].tolist() == [False, False, False]
    vector[:] = layout.pack(dict(Buffers().state_dict()))
    layout.write_integers(module, vector)
    assert int(module.get_buffer("count")) == 7
    assert module.get_buffer("small").tolist() == [-3, 4]
    assert module.get_buffer("mask").tolist() == [True, False, True]


def test_a_buffer_that_the_module_has_rebound_is_read_and_attached_again() -> None:
    module = Buffers()
    layout = Layout.of(module)
    vector = layout.pack(dict(module.state_dict()))
    layout.attach(module, vector)
    module.average = torch.tensor([1.0, 2.0, 3.0])
    layout.read_back(module, vector)
    assert layout.unpack(vector)["average"].tolist() == [1.0, 2.0, 3.0]
    vector.fill_(4.0)
    assert module.get_buffer("average").tolist() == [4.0, 4.0, 4.0]


def test_trained_parameters_lead_then_saved_buffers_and_what_is_frozen_has_no_place() -> None:
    layout = Layout.of(Buffers())
    assert [(e.name, e.kind) for e in layout.entries] == [
        ("trained", "parameter"),
        ("average", "buffer"),
        ("count", "buffer"),
        ("small", "buffer"),
        ("mask", "buffer"),
    ]
    assert (layout.trained, layout.size) == (1, 1 + 3 + 1 + 2 + 3)
    assert layout.frozen == ("frozen",)
    assert [e.start for e in layout.entries[1:]] == [e.stop for e in layout.entries[:-1]]
    assert [e.name for e in layout.integers] == ["count", "small", "mask"]
    assert [e.name for e in (*layout.parameters, *layout.rest)] == [e.name for e in layout.entries]


def test_a_tied_tensor_appears_once_and_stays_tied() -> None:
    module = Tied()
    layout = Layout.of(module)
    assert [e.name for e in layout.entries] == ["embed.weight", "head.bias"]
    layout.attach(module, torch.full((layout.size,), 2.0))
    assert module.head.weight is module.embed.weight
    assert module.head.weight.data_ptr() == module.embed.weight.data_ptr()
    assert bool((module.head.weight == 2.0).all())


def test_split_gives_each_clients_parameters() -> None:
    layout = Layout.of(nn.Linear(3, 2))
    matrix = torch.arange(16.0).view(2, 8)
    views = layout.split(matrix)
    assert {name: tuple(view.shape) for name, view in views.items()} == {"weight": (2, 2, 3), "bias": (2, 2)}
    for row in range(2):
        expected = layout.unpack(matrix[row])
        assert all(torch.equal(views[name][row], expected[name]) for name in views)
    views["bias"][1, 0] = -1.0
    assert float(matrix[1, 6]) == -1.0


@given(st.lists(st.floats(-100.0, 100.0, width=32), min_size=3, max_size=3))
def test_averaged_integers_are_rounded_and_floats_are_left_alone(values: list[float]) -> None:
    layout = Layout.of(Buffers())
    vector = torch.full((layout.size,), 0.3)
    count = next(e for e in layout.entries if e.name == "count")
    small = next(e for e in layout.entries if e.name == "small")
    vector[count.start], vector[small.start], vector[small.start + 1] = values
    layout.round_integers(vector[layout.spans["buffers"]])
    rounded = torch.tensor(values).round()
    assert float(vector[count.start]) == float(rounded[0])
    assert vector[small.start : small.stop].tolist() == rounded[1:].tolist()
    assert bool((vector[: count.start] == 0.3).all())


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: nn.Linear(2, 2).double(), r"weight is torch\.float64; the global vector is float32.*\.float\(\)"),
        (Complex, r"weight is torch\.complex64"),
        (lambda: nn.Linear(2, 2).half(), r"weight is torch\.float16"),
        (nn.ReLU, "no parameter that needs a gradient"),
        (lambda: nn.Linear(2, 2).requires_grad_(False), "no parameter that needs a gradient"),
    ],
)
def test_what_does_not_fit_a_float32_vector_is_one_clear_error(make: Callable[[], nn.Module], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Layout.of(make())


@pytest.mark.parametrize("value", [2**24 + 1, -(2**24) - 1, 2**40])
def test_integers_that_the_vector_does_not_hold_are_refused_by_name(value: int) -> None:
    module = nn.Linear(2, 1)
    module.register_buffer("table", torch.tensor([0, value]))
    with pytest.raises(ConfigError, match=f"^model: table holds {value:,}, and integers are exact up to 16,777,216"):
        Layout.of(module)
    module.register_buffer("table", torch.tensor([2**24, -(2**24)]))
    layout = Layout.of(module)
    assert layout.unpack(layout.pack(module.state_dict()))["table"].tolist() == [2**24, -(2**24)]


def test_a_counter_that_leaves_the_exact_range_is_an_error_by_name() -> None:
    module = nn.Linear(2, 1)
    module.register_buffer("seen", torch.tensor(2**24))
    layout = Layout.of(module)
    vector = layout.pack(module.state_dict())
    layout.attach(module, vector)
    layout.read_back(module, vector)
    module.get_buffer("seen").add_(1)
    with pytest.raises(ValueError, match="the buffer seen has reached 16,777,217"):
        layout.read_back(module, vector)


@pytest.mark.parametrize(
    "wrap",
    [
        lambda module: module,
        lambda module: torch.compile(module, backend="eager"),
        nn.DataParallel,
        lambda module: torch.compile(nn.DataParallel(module), backend="eager"),
        lambda module: nn.Sequential(*(torch.compile(part, backend="eager") for part in module.children())),  # type: ignore[call-overload]
    ],
)
def test_what_is_written_is_for_the_plain_module(wrap: Callable[[nn.Module], nn.Module]) -> None:
    plain = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3))
    layout = Layout.of(wrap(plain))
    again = Layout.from_json(json.loads(json.dumps(layout.to_json())))
    assert again == layout
    written = again.state_dict(torch.arange(float(layout.size)))
    fresh = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3))
    fresh.load_state_dict(written)
    assert list(written) == list(fresh.state_dict())


def test_a_part_that_a_user_calls_module_keeps_its_name() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.module = nn.Linear(2, 1)

    assert list(Layout.of(Net()).state_dict(torch.zeros(3))) == ["module.weight", "module.bias"]
