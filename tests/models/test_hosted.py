"""Models of transformers as modules: padding of their own, and keys and values that are kept."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from fedray.core.errors import ConfigError
from fedray.data.spec import Column, DataSpec
from fedray.models import initial_model, resolve_model
from fedray.run.generation import Generation, generate
from tests.models.test_huggingface import config


@pytest.mark.slow
def test_a_model_that_looks_back_finds_the_end_of_a_text_by_its_own_padding(tmp_path: Path) -> None:
    from tests.models.hosted import saved

    base = saved(tmp_path, "llama")  # which names </s>, 2, and no padding
    columns = (Column("input_ids", (8,), 24), Column("attention_mask", (8,), 2))
    spec = DataSpec((), 3, classes=("a", "b", "c"), columns=columns)
    module: Any = initial_model(resolve_model(config(base)), spec, 3)
    assert module.model.config.pad_token_id == 2
    ids, mask = torch.tensor([[5, 6, 7, 9, 9, 9, 9, 9]]), torch.tensor([[1, 1, 1, 0, 0, 0, 0, 0]])
    short = module(input_ids=ids[:, :3], attention_mask=mask[:, :3])
    torch.testing.assert_close(module(input_ids=ids, attention_mask=mask), short)
    said = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**said, "eos_token_id": None}))
    with pytest.raises(ConfigError, match="names neither pad_token_id nor eos_token_id"):
        initial_model(resolve_model(config(base)), spec, 3)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["llama", "gpt2"])
def test_a_model_that_keeps_keys_and_values_says_what_one_that_reads_all_again_says(tmp_path: Path, kind: str) -> None:
    from tests.models.hosted import saved

    spec = DataSpec((32,), 24, vocabulary=24)
    module: Any = initial_model(resolve_model(config(saved(tmp_path, kind, scale=8.0))), spec, 3).eval()
    assert module.speaks
    prompts, keys = [[1, 2, 3, 4, 5], [6], [7, 8, 9]], [3, 1, 4]
    how = Generation(9, window=32, vocabulary=24, end=None, multiple=8)
    go_on = torch.no_grad()(module.go_on)

    def forward(x: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            found: torch.Tensor = module(x)
        return found

    for way in (how, replace(how, temperature=2.0, seed=4), replace(how, temperature=2.0, top_p=0.5)):
        plain = generate(forward, prompts, way, keys)
        assert generate(forward, prompts, way, keys, go_on) == plain
        ending = replace(way, end=plain[1][3], stops=lambda said: len(said) == 6)
        assert generate(forward, prompts, ending, keys, go_on) == generate(forward, prompts, ending, keys)
    theirs = module.model.generate(
        torch.tensor(prompts[:1]), attention_mask=torch.ones(1, 5), max_new_tokens=9, do_sample=False, eos_token_id=None
    )
    assert theirs[0, 5:].tolist() == generate(forward, prompts[:1], how, go_on=go_on)[0]
    # What does not fit the window is seen by its end alone, and is read again.
    short = replace(how, window=8)
    assert generate(forward, prompts, short, go_on=go_on) == generate(forward, prompts, short)
