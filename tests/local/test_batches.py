"""Batches leave padding out."""

from __future__ import annotations

import numpy as np
import torch

from fedray.local.batches import Batch, Trace


def test_a_mean_leaves_padding_out() -> None:
    share = torch.tensor([[0.5, 0.5, 0.0], [1.0, 0.0, 0.0]])
    batch = Batch(torch.zeros(2, 3, 1), torch.zeros(2, 3), np.array([2, 1]), share)
    assert batch.mean(torch.tensor([[1.0, 3.0, 9.0], [5.0, 9.0, 9.0]])).tolist() == [2.0, 5.0]


def test_the_course_of_a_fit_counts_steps_and_averages_over_examples() -> None:
    count = np.array([[4, 4, 1], [4, 0, 0]])
    trace = Trace(np.array([18.0, 2.0]), count, {"lr": 0.5}, torch.device("cpu"))
    assert trace.steps.tolist() == [[3.0], [1.0]]
    assert trace.loss.tolist() == [2.0, 0.5]
    assert trace.lr == 0.5
