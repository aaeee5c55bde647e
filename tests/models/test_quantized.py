"""Bases of 8 and of 4 bits: what is held, what trains, and what a run makes of them."""

from __future__ import annotations

import shutil
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from fedray.core.errors import ConfigError
from fedray.core.layout import Layout
from fedray.local.operations import products
from fedray.models import HuggingFace, Lora, initial_model, resolve_model
from fedray.models.prototype import Prototype
from fedray.models.quantized import bytes_of, mixes_rows
from fedray.models.shapes import shapes_alone
from fedray.predict.exported import export
from fedray.run.models import load_tensors
from fedray.rundir.folder import RunFolder
from tests.models.test_huggingface import CLASSES, TOKENS, bits, config, empty, train

KINDS = ["int8", "nf4", "fp4"]


def adapted(folder: Path, kind: str, **options: Any) -> dict[str, Any]:
    return config(folder, quantization=kind, lora={"r": 2, "targets": ["q_proj", "v_proj"]}, **options)


def test_a_base_of_few_bits_is_for_adapters() -> None:
    with pytest.raises(ConfigError, match="weights of so few bits cannot be trained; add lora"):
        resolve_model(config("here", quantization="nf4"))
    with pytest.raises(ConfigError, match=r"model\.quantization.*int8.*nf4"):
        resolve_model(config("here", quantization="int4", lora={"targets": ["q_proj"]}))


@pytest.mark.slow
def test_a_missing_package_is_named_with_its_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)
    with pytest.raises(ConfigError, match=r"nf4 needs the package bitsandbytes.*pip install 'fedray\[quantization\]'"):
        resolve_model(adapted(empty(tmp_path), "nf4")).build(TOKENS)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_a_base_of_few_bits_takes_less_and_says_nearly_the_same(tmp_path: Path, kind: Any) -> None:
    from tests.models.hosted import saved, trained

    folder = saved(tmp_path, "llama")
    whole = initial_model(resolve_model(config(folder, lora={"r": 2, "targets": ["q_proj"]})), TOKENS, 3)
    prototype = Prototype(lambda: initial_model(resolve_model(adapted(folder, kind)), TOKENS, 3))
    one, other = prototype(), prototype()
    assert all("lora_" in name for name in trained(one))
    ids = torch.arange(12).view(2, 6)
    exact, rounded = whole(ids), one(ids)
    assert 0 < (exact - rounded).norm() < 0.2 * exact.norm()
    assert torch.equal(rounded, other(ids))
    rounded.sum().backward()
    assert all(p.grad is not None for p in trained(one).values())
    assert all(p.grad is None for p in trained(other).values())
    weights = [name for name, _ in one.named_parameters() if name.endswith("base_layer.weight")]
    assert len(weights) == 4
    assert all(one.get_parameter(name).data_ptr() == other.get_parameter(name).data_ptr() for name in weights)
    scales = {"int8": "SCB"}.get(kind, "weight.absmax")
    assert sum(name.endswith(scales) for name in Layout.of(one).frozen) == 2 * 7  # layers, linear ones of each


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_a_plan_counts_the_bytes_that_are_held(tmp_path: Path, kind: Any) -> None:
    from tests.models.hosted import saved

    model = resolve_model(adapted(saved(tmp_path, "llama"), kind))
    held = initial_model(model, TOKENS, 3)
    with shapes_alone():
        shapes = model.build(TOKENS)
    frozen = [sum(bytes_of(p) for p in one.parameters() if not p.requires_grad) for one in (held, shapes)]
    assert frozen[1] == pytest.approx(frozen[0], rel=0.02)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["int8", "nf4"])
def test_an_evaluated_base_is_the_same_base(tmp_path: Path, kind: Any) -> None:
    from tests.models.hosted import saved

    module = initial_model(resolve_model(adapted(saved(tmp_path, "llama"), kind, dtype="bfloat16")), TOKENS, 3)
    layout = Layout.of(module)
    before = {name: tensor.clone() for name, tensor in layout.frozen_of(module).items()}
    with torch.no_grad():
        module.eval()(torch.arange(6).view(1, 6))
    after = layout.frozen_of(module)
    assert all(torch.equal(before[name], tensor) for name, tensor in after.items())


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["int8", "nf4"])
def test_a_new_head_is_trained_whole(tmp_path: Path, kind: Any) -> None:
    from tests.models.hosted import saved, trained

    lora = Lora(r=2, targets=["query"])
    model = HuggingFace(str(saved(tmp_path, "bert")), lora=lora, head="sequence_classification", quantization=kind)
    module = initial_model(model, CLASSES, 3)
    heads = [p for name, p in trained(module).items() if "classifier" in name]
    assert heads
    assert all(p.dtype == torch.float32 for p in heads)
    module(torch.ones(2, 6, dtype=torch.int64)).sum().backward()
    assert all(p.grad is not None for p in heads)


@pytest.mark.slow
def test_clients_in_lanes_learn_what_they_learn_alone(tmp_path: Path) -> None:
    from tests.models.hosted import saved

    base = saved(tmp_path / "base", "llama")
    train(tmp_path / "alone", adapted(base, "nf4"), stack="off")
    train(tmp_path / "lanes", adapted(base, "nf4"), stack="lanes:4")
    assert "4 clients step at once in lanes" in (tmp_path / "lanes" / "log.txt").read_text()
    mine, theirs = (load_file(tmp_path / name / "model.safetensors") for name in ("lanes", "alone"))
    learnt = [name for name in theirs if "lora_" in name]
    assert learnt
    assert all(torch.allclose(mine[name], theirs[name], atol=1e-5) for name in learnt)


@pytest.mark.slow
def test_multiplications_with_4_bits_are_counted_as_those_with_32(tmp_path: Path) -> None:
    from tests.models.hosted import saved

    base, ids = saved(tmp_path, "llama"), torch.zeros(2, 6, dtype=torch.int64)
    whole = config(base, lora={"r": 2, "targets": ["q_proj", "v_proj"]})
    counted = [products(initial_model(resolve_model(one), TOKENS, 3), ids) for one in (adapted(base, "nf4"), whole)]
    assert counted[0] == counted[1]


@pytest.mark.slow
def test_what_vmap_would_do_client_by_client_is_no_stack(tmp_path: Path) -> None:
    from tests.models.hosted import saved

    train(tmp_path / "run", adapted(saved(tmp_path / "base", "llama"), "nf4"), padded=False, stack=4)
    assert "it does not run under vmap" in (tmp_path / "run" / "log.txt").read_text()


@pytest.mark.slow
def test_layers_of_8_bits_alone_mix_the_rows_of_a_batch() -> None:
    layers = import_module("bitsandbytes").nn
    assert mixes_rows(layers.Linear8bitLt(4, 2, has_fp16_weights=False))
    assert not mixes_rows(layers.Linear4bit(4, 2))
    assert not mixes_rows(nn.Linear(4, 2))


@pytest.mark.slow
def test_outliers_of_8_bits_keep_clients_apart(tmp_path: Path) -> None:
    from tests.models.hosted import saved

    train(tmp_path / "run", adapted(saved(tmp_path / "base", "llama"), "int8"))
    assert "outliers is decided for all rows of a batch" in (tmp_path / "run" / "log.txt").read_text()


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["int8", "nf4"])
def test_a_run_that_stops_and_goes_on_has_the_same_bits(tmp_path: Path, kind: Any) -> None:
    from tests.models.hosted import saved

    base = saved(tmp_path / "base", "llama", torch.bfloat16)
    model = adapted(base, kind, dtype="bfloat16")
    train(tmp_path / "whole", model)
    halves, stop = tmp_path / "halves", {"callbacks": [lambda record: record.round == 1]}
    assert train(halves, model, more=stop).stopped
    shutil.copytree(halves, tmp_path / "others")
    train(halves, model, more={"resume": True})
    assert bits(halves) == bits(tmp_path / "whole")
    with pytest.raises(ConfigError, match="what is frozen in it is not what it was"):
        train(tmp_path / "others", {**model, "quantization": "fp4"}, more={"resume": True})


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["int8", "nf4"])
def test_the_model_of_a_run_is_loaded_again_from_its_tensors(tmp_path: Path, kind: Any) -> None:
    from tests.models.hosted import saved

    model = adapted(saved(tmp_path / "base", "llama"), kind)
    result = train(tmp_path / "run", model, padded=False)
    exported, folder = tmp_path / "model.safetensors", RunFolder(tmp_path / "run")
    export(folder, exported)
    again = initial_model(resolve_model(model), TOKENS, 0).eval()
    load_tensors(again, load_file(exported))
    ids = torch.arange(12).view(2, 6)
    with torch.no_grad():
        assert torch.equal(again(ids), result.model(ids))
    with pytest.raises(ConfigError, match="rounded to its few bits; take --to peft"):
        export(folder, tmp_path / "whole", "huggingface")
    assert export(folder, tmp_path / "adapter", "peft")
