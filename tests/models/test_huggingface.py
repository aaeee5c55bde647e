"""Models of transformers from a folder: what is frozen, what trains, and what a run makes of them."""

from __future__ import annotations

import json
import pickle
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import fedray
from fedray.config.registry import dump
from fedray.core.errors import ConfigError
from fedray.core.layout import Layout
from fedray.data.spec import DataSpec
from fedray.models import HuggingFace, Lora, initial_model, resolve_model
from fedray.models.prototype import Prototype

TOKENS = DataSpec(shape=(6,), outputs=24, vocabulary=24)
CLASSES = DataSpec(shape=(6,), outputs=3, vocabulary=24)
IMAGES = DataSpec(shape=(1, 8, 8), outputs=3)


def config(folder: Path | str, **options: Any) -> dict[str, Any]:
    return {"name": "huggingface", "path": str(folder), **options}


def empty(folder: Path, architecture: str = "LlamaForCausalLM") -> Path:
    """Write a folder that says of itself what it is, and has nothing."""
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(f'{{"architectures": ["{architecture}"], "model_type": "llama"}}')
    return folder


def test_options_go_through_a_config_and_back() -> None:
    model = resolve_model(config("here", dtype="bfloat16", lora={"r": 4, "targets": ["q_proj"]}))
    assert model == HuggingFace("here", "bfloat16", Lora(r=4, targets=["q_proj"]))
    assert resolve_model(dump(model)) == model


def test_a_worker_in_another_folder_finds_the_same_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert pickle.loads(pickle.dumps(HuggingFace("base"))).path == str(tmp_path / "base")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dtype": "bfloat16"}, "without lora all parameters are trained, in float32"),
        ({"dtype": "bf16"}, r"model\.dtype"),
        ({"lora": {"r": 0}}, r"lora\.r=0"),
        ({"lora": {"alpha": 0}}, r"lora\.alpha=0"),
        ({"lora": {"dropout": 1}}, "dropout"),
        ({"lora": {"rank": 4}}, "rank"),
    ],
)
def test_options_that_make_no_sense(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        resolve_model(config("here", **options))


def test_a_missing_package_is_named_with_its_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(ConfigError, match=r"pip install 'fedray\[llm\]'"):
        HuggingFace(str(empty(tmp_path))).build(TOKENS)


@pytest.mark.slow
def test_an_adapted_base_is_frozen_shared_and_no_part_of_the_vector(tmp_path: Path) -> None:
    from tests.models.hosted import saved, trained

    model = resolve_model(
        config(
            saved(tmp_path, "llama", torch.bfloat16), dtype="bfloat16", lora={"r": 2, "targets": ["q_proj", "v_proj"]}
        )
    )
    prototype = Prototype(lambda: initial_model(model, TOKENS, 3))
    one, other = prototype(), prototype()
    layout = Layout.of(one)
    assert {e.name for e in layout.entries} == set(trained(one))
    assert all("lora_" in name for name in trained(one))
    assert layout.size == 2 * 2 * ((16 + 16) + (16 + 8))  # layers x r x (in + out) of q and v
    frozen, others = layout.frozen_of(one), layout.frozen_of(other)
    assert {t.dtype for t in frozen.values()} == {torch.bfloat16}
    assert all(frozen[name].data_ptr() == others[name].data_ptr() for name in frozen)
    assert all(p.data_ptr() != trained(other)[name].data_ptr() for name, p in trained(one).items())
    ids = torch.arange(6).view(1, 6)
    assert one(ids).dtype == torch.float32
    assert torch.equal(one(ids), other(ids))
    again = initial_model(model, TOKENS, 3)
    assert all(torch.equal(p, trained(again)[name]) for name, p in trained(one).items())


def sentences(padded: bool) -> tuple[dict[str, Any], Any]:
    """Return tokens of 16 sentences, with masks, and themselves as targets."""
    draw = np.random.default_rng(2)
    if padded:
        words = fedray.Ragged.of([draw.integers(1, 24, draw.integers(3, 9)) for _ in range(16)])
        return {"input_ids": words.changed(mask="attention_mask")}, words
    ids, mask = draw.integers(1, 24, (16, 6)), np.ones((16, 6), dtype=np.int64)
    mask[::3, 4:] = 0
    return {"input_ids": ids, "attention_mask": mask}, ids


def train(folder: Path, model: dict[str, Any], *, padded: bool = True, more: Any = None, **options: Any) -> Any:
    columns, targets = sentences(padded)
    data = fedray.FederatedData.from_arrays(columns, targets, clients=np.arange(16) % 4, test=(columns, targets))
    args = fedray.TrainArgs(rounds=3, optimizer={"name": "sgd", "lr": 0.5}, batch_size=2, **options)
    federated = fedray.FederatedModel(model, task="causal_lm")
    return fedray.train(federated, data, args, cluster="inline", run_dir=str(folder), progress=False, **(more or {}))


def bits(folder: Path) -> bytes:
    return (folder / "model.safetensors").read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["llama", "gpt2"])
def test_clients_of_adapters_learn_in_a_stack_what_they_learn_alone(tmp_path: Path, kind: str) -> None:
    from safetensors.torch import load_file

    from tests.models.hosted import saved

    targets = ["q_proj", "v_proj"] if kind == "llama" else ["c_attn"]
    model = config(saved(tmp_path / "base", kind), lora={"r": 2, "targets": targets})
    alone = train(tmp_path / "alone", model, padded=False, stack="off")
    train(tmp_path / "stacked", model, padded=False, stack=4)
    assert "4 clients step at once" in (tmp_path / "stacked" / "log.txt").read_text()
    assert alone.history[-1].test["perplexity"] < alone.history[0].test["perplexity"]
    mine, theirs = (load_file(tmp_path / name / "model.safetensors") for name in ("alone", "stacked"))
    assert mine.keys() == theirs.keys()
    assert all(torch.allclose(mine[name], theirs[name], atol=1e-5) for name in mine)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "targets", "dtype", "close"),
    [("llama", ["q_proj", "v_proj"], torch.bfloat16, 2e-2), ("gpt2", ["c_attn"], torch.float32, 1e-5)],
)
def test_padded_clients_learn_in_lanes_what_they_learn_alone(
    tmp_path: Path, kind: str, targets: list[str], dtype: torch.dtype, close: float
) -> None:
    from safetensors.torch import load_file

    from tests.models.hosted import saved

    folder = saved(tmp_path / "base", kind, dtype)
    model = config(folder, dtype=str(dtype).removeprefix("torch."), lora={"r": 2, "targets": targets})
    alone = train(tmp_path / "alone", model, stack="off")
    lanes = train(tmp_path / "lanes", model, stack="lanes:4")
    assert "4 clients step at once in lanes" in (tmp_path / "lanes" / "log.txt").read_text()
    mine, theirs = (load_file(tmp_path / name / "model.safetensors") for name in ("lanes", "alone"))
    first = alone.history[0].train["loss"]
    assert alone.history[-1].train["loss"] < first
    assert lanes.history[0].train["loss"] == pytest.approx(first, rel=close / 10)
    for name, tensor in theirs.items():
        assert float((mine[name] - tensor).abs().max()) <= close * float(tensor.abs().max())
    test = lanes.history[-1].test
    assert np.exp(test["loss"]) == pytest.approx(test["perplexity"], rel=1e-6)


@pytest.mark.slow
def test_checkpointing_changes_no_gradient(tmp_path: Path) -> None:
    from tests.models.hosted import saved

    model = config(saved(tmp_path / "base", "llama"), lora={"r": 2, "targets": ["q_proj"], "dropout": 0.2})
    train(tmp_path / "plain", model, stack="off")
    train(tmp_path / "less", {**model, "gradient_checkpointing": True}, stack="off")
    assert bits(tmp_path / "plain") == bits(tmp_path / "less")


@pytest.mark.slow
def test_a_run_that_stops_and_goes_on_has_the_same_bits(tmp_path: Path) -> None:
    from tests.models.hosted import saved

    model = config(
        saved(tmp_path / "base", "llama", torch.bfloat16), dtype="bfloat16", lora={"r": 2, "targets": ["q_proj"]}
    )
    train(tmp_path / "whole", model)
    halves, stop = tmp_path / "halves", {"callbacks": [lambda record: record.round == 1]}
    assert train(halves, model, more=stop).stopped
    shutil.copytree(halves, tmp_path / "others")
    train(halves, model, more={"resume": True})
    assert bits(halves) == bits(tmp_path / "whole")
    assert (halves / "base.json").exists()
    assert not (halves / "frozen.safetensors").exists()
    saved(tmp_path / "base", "llama", torch.bfloat16, scale=2.0)
    with pytest.raises(ConfigError, match="what is frozen in it is not what it was"):
        train(tmp_path / "others", model, more={"resume": True})


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "head", "spec", "targets"),
    [
        ("bert", "sequence_classification", CLASSES, ["query", "value"]),
        ("bert", "token_classification", CLASSES, ["query"]),
        ("vit", "image_classification", IMAGES, ["q_proj"]),
    ],
)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_a_new_head_is_drawn_by_the_seed_and_trained(
    tmp_path: Path, kind: str, head: str, spec: DataSpec, targets: list[str], dtype: Any
) -> None:
    from tests.models.hosted import saved, trained

    model = HuggingFace(str(saved(tmp_path, kind)), dtype, Lora(r=2, targets=targets), head)
    one, other = initial_model(model, spec, 3), initial_model(model, spec, 4)
    heads = [name for name in trained(one) if "lora_" not in name]
    assert any("classifier" in name for name in heads)
    assert {p.dtype for p in trained(one).values()} == {torch.float32}
    assert not all(torch.equal(trained(one)[name], trained(other)[name]) for name in heads)
    x = torch.zeros(2, 1, 8, 8) if spec is IMAGES else torch.ones(2, 6, dtype=torch.int64)
    output = one(x)
    assert output.shape[-1] == 3
    assert output.dtype == torch.float32
    output.sum().backward()
    assert all(trained(one)[name].grad is not None for name in heads)


@pytest.mark.slow
def test_what_does_not_fit_is_said_in_one_line(tmp_path: Path) -> None:
    from tests.models.hosted import saved

    folder = str(saved(tmp_path / "base", "llama"))
    for model, spec, message in (
        (HuggingFace(str(tmp_path / "none")), TOKENS, "nothing is downloaded"),
        (HuggingFace(folder, lora=Lora()), TOKENS, r"name the layers .*; the model has .*q_proj"),
        (
            HuggingFace(folder, lora=Lora(targets=["q_prok"])),
            TOKENS,
            r"did you mean 'q_proj'.*; the model has .*v_proj",
        ),
        (HuggingFace(folder), IMAGES, "token sequences"),
        (HuggingFace(folder), DataSpec((6,), 99, vocabulary=99), "knows 24 tokens, and the data has numbers up to 98"),
        (HuggingFace(folder), DataSpec((40,), 24, vocabulary=24), "knows 32 positions, and sequences have 40"),
        (HuggingFace(str(empty(tmp_path / "body", "LlamaModel"))), TOKENS, r"model\.head: .*LlamaModel; say what"),
        (HuggingFace(str(empty(tmp_path / "bare"))), TOKENS, r"model\.path: .* cannot be read as a causal_lm model"),
    ):
        with pytest.raises(ConfigError, match=message):
            model.build(spec)


def moods(folder: Path, base: Path, **options: Any) -> Any:
    """Return texts of words with a class each."""
    draw = np.random.default_rng(4)
    words = ["two", "three", "four", "five", "yes", "no"]
    texts = [" ".join(draw.choice(words, draw.integers(1, 9))) for _ in range(32)]
    rows = [{"text": one, "mood": "high" if "five" in one else "low", "who": n % 4} for n, one in enumerate(texts)]
    file = folder / "moods.jsonl"
    file.write_text("\n".join(map(json.dumps, rows)))
    return fedray.FederatedData.from_text(
        file, tokenizer=base, target="mood", test=file, clients={"column": "who"}, **options
    )


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::FutureWarning")  # of what peft asks transformers
@pytest.mark.parametrize("lora", [None, {"r": 2, "targets": ["query", "value"]}], ids=["whole", "lora"])
def test_bert_learns_classes_of_texts_in_a_stack_in_lanes_and_alone(tmp_path: Path, lora: Any) -> None:
    from safetensors.torch import load_file

    from tests.data.text.hosted import saved as saved_words
    from tests.models.hosted import saved

    base = saved_words(saved(tmp_path / "base", "bert"), eos_token=None)  # a body without a head
    data = moods(tmp_path, base, max_length=8)
    model = fedray.FederatedModel(config(base, lora=lora))
    args: dict[str, Any] = {"rounds": 3, "optimizer": {"name": "sgd", "lr": 0.3}, "batch_size": 4}
    runs: dict[Any, Any] = {}
    for way in ("off", 4, "lanes:4"):
        run_dir = tmp_path / str(way)
        runs[way] = fedray.train(
            model, data, fedray.TrainArgs(**args, stack=way), cluster="inline", run_dir=run_dir, progress=False
        )
    losses = [record.test["loss"] for record in runs["off"].history]
    assert losses[-1] < losses[0]
    mine = load_file(tmp_path / "off" / "model.safetensors")
    for way in ("4", "lanes:4"):
        theirs = load_file(tmp_path / way / "model.safetensors")
        assert mine.keys() == theirs.keys()
        assert all(torch.allclose(mine[name], theirs[name], atol=1e-5) for name in mine)
    found = fedray.load(tmp_path / "off").predict(["five yes", "no"])
    assert found.classes == ("high", "low")
    assert found.probabilities is not None
    np.testing.assert_allclose(found.probabilities.sum(axis=1), 1.0)
