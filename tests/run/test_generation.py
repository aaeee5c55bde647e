"""What is generated after prompts, by models whose next token is known."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from fedray.data.spec import DataSpec
from fedray.models.decoder import Decoder
from fedray.run.generation import Generation, generate, nucleus, stopping

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


def test_a_nucleus_is_the_fewest_tokens_that_reach_a_share() -> None:
    shares = torch.tensor([[0.1, 0.4, 0.2, 0.3], [0.25, 0.25, 0.25, 0.25]], dtype=torch.float64)
    for top_p, kept in ((1.0, [4, 4]), (0.95, [4, 4]), (0.85, [3, 4]), (0.7, [2, 3]), (0.5, [2, 2]), (1e-9, [1, 1])):
        found = nucleus(shares, top_p)
        assert (found > 0).sum(dim=1).tolist() == kept
        assert torch.equal(found[found > 0], shares[found > 0])
        # No token that is left out is likelier than one that is not.
        assert all(
            row[row == 0].numel() == 0 or full[row == 0].max() <= full[row > 0].min()
            for row, full in zip(found, shares, strict=True)
        )
    how = Generation(1, window=2, vocabulary=4, temperature=1.0, top_p=0.7)
    drawn = generate(lambda x: shares[:1].log().expand(*x.shape, 4), [[0]] * 500, how)
    assert {one[0] for one in drawn} == {1, 3}


def test_a_text_ends_where_a_word_is_said() -> None:
    def counts(x: Tensor) -> Tensor:
        return torch.nn.functional.one_hot((x + 1) % WORDS, WORDS).float()

    stops = stopping(["56", "9"], lambda ids: "".join(map(str, ids)))
    how = Generation(5, window=8, vocabulary=WORDS, stops=stops)
    assert generate(counts, [[3], [7], [0]], how) == [[4, 5, 6], [8, 9], [1, 2, 3, 4, 5]]
    assert stopping([], str) is None
