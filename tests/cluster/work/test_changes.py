"""What of a broadcast has changed, sent and put where it belongs."""

from __future__ import annotations

import torch

from fedray.cluster.work.changes import changed, with_changes


def test_the_model_of_before_and_what_has_changed_are_the_model() -> None:
    before, after = torch.arange(6.0), torch.arange(6.0)
    after[1:3] = -1.0
    after[5] = 7.0
    sent = changed({"model": after, "control": torch.ones(3)}, [slice(1, 3), slice(5, 6), slice(6, 6)])
    assert sum(part.numel() for part in sent.values()) == 3 + 6 + 3
    here = with_changes(sent, before)
    assert here["model"] is before
    assert torch.equal(before, after)
    assert here["control"].tolist() == [1.0] * 3
    assert here.keys() == {"model", "control"}
    again = with_changes(sent, before)
    assert torch.equal(again["model"], after), "a call that is made twice changes nothing more"


def test_a_whole_broadcast_stays_as_it_is() -> None:
    parts = {"model": torch.ones(2)}
    assert with_changes(parts, torch.zeros(2))["model"] is parts["model"]
