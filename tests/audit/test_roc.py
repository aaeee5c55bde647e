"""The ROC of scores, held to scikit-learn and to a closed form."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import norm
from sklearn.metrics import roc_auc_score, roc_curve

from fedray.audit.roc import Roc


def test_area_and_points_are_those_of_scikit_learn_with_equal_scores_too() -> None:
    draw = np.random.default_rng(1)
    there, scores = draw.random(300) < 0.4, draw.integers(0, 20, 300).astype(float)
    roc = Roc(scores, there)
    alarms, hits, _ = roc_curve(there, scores, drop_intermediate=False)
    assert np.allclose(roc.points, (alarms, hits))
    assert roc.auc == pytest.approx(roc_auc_score(there, scores))
    assert roc.to_json()["members"] + roc.to_json()["others"] == 300


def test_of_normal_scores_it_is_that_of_the_normal_distribution() -> None:
    draw, there = np.random.default_rng(2), np.arange(40_000) % 2 == 0
    roc = Roc(draw.standard_normal(40_000) + 1.5 * there, there)
    assert roc.auc == pytest.approx(norm.cdf(1.5 / np.sqrt(2)), abs=0.01)
    for alarms in (0.001, 0.01):
        assert roc.hits(alarms) == pytest.approx(norm.sf(norm.isf(alarms) - 1.5), abs=0.02)
    assert roc.accuracy == pytest.approx(norm.cdf(0.75), abs=0.01)
