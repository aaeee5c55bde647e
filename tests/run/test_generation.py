"""What is generated after prompts, by models whose next token is known."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from fedray.data.spec import DataSpec
from fedray.models.decoder import Decoder
from fedray.run.generation import Generation, generate

WORDS = 11


def decoder() -> torch.nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(3)
        module = Decoder(dim=16, heads=2, layers=2).build(DataSpec((12,), WORDS, vocabulary=WORDS)).eval()
        for parameter in module.parameters():
            parameter.detach().mul_(30)  # so that what comes next depends on what was before
    return module


def alone(module: torch.nn.Module, prompt: list[int], count: int, window: int) -> list[int]:
    """The oracle: one row, no padding, one token after the other."""
    row = list(prompt)
    for _ in range(count):
        with torch.no_grad():
            row.append(int(module(torch.tensor([row[-window:]]))[0, -1].argmax()))
    return row[len(prompt) :]


def test_prompts_of_any_length_go_on_together_as_each_alone() -> None:
    module, prompts = decoder(), [[1, 2, 3], [4], [5, 6, 7, 8, 9, 10, 1, 2, 3, 4]]
    found = generate(lambda x: module(x).detach(), prompts, Generation(9, window=12, vocabulary=WORDS, multiple=4))
    assert found == [alone(module, prompt, 9, 12) for prompt in prompts]
    assert len({token for said in found for token in said}) > 3


def test_what_ends_a_text_ends_its_prompt_alone() -> None:
    shapes = []

    def counts(x: Tensor) -> Tensor:
        shapes.append(tuple(x.shape))
        return torch.nn.functional.one_hot((x + 1) % WORDS, WORDS).float()

    how = Generation(4, window=8, vocabulary=WORDS, end=5, multiple=8)
    assert generate(counts, [[3], [4], [6, 7]], how) == [[4], [], [8, 9, 10, 0]]
    assert shapes == [(3, 8), (2, 8), (1, 8), (1, 8)]
    assert generate(counts, [[3]], replace(how, vocabulary=3)) == [[0, 1, 2, 0]]  # of outputs that are tokens alone


def test_draws_have_the_shares_of_the_softmax_and_a_name() -> None:
    logits = torch.tensor([0.0, 1.0, 2.0])
    how = Generation(1, window=2, vocabulary=3, temperature=2.0, seed=5, round=2)

    def drawn(how: Generation, keys: range) -> Tensor:
        found = generate(lambda x: logits.expand(*x.shape, 3), [[0]] * len(keys), how, keys)
        return torch.tensor(found)[:, 0]

    first = drawn(how, range(4000))
    shares = first.bincount(minlength=3) / 4000
    torch.testing.assert_close(shares, (logits / 2).softmax(0), atol=0.025, rtol=0)
    assert torch.equal(drawn(how, range(4000)), first)
    assert torch.equal(drawn(how, range(100, 200)), first[100:200])
    assert not torch.equal(drawn(replace(how, seed=6), range(4000)), first)
    assert not torch.equal(drawn(replace(how, round=3), range(4000)), first)
