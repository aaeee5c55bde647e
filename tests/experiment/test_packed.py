"""Rows packed whole under models that tell them apart, and under one that does not."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import fedray
from fedray.core.errors import ConfigError
from fedray.data.columns.inputs import InputColumns
from fedray.data.spec import DataSpec
from fedray.experiment.packed import check_packed
from fedray.models.hosted import Hosted
from fedray.models.huggingface import HuggingFace
from fedray.tasks import CausalLM, outputs_of
from tests.models.hosted import saved

ROWS = [("abc", "de"), ("fg", "abcdefg"), ("a", "b"), ("cdefgab", "c"), ("g", "fed")]


def written(folder: Path) -> Path:
    file = folder / "ann.jsonl"
    file.write_text("\n".join(json.dumps({"prompt": prompt, "completion": rest}) for prompt, rest in ROWS))
    return file


def read(file: Path, **options: object) -> fedray.FederatedData:
    return fedray.FederatedData.from_text(file, tokenizer="bytes", max_length=16, **options)  # type: ignore[arg-type]


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["llama", "gpt2"])
def test_a_packed_batch_has_the_loss_of_its_rows_alone(kind: str, tmp_path: Path) -> None:
    file = written(tmp_path)
    saved(tmp_path / "base", kind, scale=4.0)
    module = HuggingFace(str(tmp_path / "base")).build(DataSpec((16,), 24, vocabulary=24)).eval()
    totals = {}
    for how in (False, "bfd", "wrapped"):
        data = read(file, packing=how)
        x, y = data.rows(np.array([0])).take(np.arange(data.sizes[0])[None])
        x, target = x[0], y[0]
        ids = x["input_ids"] if isinstance(x, InputColumns) else x
        small = torch.where(ids < 256, ids % 24, 0)  # as many tokens as the tiny model knows
        given = InputColumns({**x.columns, "input_ids": small}) if isinstance(x, InputColumns) else small
        task = CausalLM(ignore_index=257)
        output = outputs_of(module, given).detach()
        target = torch.where(target == 257, 257, target % 24)
        losses = torch.nn.functional.cross_entropy(
            task.logits(output), task.labels(target), ignore_index=257, reduction="none"
        )
        count = int((task.labels(target) != 257).sum())
        totals[how] = float(losses.sum()) / count, count
        if how == "bfd":
            assert len(data.sizes) == 1
            assert data.sizes[0] < len(ROWS)
    assert totals["bfd"][1] == totals[False][1]
    assert totals["bfd"][0] == pytest.approx(totals[False][0], rel=1e-5)
    assert abs(totals["wrapped"][0] / totals[False][0] - 1) > 1e-4


class Looking(nn.Module):
    """Says of each place what stands before it, whatever the rows."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.head = nn.Embedding(257, 8), nn.Linear(8, 257)

    def forward(self, input_ids: Tensor, position_ids: Tensor) -> Tensor:
        found: Tensor = self.head(self.embed(input_ids).cumsum(dim=1))
        return found


class Apart(Looking):
    """Says of each place what stands there."""

    def forward(self, input_ids: Tensor, position_ids: Tensor) -> Tensor:
        found: Tensor = self.head(self.embed(input_ids))
        return found


def test_a_model_that_looks_into_other_rows_is_refused(tmp_path: Path) -> None:
    data = read(written(tmp_path), packing="bfd")
    with pytest.raises(ConfigError, match=r"data.packing=bfd: this model looks from one row into the one before it"):
        check_packed(data, Looking())
    check_packed(data, Apart())
    check_packed(read(written(tmp_path)), Looking())
    saved(tmp_path / "base", "llama", scale=4.0)
    small = read(written(tmp_path), packing="bfd")
    small.spec = DataSpec.of(
        {**vars(small.spec), "columns": [{**vars(c), "vocabulary": 24} for c in small.spec.columns]}
    )
    module = HuggingFace(str(tmp_path / "base")).build(small.spec)
    assert isinstance(module, Hosted)
    check_packed(small, module)


def test_packed_rows_train_and_are_evaluated_stacked_and_alone(tmp_path: Path) -> None:
    file = written(tmp_path)
    (tmp_path / "bob.jsonl").write_text(file.read_text())
    data = fedray.FederatedData.from_text(
        [file, tmp_path / "bob.jsonl"], test=file, tokenizer="bytes", max_length=16, packing="bfd"
    )
    found = {}
    for stack in (2, "off"):
        model = fedray.FederatedModel(seeded_apart, task={"name": "causal_lm", "samples": 1, "new_tokens": 3})
        args = fedray.TrainArgs(rounds=1, batch_size=2, stack=stack)
        folder = tmp_path / f"run{stack}"
        result = fedray.train(model, data, args, cluster="inline", run_dir=folder, progress=False)
        found[stack] = result.history[-1].test["loss"]
        assert result.history[-1].samples[0]["prompt"] in {prompt for prompt, _ in ROWS}
    assert found[2] == pytest.approx(found["off"], rel=1e-5)
    log = (tmp_path / "runoff" / "log.txt").read_text()
    assert "full, rows whole; 0 cut to 16 tokens" in log


def seeded_apart() -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Apart()
