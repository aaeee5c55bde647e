"""Prompts and answers under the model of a run: perplexities and completions, against the model itself."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

import fedray
from fedray.core.errors import ConfigError
from fedray.predict.loaded import load
from fedray.run.samples import check_samples
from fedray.tasks import Seq2SeqLM
from tests.run.test_replies import Answering, by_hand

ROWS = [("abc", "cb"), ("a longer prompt", "e"), ("x", "an answer that is cut"), ("abc", "b")]
END = 256


def written(folder: Path) -> Path:
    file = folder / "ann.jsonl"
    file.write_text("\n".join(json.dumps({"prompt": prompt, "completion": said}) for prompt, said in ROWS))
    return file


def trained(folder: Path, file: Path, **task: int) -> fedray.Result:
    data = fedray.FederatedData.from_text(file, tokenizer="bytes", test=file, max_length=12, pairs=True)
    model = fedray.FederatedModel(partial(Answering, 257), task={"name": "seq2seq_lm", **task})
    args = fedray.TrainArgs(rounds=3, batch_size=2, optimizer={"name": "adamw", "lr": 0.05})
    return fedray.train(model, data, args, cluster="inline", run_dir=folder / "run", progress=False)


def tokens(text: str) -> list[int]:
    return [*text.encode()[:11], END]


def test_rows_have_the_perplexity_of_their_answers_and_prompts_are_answered(tmp_path: Path) -> None:
    file = written(tmp_path)
    result = trained(tmp_path, file, samples=2, new_tokens=5)
    module = result.model.eval()
    assert isinstance(module, Answering)
    predictor = load(tmp_path / "run", model=partial(Answering, 257))
    found = predictor.predict(file)
    for row, (prompt, said) in enumerate(ROWS):
        ids, labels = torch.tensor([tokens(prompt)]), torch.tensor([tokens(said)])
        with torch.no_grad():
            shares = module(labels, ids, torch.ones_like(ids))[0].double().log_softmax(dim=1)
        loss = -shares[torch.arange(labels.shape[1]), labels[0]].mean()
        assert found.predicted[row] == pytest.approx(float(loss.exp()), rel=1e-5)
        assert found.rest["targets"][row] == labels.shape[1]
    total = (np.log(found.predicted) * found.rest["targets"]).sum() / found.rest["targets"].sum()
    assert result.history[-1].test["loss"] == pytest.approx(total, rel=1e-5)
    generated = predictor.generate([prompt for prompt, _ in ROWS], 5)
    with torch.no_grad():
        wanted = [by_hand(module, tokens(prompt), 5, 13) for prompt, _ in ROWS]
    whole = [one[: one.index(END)] if END in one else one for one in wanted]
    assert list(generated.predicted) == [bytes(one).decode(errors="replace") for one in whole]
    assert list(generated.rest["prompt"]) == [prompt for prompt, _ in ROWS]
    samples = result.history[-1].samples
    assert [one["row"] for one in samples] == [0, 3]
    assert [one["completion"] for one in samples] == [generated.predicted[0], generated.predicted[3]]
    assert [(one["prompt"], one["reference"]) for one in samples] == [ROWS[0], ROWS[3]]
    assert list(predictor.generate([{"prompt": "x"}], 5).predicted) == [generated.predicted[2]]


def test_what_no_pairs_are_is_refused(tmp_path: Path) -> None:
    file = written(tmp_path)
    trained(tmp_path, file)
    predictor = load(tmp_path / "run", model=partial(Answering, 257))
    with pytest.raises(ConfigError, match="completion"):
        predictor.predict([{"prompt": "a", "completio": "b"}])
    with pytest.raises(ConfigError, match="row 1: the text is empty"):
        predictor.generate([" "])
    columns = {
        "input_ids": np.ones((4, 3), dtype=np.int64),
        "labels": np.ones((4, 2), dtype=np.int64),
        "age": np.ones((4, 1)),
    }
    y = np.ones((4, 2), dtype=np.int64)
    data = fedray.FederatedData.from_arrays(columns, y, clients=[0, 0, 1, 1], test=(columns, y))
    with pytest.raises(
        ConfigError, match=r"task\.samples: inputs must be input_ids and labels, with attention_mask, and"
    ):
        check_samples(Seq2SeqLM(samples=1).of(data.spec), data, tested=True)
