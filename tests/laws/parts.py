"""One row for every registered part that takes part in a round: what the laws run over.

A new part fails ``test_every_registered_part_has_a_row`` until it has a row here.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from fedray.aggregators import Aggregator, CenteredClip, GeometricMedian, Krum, Mean, Median, MultiKrum, TrimmedMean
from fedray.algorithms import (
    AFL,
    APFL,
    IFCA,
    MIFA,
    MOON,
    Centralized,
    DiLoCo,
    Ditto,
    FedAdagrad,
    FedAdam,
    FedALA,
    FedAMP,
    FedAvg,
    FedAvgM,
    FedBABU,
    FedBN,
    FedCM,
    FedDC,
    FedDecorr,
    FedDyn,
    FedExLoRA,
    FedExP,
    FedIT,
    FedLC,
    FedNova,
    FedNTD,
    FedPer,
    FedProto,
    FedProx,
    FedRep,
    FedRoD,
    FedRolex,
    FedRS,
    FedSAM,
    FedSGD,
    FedVARP,
    FedYogi,
    FFALoRA,
    FLoRA,
    HeteroFL,
    HetLoRA,
    LGFedAvg,
    LocalOnly,
    Mime,
    MoFedSAM,
    PerFedAvg,
    PFedMe,
    QFedAvg,
    Scaffold,
    StreamingDiLoCo,
)
from fedray.algorithms.base import Algorithm
from fedray.attacks import ALIE, Attack, GaussianAttack, SignFlip
from fedray.sampling import AvailabilityTrace, Full, Poisson, RoundRobin, Sampler, Separated, Uniform, Weighted
from fedray.server import SGD, Adagrad, Adam, Lamb, Momentum, ServerOptimizer, Yogi
from fedray.transforms import BF16, Clip, Gaussian, Int4, Int8, SecureSum, TopK, Transform

ALGORITHMS: list[Algorithm] = [
    FedAvg(),
    FedAvg(weight="uniform", server_lr=0.7),
    FedSGD(),
    FedProx(mu=0.1),
    Scaffold(),
    FedNova(),
    FedAvgM(momentum=0.5),
    FedAvgM(momentum=0.5, nesterov=True),
    FedAdam(server_lr=0.05),
    FedAdam(server_lr=0.05, variant="torch"),
    FedYogi(server_lr=0.05),
    FedAdagrad(server_lr=0.05),
    FedAdagrad(server_lr=0.05, variant="torch"),
    FedSAM(rho=0.2),
    FedCM(alpha=0.3),
    MoFedSAM(alpha=0.3, rho=0.2),
    FedDyn(alpha=0.5),
    MOON(mu=2.0),
    FedNTD(tau=2.0),
    FedLC(),
    FedRS(),
    FedDecorr(beta=1.0),
    FedExP(),
    QFedAvg(q=0.5),
    AFL(gamma=0.5),
    MIFA(),
    Mime(),
    Mime(beta=0.5, lite=True),
    FedVARP(),
    FedDC(alpha=0.5),
    DiLoCo(keep=False),
    StreamingDiLoCo(keep=False, alpha=0.5),
    Ditto(lam=0.5),
    APFL(),
    FedALA(),
    FedAMP(alpha=1.0),
    FedRoD(),
    PFedMe(lam=5.0, inner_lr=0.1),
    PerFedAvg(alpha=0.1),
    PerFedAvg(alpha=0.1, exact=True),
    FedPer(),
    LGFedAvg(),
    FedRep(head_epochs=1),
    FedBABU(),
    FedBN(),
    LocalOnly(),
    IFCA(spread=0.5),
    FedProto(),
    Centralized(),
    HeteroFL(),
    FedRolex([1.0, 0.5], weight="uniform"),
    FedIT(),
    FFALoRA(),
    FedExLoRA(),
    FLoRA([2, 4]),
    HetLoRA([2, 4], gamma=0.5, lam=0.01),
]

OTHER_SERVERS: list[Algorithm] = [
    FedAvg(weight="uniform", server_lr=0.7),
    FedAvgM(momentum=0.5, nesterov=True),
    FedAdam(server_lr=0.05, variant="torch"),
    FedAdagrad(server_lr=0.05, variant="torch"),
    FFALoRA(),
    FLoRA([2, 4]),
]
"""Rows that differ from another one in the server's half alone, or in what is trained: their laws are slow ones."""

SERVERS: list[ServerOptimizer] = [
    SGD(0.7),
    SGD(lr_schedule={"name": "cosine", "warmup": 1}),
    Momentum(0.5, momentum=0.5),
    Momentum(0.5, momentum=0.5, nesterov=True),
    Adam(0.05),
    Adam(0.05, variant="torch"),
    Yogi(0.05),
    Adagrad(0.05),
    Adagrad(0.05, variant="torch"),
    Lamb(0.05),
]

TRANSFORMS: list[list[Transform]] = [
    [],
    [Clip(0.5)],
    [TopK(0.3)],
    [TopK(0.3, error_feedback=False)],
    [TopK(0.3), Clip(0.5), Gaussian(0.1, noise="seeded")],
    [BF16("both")],
    [Clip(0.5), TopK(0.3), Int8()],
    [Int8("nearest", "down"), Clip(0.5), Gaussian(0.1, noise="seeded")],
    [Clip(0.5), Int4("nearest", error_feedback=True)],
    [SecureSum()],
    [SecureSum(bits=20, range=1.0, rounding="zero"), Clip(0.5), Gaussian(0.1, noise="seeded")],
]

AGGREGATORS: list[Aggregator] = [
    Mean(),
    Median(),
    TrimmedMean(0.2),
    Krum(0),
    MultiKrum(0, keep=2),
    GeometricMedian(),
    CenteredClip(0.05, steps=2),
]

ATTACKS: list[Attack] = [SignFlip(0.4), GaussianAttack(0.4, std=0.1), ALIE(0.4, z=1.5)]

TRACE = str(Path(__file__).with_name("available.csv"))
SAMPLERS: list[Sampler] = [
    *(Full(), Uniform(4), Poisson(0.6), Weighted(4), RoundRobin(4), Separated(2, 2), AvailabilityTrace(TRACE, 3)),
]


def every(argument: str, rows: list[Any]) -> pytest.MarkDecorator:
    """Run a test once for each row."""
    marks: list[Any] = [pytest.mark.slow if row in OTHER_SERVERS else [] for row in rows]
    named = [pytest.param(row, id=_id(row), marks=mark) for row, mark in zip(rows, marks, strict=True)]
    return pytest.mark.parametrize(argument, named)


def _id(row: Any) -> str:
    if isinstance(row, list):
        return "+".join(_id(part) for part in row) or "none"
    usual = r"(weight='auto'|server_lr=None|lr_schedule='constant')(, )?"
    return re.sub(usual, "", repr(row).replace(str(Path(__file__).parent), "")).replace(", )", ")")
