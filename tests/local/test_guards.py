"""What a client program may say and nobody would hear."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from fedray.core.fields import Field
from fedray.local.guards import check_in_place, check_rows, check_slots, check_state, read_only

MODELS = torch.zeros(2, 5)


def test_a_hook_may_return_what_it_changed_or_a_part_of_it_or_nothing() -> None:
    grad = torch.ones(2, 4)
    for returned in (grad, grad[:, 1:], grad.mul_(0.5), None, 3):
        check_in_place(returned, grad, "gradient")
    for other in (grad.clone(), grad + 1.0, torch.zeros(2)):
        with pytest.raises(TypeError, match=r"^after=\.\.\. changes its tensor in place, .*: write step\."):
            check_in_place(other, grad, "after")


@pytest.mark.parametrize("shape", [(), (3,), (3, 4), (2, 1, 4)])
def test_what_is_sent_has_a_row_for_each_client(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"^send\('h'\): a row or a number for each of the block's clients, \[2, k\]"):
        check_rows("h", torch.zeros(shape), 2)
    assert check_rows("h", torch.zeros(2), 2).shape == (2, 1)
    assert check_rows("h", torch.zeros(2, 0), 2).shape == (2, 0)


def test_what_the_server_sent_is_read_only_and_so_are_its_views() -> None:
    down = {"model": torch.zeros(4), "control": torch.zeros(4)}
    with read_only(down):
        _ = down["model"] + 1.0
    with pytest.raises(RuntimeError, match=r"^c\.down\['control'\] is read-only"), read_only(down):
        down["control"].add_(1.0)
    words = r"^c\.down\['model'\], of which c\.anchor is a view, is read-only"
    with pytest.raises(RuntimeError, match=words), read_only(down):
        down["model"][:2].zero_()


@pytest.mark.parametrize(
    ("kept", "words"),
    [
        ({"own": torch.zeros(2, 3), "owm": torch.zeros(2, 3)}, r"c\.state\['owm'\]: nobody has it; .* own$"),
        ({}, r"c\.state\['own'\]: the program has deleted it$"),
        ({"own": torch.zeros(3)}, r"\[2, 3\]; this one is \[3\]$"),
        ({"own": torch.zeros(1, 3)}, r"\[2, 3\]; this one is \[1, 3\]$"),
        (
            {"own": torch.zeros(2, 3).long()},
            r"^c\.state\['own'\] is torch.int64, and initial_state has it as ",
        ),
    ],
)
def test_clients_keep_what_they_had(kept: dict[str, Tensor], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        check_state(kept, {"own": Field(3)}, MODELS)


def test_what_is_kept_is_no_view_of_the_models() -> None:
    own, view = torch.zeros(2, 3), MODELS[:, :3]
    kept = check_state({"own": own, "view": view}, {"own": Field(3), "view": Field(3)}, MODELS)
    assert kept["own"] is own
    assert kept["view"].data_ptr() != MODELS.data_ptr()


@pytest.mark.parametrize("slot", [[0, 3], [-1, 0], [0.0, 1.0], [0], [[0, 1]]], ids=str)
def test_a_slot_is_a_place_below_their_number_for_each_client(slot: list[Any]) -> None:
    assert check_slots("part", torch.tensor([2, 0]), 3, 2).tolist() == [2, 0]
    with pytest.raises(
        ValueError, match=r"^send\('part', slot=...\): an integer from 0 to 2 for each of the 2 clients$"
    ):
        check_slots("part", torch.tensor(slot), 3, 2)
