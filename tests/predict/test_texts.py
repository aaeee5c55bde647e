"""The perplexity of rows of text, against a loop over their tokens."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import fedray
from fedray.core.errors import ConfigError
from fedray.data.spec import DataSpec
from fedray.predict.exported import export
from fedray.predict.loaded import load
from fedray.predict.predictor import Predictor
from fedray.rundir.folder import RunFolder
from fedray.tasks import CausalLM
from tests.data.text.hosted import TEMPLATE

ROWS = [("ab", "cd"), ("a longer prompt", "e"), ("x", "a completion that is cut"), ("a prompt that fills it all", "f")]
SAID = {"name": "text", "tokenizer": "bytes", "max_length": 20}


def written(file: Path) -> Path:
    file.write_text("\n".join(json.dumps({"prompt": prompt, "completion": rest}) for prompt, rest in ROWS))
    return file


def test_a_row_s_perplexity_is_that_of_what_is_learnt_of_it(tmp_path: Path) -> None:
    file = written(tmp_path / "ann.jsonl")
    data = fedray.FederatedData.from_text(file, tokenizer="bytes", max_length=20)
    model = fedray.FederatedModel({"name": "decoder", "dim": 8, "heads": 2, "layers": 1}, task="causal_lm")
    result = fedray.train(
        model, data, fedray.TrainArgs(rounds=1), cluster="inline", run_dir=tmp_path / "run", progress=False
    )
    predictor = load(tmp_path / "run")
    found = predictor.predict(file)
    expected = []
    for prompt, rest in ROWS[:3]:
        ids = torch.tensor([*(prompt + rest).encode(), 256][:20])
        with torch.no_grad():
            losses = -result.model(ids[None])[0, :-1].log_softmax(1)[torch.arange(len(ids) - 1), ids[1:]]
        expected.append(float(losses[len(prompt) - 1 :].mean().exp()))
    np.testing.assert_allclose(found.predicted[:3], expected, rtol=1e-5)
    assert np.isnan(found.predicted[3])
    assert found.rest["targets"].tolist() == [3, 2, 19, 0]
    assert found.to_csv().splitlines()[0] == '"row","targets","perplexity"'
    small = Predictor(CausalLM().of(DataSpec((4,), 9, vocabulary=9)), predictor.outputs, taken={"text": SAID})
    with pytest.raises(ConfigError, match="knows 257 tokens, and the run was trained with 9: it has changed"):
        small.predict(file)
    rows = [{"prompt": prompt, "completion": rest} for prompt, rest in ROWS]
    np.testing.assert_array_equal(predictor.predict(rows).predicted, found.predicted)
    export(RunFolder(tmp_path / "run"), tmp_path / "model.safetensors")
    exported = load(tmp_path / "model.safetensors", model={"name": "decoder", "dim": 8, "heads": 2, "layers": 1})
    np.testing.assert_array_equal(exported.predict(rows).predicted, found.predicted)
    said = predictor.generate(["ab", {"prompt": "x"}], 3)
    assert said.to_csv().splitlines()[0] == '"row","prompt","completion"'
    assert list(exported.generate(["ab", "x"], 3).predicted) == list(said.predicted)
    assert predictor.generate(file, 3).predicted[0] == said.predicted[0]
    drawn = [list(predictor.generate(["ab"], 9, temperature=1.0, seed=seed).predicted) for seed in (0, 0, 1)]
    assert drawn[0] == drawn[1] != drawn[2]


MOODS = [("oh no", "sad"), ("yes", "glad"), ("a text that is far too long", "glad"), ("nothing", "sad")]


def test_a_text_s_class_is_that_of_the_model_with_a_share_for_each(tmp_path: Path) -> None:
    rows = [{"id": number, "body": text, "mood": mood} for number, (text, mood) in enumerate(MOODS)]
    file = tmp_path / "ann.jsonl"
    file.write_text("\n".join(map(json.dumps, rows)))
    data = fedray.FederatedData.from_text(file, tokenizer="bytes", format="body", target="mood", max_length=12)
    model = fedray.FederatedModel({"name": "transformer", "dim": 8, "heads": 2, "layers": 1})
    result = fedray.train(
        model, data, fedray.TrainArgs(rounds=1), cluster="inline", run_dir=tmp_path / "run", progress=False
    )
    predictor = load(tmp_path / "run")
    found = predictor.predict(file)
    x, y = data.rows(np.array([0])).take(np.arange(4)[None])
    assert y.tolist() == [[1, 0, 0, 1]]
    with torch.no_grad():
        shares = result.model(x["input_ids"][0], x["attention_mask"][0]).softmax(1).numpy()
    assert found.probabilities is not None
    np.testing.assert_allclose(found.probabilities, shares, rtol=1e-5)
    assert list(found.predicted) == [("glad", "sad")[one] for one in shares.argmax(axis=1)]
    assert found.to_csv().splitlines()[0] == '"row","id","mood","predicted","glad","sad"'
    np.testing.assert_allclose(predictor.predict_proba([MOODS[0][0], {"body": "yes"}]), shares[:2], rtol=1e-5)
    with pytest.raises(ConfigError, match="was not trained by task: causal_lm"):
        predictor.generate(["oh"])
    export(RunFolder(tmp_path / "run"), tmp_path / "model.safetensors")
    np.testing.assert_array_equal(load(tmp_path / "model.safetensors").predict(file).probabilities, found.probabilities)


def test_what_no_text_is_is_refused(tmp_path: Path) -> None:
    outputs = nn.Identity()
    predictor = Predictor(CausalLM().of(DataSpec((4,), 257, vocabulary=257)), outputs, taken={"text": SAID})
    with pytest.raises(ConfigError, match="a single text is a list of one"):
        predictor.generate("hello")
    with pytest.raises(ConfigError, match="rows: there are no rows"):
        predictor.generate([])
    with pytest.raises(ConfigError, match="rows has the columns prompt, completio"):
        predictor.predict([{"prompt": "a", "completio": "b"}])
    with pytest.raises(ConfigError, match="at least 1 new token is needed, got 0"):
        predictor.generate([{"prompt": "a", "completion": "b"}], 0)
    with pytest.raises(ConfigError, match="was not trained by task: causal_lm"):
        Predictor(predictor.task, outputs).generate(["a"])


@pytest.mark.slow  # imports transformers
def test_a_chat_without_an_answer_has_no_perplexity(caplog: pytest.LogCaptureFixture) -> None:
    """What training refuses, as nothing is learnt of it, is a row like any other here."""
    said = {**SAID, "max_length": 40, "format": {"messages": "chat", "chat_template": TEMPLATE}}

    def alike(x: torch.Tensor) -> torch.Tensor:
        return torch.zeros(*x.shape, 257)

    predictor = Predictor(CausalLM().of(DataSpec((40,), 257, vocabulary=257, padding=257)), alike, taken={"text": said})
    asked, answered = {"role": "user", "content": "two?"}, {"role": "assistant", "content": "yes"}
    rows = [{"chat": [asked, answered]}, {"chat": [asked]}, {"chat": [asked, answered, asked]}]
    found = predictor.predict(rows)
    np.testing.assert_allclose(found.predicted, [257.0, np.nan, 257.0], rtol=1e-5)
    learnt = len("yes </s>")
    assert found.rest["targets"].tolist() == [learnt, 0, learnt]
    (warning,) = caplog.messages
    assert warning.startswith("rows: 1 of 3 rows have no perplexity")
    assert "--generate 40, in Python generate(rows)" in warning
    caplog.clear()
    predictor.predict(rows[:1])
    assert caplog.messages == []
