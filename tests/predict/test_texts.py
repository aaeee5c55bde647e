"""The perplexity of rows of text, against a loop over their tokens."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

import fedray
from fedray.core.errors import ConfigError
from fedray.data.spec import DataSpec
from fedray.predict.loaded import load
from fedray.predict.predictor import Predictor
from fedray.predict.texts import is_text, scored
from fedray.tasks import CausalLM

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
    found = scored(predictor, file, SAID)
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
    small = Predictor(CausalLM().of(DataSpec((4,), 9, vocabulary=9)), predictor.outputs)
    with pytest.raises(ConfigError, match="knows 257 tokens, and the run was trained with 9: it has changed"):
        scored(small, file, SAID)


def test_what_text_is_says_the_run() -> None:
    assert is_text(Path("a.jsonl"), SAID)
    assert not is_text(Path("a.npy"), SAID)
    assert not is_text(Path("a.parquet"), {"name": "parquet"})
