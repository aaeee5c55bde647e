"""What is said to prompts by models of an encoder and a decoder, each token by hand."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fedray.data.columns.inputs import call
from fedray.data.spec import Column, DataSpec
from fedray.run.generation import Generation
from fedray.run.replies import replies, takes_pairs, window_of

WORDS, START = 11, 1
SPEC = DataSpec(
    (),
    WORDS,
    columns=(Column("labels", (6,), WORDS), Column("input_ids", (9,), WORDS), Column("attention_mask", (9,), 2)),
)


class Answering(nn.Module):
    """A model that says each token by the mean of the prompt and by all tokens said before."""

    def __init__(self, words: int = WORDS, width: int = 12, scale: float = 1.0) -> None:
        super().__init__()
        self.asked, self.said = nn.Embedding(words, width), nn.GRU(width, width, batch_first=True)
        self.read, self.head = nn.Embedding(words, width), nn.Linear(width, words)
        for parameter in self.parameters():
            parameter.detach().mul_(scale)

    def decoded(self, input_ids: Tensor, attention_mask: Tensor, before: Tensor) -> Tensor:
        """Return logits ``[B, T, V]`` by the tokens that were said before each."""
        mask = attention_mask[..., None]
        asked = (self.asked(input_ids) * mask).sum(dim=1) / mask.sum(dim=1)
        found: Tensor = self.head(self.said(self.read(before) + asked[:, None])[0])
        return found

    def forward(self, labels: Tensor, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        return self.decoded(input_ids, attention_mask, F.pad(labels[:, :-1], (1, 0), value=START))


def answering() -> Answering:
    with torch.random.fork_rng():
        torch.manual_seed(3)
        return Answering(scale=3.0).eval()


def by_hand(module: Answering, prompt: list[int], count: int, window: int) -> list[int]:
    """The oracle: one prompt, no padding, the decoder given what it has said."""
    ids, said = torch.tensor([prompt]), list[int]()
    for _ in range(count):
        before = torch.tensor([[START, *said[-(window - 1) :]]])
        said.append(int(module.decoded(ids, torch.ones_like(ids), before)[0, -1].argmax()))
    return said


@torch.no_grad()
def test_prompts_of_any_length_are_answered_together_as_each_alone() -> None:
    module, prompts = answering(), [[1, 2, 3], [4], [5, 6, 7, 8, 9, 10, 1, 2]]
    how = Generation(9, window=window_of(SPEC), vocabulary=WORDS, multiple=4)
    found = replies(lambda x: call(module, x), SPEC, prompts, how)
    assert found == [by_hand(module, prompt, 9, 7) for prompt in prompts]
    assert len({tuple(one) for one in found}) == 3, "each prompt has an answer of its own"


@torch.no_grad()
def test_an_answer_ends_by_its_token_and_the_others_go_on() -> None:
    module, prompts = answering(), [[1, 2, 3], [4], [5, 6, 7, 8, 9, 10, 1, 2]]
    whole = [by_hand(module, prompt, 6, 7) for prompt in prompts]
    end = whole[0][2]
    how = Generation(6, window=window_of(SPEC), vocabulary=WORDS, end=end)
    wanted = [one[: one.index(end)] if end in one else one for one in whole]
    assert replies(lambda x: call(module, x), SPEC, prompts, how) == wanted


@torch.no_grad()
def test_what_is_drawn_has_the_name_of_its_prompt() -> None:
    module, prompts = answering(), [[1, 2, 3], [4], [5, 6]]
    how: Any = Generation(5, window=window_of(SPEC), vocabulary=WORDS, temperature=2.0, seed=4)
    together = replies(lambda x: call(module, x), SPEC, prompts, how, keys=[7, 8, 9])
    alone = [
        replies(lambda x: call(module, x), SPEC, [one], how, keys=[k])
        for one, k in zip(prompts, (7, 8, 9), strict=True)
    ]
    assert together == [one[0] for one in alone]


def test_a_prompt_may_have_no_mask_and_nothing_else_beside_it() -> None:
    ids, labels, ages = Column("input_ids", (9,), 9), Column("labels", (6,), 9), Column("age", (1,))
    assert takes_pairs(DataSpec((), 9, columns=(ids, labels)))
    assert not takes_pairs(DataSpec((), 9, columns=(ids, labels, ages)))
    assert not takes_pairs(DataSpec((9,), 9, vocabulary=9))
