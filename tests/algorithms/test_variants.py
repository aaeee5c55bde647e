"""The parts that models of different size cannot have beside them, by the check itself."""

from __future__ import annotations

from dataclasses import replace

import pytest
from torch import nn

from fedray.aggregators import Krum, Mean
from fedray.aggregators.base import Aggregator
from fedray.aggregators.holders import MeanOfHolders
from fedray.algorithms import FedAvg, HeteroFL, Scaffold
from fedray.algorithms.composition import compose
from fedray.algorithms.variants import check_variants, fitted
from fedray.config.sections import LocalSection
from fedray.core.errors import ConfigError
from fedray.core.layout import Layout
from fedray.core.regions import Regions
from fedray.sampling import Full
from fedray.transforms import BF16, Clip, TopK, Transform
from tests.helpers import class_problem, local_task

MODEL = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 1))
PLAIN = Layout.of(MODEL)


@pytest.mark.parametrize(
    ("aggregator", "transforms", "layout", "message"),
    [
        (Krum(1), [], PLAIN, r"^aggregator: heterofl has models.* in the place of krum$"),
        (Mean(), [TopK(0.5)], PLAIN, r"^transforms: heterofl .*topk"),
        (Mean(), [], Layout.of(MODEL, Regions(personal=("1",))), r"^algorithm: heterofl .*1\.weight does here"),
        (Mean(), [], Layout.of(MODEL, Regions(frozen=("1",))), r"frozen, as 1\.weight is here$"),
        (Mean(), [], Layout.of(nn.DataParallel(MODEL)), r"give it without module\.$"),
    ],
)
def test_it_is_refused(aggregator: Aggregator, transforms: list[Transform], layout: Layout, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        check_variants(compose(HeteroFL(), transforms, aggregator, LocalSection()), layout)
    check_variants(compose(FedAvg(), transforms, aggregator, LocalSection()), layout)


def test_it_fits() -> None:
    chain: list[Transform] = [Clip(1.0), TopK(0.5, error_feedback=False), BF16()]
    algorithm = compose(HeteroFL(), chain, Mean(), LocalSection())
    check_variants(algorithm, PLAIN)
    assert isinstance(
        fitted(algorithm, local_task(class_problem(), program=HeteroFL()), Full(), 1).aggregator, MeanOfHolders
    )
    assert fitted(algorithm, local_task(class_problem()), Full(), 1).aggregator is algorithm.aggregator


def test_what_an_algorithm_has_beside_the_model_is_refused() -> None:
    task = local_task(class_problem(), program=HeteroFL(), stack="off")
    other = local_task(class_problem(), program=Scaffold(), stack="off")
    task = replace(task, profile=other.profile, receives=other.receives)
    with pytest.raises(ConfigError, match=r"^algorithm: heterofl has models.*, such as control$"):
        fitted(compose(HeteroFL(), [], Mean(), LocalSection()), task, Full(), 1)
    kept = local_task(class_problem(), program=HeteroFL(), stack="off", args=LocalSection(keep_optimizer=True))
    with pytest.raises(ConfigError, match=r"^local\.keep_optimizer: heterofl has models"):
        fitted(compose(HeteroFL(), [], Mean(), LocalSection()), kept, Full(), 1)
