"""The reference models: parameter counts, oracles, fit to the data, and training many at once."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.func import functional_call, grad_and_value, vmap
from torch.nn import functional

from fedray.config.registry import dump
from fedray.core.errors import ConfigError
from fedray.data.spec import DataSpec
from fedray.models import CNN, LSTM, MLP, Logistic, ResNet18GN, Transformer, initial_model, models, resolve_model
from fedray.models.lstm import recurrence
from fedray.models.transformer import Layer, Patches

FEATURES = DataSpec(shape=(6,), outputs=3)
IMAGES = DataSpec(shape=(2, 8, 8), outputs=3)
TOKENS = DataSpec(shape=(5,), outputs=7, vocabulary=7)
SEQUENCES = DataSpec(shape=(5, 4), outputs=3)
TARGETS = DataSpec(shape=(6,), outputs=2, task="regression")

# Every registered model, on every kind of data that it is for, small enough to train in a blink.
CASES: list[tuple[dict[str, Any], DataSpec]] = [
    ({"name": "logistic"}, FEATURES),
    ({"name": "logistic", "bias": False}, TARGETS),
    ({"name": "mlp", "hidden": [5, 4]}, FEATURES),
    ({"name": "mlp", "hidden": [5], "activation": "tanh"}, IMAGES),
    ({"name": "mlp", "hidden": [5], "activation": "gelu"}, TARGETS),
    ({"name": "cnn", "channels": [3, 4], "hidden": 5}, IMAGES),
    ({"name": "resnet18_gn", "width": 4}, IMAGES),
    ({"name": "lstm", "embedding": 3, "hidden": 4}, TOKENS),
    ({"name": "transformer", "dim": 8, "heads": 2}, TOKENS),
    ({"name": "transformer", "dim": 8, "heads": 2}, IMAGES),
    ({"name": "transformer", "dim": 8, "heads": 2, "layers": 1}, SEQUENCES),
    ({"name": "transformer", "dim": 8, "heads": 2, "layers": 1}, FEATURES),
]
EVERY_CASE = pytest.mark.parametrize(
    ("node", "spec"),
    CASES,
    ids=[f"{node['name']}-{len(spec.shape)}d-{index}" for index, (node, spec) in enumerate(CASES)],
)


def batch(spec: DataSpec, *sizes: int) -> tuple[Tensor, Tensor]:
    """Random inputs ``[*sizes, *shape]`` and targets that fit ``spec``, always the same."""
    draw = torch.Generator().manual_seed(5)
    shape = (*sizes, *spec.shape)
    x = torch.randint(spec.vocabulary, shape, generator=draw) if spec.vocabulary else torch.randn(shape, generator=draw)
    if spec.task == "regression":
        return x, torch.randn((*sizes, spec.outputs), generator=draw)
    return x, torch.randint(spec.outputs, sizes, generator=draw)


def count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def on_meta(model: Any, spec: DataSpec) -> nn.Module:
    """The module without its numbers: large models are counted without being drawn."""
    with torch.device("meta"):
        module: nn.Module = model.build(spec)
    return module


def test_every_registered_model_has_a_case() -> None:
    assert {node["name"] for node, _ in CASES} == set(models)


@EVERY_CASE
def test_contract(node: dict[str, Any], spec: DataSpec) -> None:
    module = initial_model(resolve_model(node), spec, seed=0)
    x, _ = batch(spec, 4)
    output = module(x)
    assert output.shape == (4, spec.outputs)
    assert {parameter.dtype for parameter in module.parameters()} == {torch.float32}
    assert not list(module.buffers())
    assert module.get_parameter("head.weight").shape[0] == spec.outputs
    torch.testing.assert_close(module.eval()(x), output, rtol=0, atol=0)
    torch.testing.assert_close(module(x[1:2]), output[1:2])  # an example's output does not depend on its batch


@EVERY_CASE
def test_training_stacked_is_training_one_by_one(node: dict[str, Any], spec: DataSpec) -> None:
    members = [initial_model(resolve_model(node), spec, seed) for seed in range(3)]
    stacked = {
        name: torch.stack([member.get_parameter(name).detach() for member in members])
        for name, _ in members[0].named_parameters()
    }
    x, y = batch(spec, 3, 4)
    empty = on_meta(resolve_model(node), spec)  # as the engine does: every parameter is passed in

    def loss(parameters: dict[str, Tensor], x: Tensor, y: Tensor) -> Tensor:
        output = functional_call(empty, parameters, (x,))
        return (functional.mse_loss if spec.task == "regression" else functional.cross_entropy)(output, y)

    gradients, losses = vmap(grad_and_value(loss))(stacked, x, y)
    leaves = {name: value.clone().requires_grad_() for name, value in stacked.items()}
    outer = torch.autograd.grad(vmap(loss)(leaves, x, y).sum(), list(leaves.values()))
    for index, member in enumerate(members):
        called = functional_call(empty, dict(member.named_parameters()), (x[index],))
        torch.testing.assert_close(called, member(x[index]))
        single = loss(dict(member.named_parameters()), x[index], y[index])
        single.backward()
        torch.testing.assert_close(losses[index], single.detach(), rtol=1e-5, atol=1e-5)
        for name, parameter in member.named_parameters():
            assert parameter.grad is not None, name
            torch.testing.assert_close(gradients[name][index], parameter.grad, rtol=1e-5, atol=1e-5)
            torch.testing.assert_close(outer[list(leaves).index(name)][index], parameter.grad, rtol=1e-5, atol=1e-5)


@EVERY_CASE
def test_options_survive_dump_and_resolve(node: dict[str, Any], spec: DataSpec) -> None:
    part = resolve_model(node)
    assert resolve_model(dump(part)) == part
    assert node.items() <= dump(part).items()


@pytest.mark.parametrize(
    ("model", "spec", "parameters"),
    [
        (Logistic(), DataSpec((1, 28, 28), 10), 7_850),
        (Logistic(bias=False), DataSpec((30,), 2), 60),
        (MLP(hidden=[64]), DataSpec((64,), 10), 64 * 64 + 64 + 64 * 10 + 10),
        (MLP(hidden=[200, 200]), DataSpec((1, 28, 28), 10), 199_210),  # the 2NN of arXiv:1602.05629
        (CNN(), DataSpec((1, 28, 28), 10), 1_663_370),  # as printed in arXiv:1602.05629
        (ResNet18GN(), DataSpec((3, 224, 224), 1000), 11_689_512),  # torchvision's resnet18
        (ResNet18GN(), DataSpec((3, 32, 32), 10), 11_173_962),  # the common CIFAR-10 variant
        # Embedding, two layers of 4 gates (inputs, states, two biases), head.
        (LSTM(), DataSpec((80,), 80, vocabulary=80), 80 * 8 + 4 * 256 * (8 + 256 + 2 + 256 + 256 + 2) + 257 * 80),
        # Embedding, positions, two layers (12 dim^2 + 13 dim), norm, head.
        (Transformer(), DataSpec((80,), 10, vocabulary=90), 64 * 90 + 64 * 80 + 2 * (12 * 64**2 + 13 * 64) + 128 + 650),
        (Transformer(layers=1), DataSpec((3, 8, 8), 10), 64 * 49 + 64 * 4 + 12 * 64**2 + 13 * 64 + 128 + 650),
    ],
)
def test_parameter_count(model: Any, spec: DataSpec, parameters: int) -> None:
    assert count(on_meta(model, spec)) == parameters


def test_logistic_is_an_affine_map() -> None:
    module = initial_model(Logistic(), IMAGES, seed=1)
    x, _ = batch(IMAGES, 4)
    weight, bias = (parameter.detach().numpy() for parameter in module.parameters())
    np.testing.assert_allclose(
        module(x).detach().numpy(), x.numpy().reshape(4, -1) @ weight.T + bias, rtol=1e-5, atol=1e-6
    )


def test_mlp_without_hidden_layers_is_logistic_bitwise() -> None:
    x, _ = batch(FEATURES, 4)
    assert torch.equal(initial_model(MLP(hidden=[]), FEATURES, 3)(x), initial_model(Logistic(), FEATURES, 3)(x))


@settings(max_examples=15)
@given(channels=st.integers(1, 3), height=st.integers(8, 21), width=st.integers(8, 21))
def test_cnn_takes_any_image_of_at_least_8x8(channels: int, height: int, width: int) -> None:
    spec = DataSpec((channels, height, width), 3)
    module = on_meta(CNN(channels=[2, 2], hidden=4), spec)
    assert module(torch.empty(2, *spec.shape, device="meta")).shape == (2, 3)


@pytest.mark.parametrize(("side", "final"), [(8, 1), (32, 4), (64, 8), (65, 3), (224, 7)])
def test_resnet_stem_and_strides(side: int, final: int) -> None:
    module = on_meta(ResNet18GN(width=4), DataSpec((3, side, side), 10))
    maps = nn.Sequential(module.get_submodule("stem"), module.get_submodule("stages"))
    assert maps(torch.empty(1, 3, side, side, device="meta")).shape == (1, 32, final, final)


def test_resnet_groups() -> None:
    module = on_meta(ResNet18GN(width=8, groups=4), IMAGES)
    norms = [m for m in module.modules() if isinstance(m, nn.GroupNorm)]
    assert len(norms) == 20
    assert {norm.num_groups for norm in norms} == {4}


@pytest.mark.parametrize("layers", [1, 3])
def test_stacked_recurrence_equals_torchs_lstm(layers: int) -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        lstm, x = nn.LSTM(3, 4, layers, batch_first=True), torch.randn(2, 5, 3)
    torch.testing.assert_close(recurrence(lstm, x), lstm(x)[0], rtol=1e-5, atol=1e-6)


def test_lstm_equals_the_equations() -> None:
    module = initial_model(LSTM(embedding=3, hidden=4, layers=1), TOKENS, seed=2)
    tokens, _ = batch(TOKENS, 6)
    state = {name: parameter.detach().numpy().astype(np.float64) for name, parameter in module.named_parameters()}
    hidden, cell = np.zeros((6, 4)), np.zeros((6, 4))

    def sigmoid(z: Any) -> Any:
        return 1 / (1 + np.exp(-z))

    for position in range(5):
        x = state["embedding.weight"][tokens[:, position].numpy()]
        gates = x @ state["lstm.weight_ih_l0"].T + hidden @ state["lstm.weight_hh_l0"].T
        enter, forget, new, out = np.split(gates + state["lstm.bias_ih_l0"] + state["lstm.bias_hh_l0"], 4, axis=1)
        cell = sigmoid(forget) * cell + sigmoid(enter) * np.tanh(new)
        hidden = sigmoid(out) * np.tanh(cell)
    expected = hidden @ state["head.weight"].T + state["head.bias"]
    np.testing.assert_allclose(module(tokens).detach().numpy(), expected, rtol=1e-4, atol=1e-6)


def test_transformer_layer_equals_torchs() -> None:
    ours = Layer(dim=8, heads=2, dropout=0.0)
    theirs = nn.TransformerEncoderLayer(8, 2, 32, 0.0, "gelu", batch_first=True, norm_first=True)
    # The same parameters in the same order but for the norms, which torch registers last.
    order = ["norm1", "self_attn.in_proj_", "self_attn.out_proj", "norm2", "linear1", "linear2"]
    names = [name for part in order for name, _ in theirs.named_parameters() if name.startswith(part)]
    with torch.no_grad():
        for parameter, name in zip(ours.parameters(), names, strict=True):
            parameter.normal_(generator=torch.Generator().manual_seed(parameter.numel()))
            theirs.get_parameter(name).copy_(parameter)
    x = torch.randn(3, 5, 8, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(ours(x), theirs(x), rtol=1e-4, atol=1e-4)


def test_patches_equal_unfold() -> None:
    x = torch.arange(2 * 3 * 8 * 12, dtype=torch.float32).reshape(2, 3, 8, 12)
    expected = functional.unfold(x, kernel_size=4, stride=4).transpose(1, 2)
    assert torch.equal(Patches(4)(x), expected)


def test_transformer_without_positions_ignores_the_order() -> None:
    module = initial_model(Transformer(dim=8, heads=2), TOKENS, seed=4)
    tokens = torch.tensor([[0, 1, 2, 3, 4]])
    assert not torch.allclose(module(tokens), module(tokens.flip(1)))
    nn.init.zeros_(module.get_parameter("positions"))
    torch.testing.assert_close(module(tokens), module(tokens.flip(1)))


@pytest.mark.parametrize("node", [{"name": "mlp"}, {"name": "transformer", "dim": 8}], ids=["mlp", "transformer"])
def test_dropout_is_drawn_by_dropout_modules_alone(node: dict[str, Any]) -> None:
    module = initial_model(resolve_model({**node, "dropout": 0.5}), FEATURES, seed=0)
    plain = initial_model(resolve_model(node), FEATURES, seed=0)
    x, _ = batch(FEATURES, 4)
    with torch.random.fork_rng(devices=[]):
        assert not torch.equal(module(x), plain(x))
        before = torch.get_rng_state()
        for inner in module.modules():
            if isinstance(inner, nn.Dropout):
                inner.eval()
        assert torch.equal(module(x), plain(x))
        assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize(
    ("node", "spec", "message"),
    [
        (
            "cnn",
            DataSpec((30,), 2),
            r"model.name: cnn needs images of shape \(channels, height, width\); the data has \(30,\)",
        ),
        ("cnn", DataSpec((1, 7, 9), 2), r"images of at least 8 x 8 pixels; the data has \(1, 7, 9\)"),
        ("cnn", DataSpec((1, 8, 8), 2, vocabulary=4), r"images .*; the data has tokens of shape \(1, 8, 8\)"),
        ("resnet18_gn", SEQUENCES, r"model.name: resnet18_gn needs images"),
        ("lstm", FEATURES, r"model.name: lstm needs token sequences of shape \(length,\); the data has \(6,\)"),
        ("logistic", TOKENS, r"model.name: logistic needs numeric inputs; the data has tokens of shape \(5,\)"),
        ("mlp", TOKENS, r"model.name: mlp needs numeric inputs"),
        ("transformer", DataSpec((2, 2, 2, 2), 2), r"transformer needs tokens, images, feature seq.*\(2, 2, 2, 2\)"),
        ("transformer", DataSpec((3, 8, 10), 2), r"model.patch: 4 must divide .* the data has \(3, 8, 10\)"),
    ],
)
def test_misfit_is_a_config_error(node: str, spec: DataSpec, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        resolve_model(node).build(spec)


@pytest.mark.parametrize(
    ("node", "message"),
    [
        ({"name": "mlp", "hidden": [8, 0]}, r"model: hidden\[1\] must be at least 1, got 0"),
        ({"name": "mlp", "dropout": 1.0}, r"model: dropout must be in \[0, 1\), got 1.0"),
        ({"name": "mlp", "dropout": float("nan")}, r"dropout must be in"),
        ({"name": "mlp", "activation": "rely"}, r"model.activation: .*'rely'.*relu"),
        ({"name": "mlp", "hiden": [8]}, r"model.hiden: unknown key \(did you mean 'hidden'\?\)"),
        ({"name": "mlpp"}, r"model.name: unknown model 'mlpp' \(did you mean 'mlp'\?\)"),
        ({"name": "cnn", "channels": [8]}, r"model: channels must be two numbers.*got \[8\]"),
        ({"name": "cnn", "hidden": 0}, r"model: hidden must be at least 1"),
        (
            {"name": "resnet18_gn", "width": 6, "groups": 4},
            r"model: groups must divide width, got groups 4 and width 6",
        ),
        ({"name": "lstm", "layers": 0}, r"model: layers must be at least 1"),
        ({"name": "transformer", "dim": 10, "heads": 4}, r"model: heads must divide dim, got heads 4 and dim 10"),
        (None, r"model.name: a model is needed; known: cnn, logistic"),
    ],
)
def test_bad_options_are_config_errors(node: dict[str, Any] | None, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        resolve_model(node)


def test_options_are_checked_from_python_too() -> None:
    with pytest.raises(
        ConfigError, match=r"activation must be one of relu, tanh, gelu, got 'rely' \(did you mean 'relu'"
    ):
        MLP(activation="rely")  # type: ignore[arg-type]
