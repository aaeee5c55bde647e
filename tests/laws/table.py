"""The table of the algorithms: what each keeps and sends, and by which tests it is known to be its paper's.

An algorithm has a limit in which it is another one (``law``), a place where it comes to rest (``rest``) and a loop of
its paper's equations (``oracle``), or :data:`HOLES` says why not.

``python -m tests.laws.table`` prints it.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import sys
import textwrap
from dataclasses import dataclass, fields

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from fedray.algorithms.base import Algorithm, algorithms
from fedray.core.messages import VECTOR
from tests.helpers import class_problem
from tests.laws.parts import ALGORITHMS
from tests.laws.test_limits import AT_HOME, FIRST, LIMITS, PLAIN
from tests.laws.test_rest import CLIENTS, REST, Rest
from tests.laws.test_rows import SIZES, block, stacked

LAWS: dict[str, tuple[str, str]] = {
    "fedsgd": ("gradient descent", "laws.test_limits:test_fedsgd_with_everyone_is_gradient_descent_on_the_pooled_data"),
    "fedavgm": ("momentum 0: FedAvg, bitwise", "algorithms.test_fedavg:test_no_momentum_is_fedavg_bitwise"),
    "fedadam": ("a preset of FedAvg", "server.test_server:test_a_preset_is_fedavg_with_its_optimizer"),
    "fedyogi": ("a preset of FedAvg", "server.test_server:test_a_preset_is_fedavg_with_its_optimizer"),
    "fedadagrad": ("a preset of FedAvg", "server.test_server:test_a_preset_is_fedavg_with_its_optimizer"),
    "ifca": (
        "clusters 1: FedAvg, plain mean, bitwise",
        "algorithms.test_ifca:test_one_cluster_is_fedavg_with_a_plain_mean_bitwise",
    ),
    "fedproto": (
        "lam 0: local_only, bitwise",
        "algorithms.test_fedproto:test_without_the_distance_clients_train_alone_bitwise",
    ),
    "fedamp": (
        "lam 0: local_only, bitwise",
        "algorithms.test_fedamp:test_without_the_distance_clients_train_alone_bitwise",
    ),
    "fednova": ("equal steps: FedAvg", "algorithms.test_fednova:test_fednova_at_equal_steps_is_fedavg"),
    "perfedavg": ("alpha 0: FedAvg", "algorithms.test_perfedavg:test_without_an_inner_step_it_is_fedavg"),
    "fedit": (
        "always: FedAvg of the adapters, bitwise",
        "algorithms.test_fedit:test_fedit_is_fedavg_of_the_adapters_bitwise",
    ),
    "ffalora": ("one A: the mean of products, exactly", "algorithms.test_fedit:test_ffalora_is_the_papers_loop"),
    "fedexlora": (
        "one A for all: nothing is added; else the mean of products, exactly",
        "algorithms.test_fedexlora:test_with_one_a_for_all_the_mean_is_exact_and_nothing_is_added",
    ),
    "flora": ("the mean of products, exactly", "algorithms.test_flora:test_flora_is_the_papers_loop"),
    "hetlora": (
        "a round of clients alike: FedIT",
        "algorithms.test_hetlora:test_where_all_clients_are_alike_it_is_fedit",
    ),
    "fedbabu": (
        "always: FedAvg of a model whose head is frozen",
        "laws.test_limits:test_fedbabu_is_fedavg_of_a_model_whose_head_is_frozen",
    ),
    "fedrep": ("no head: FedAvg, bitwise", "algorithms.test_fedrep:test_without_a_head_at_home_it_is_fedavg_bitwise"),
}
"""What an algorithm is in a limit, where the tables of ``test_limits`` do not say it, and the test."""

ORACLES: dict[str, str] = {
    "fedsgd": "algorithms.test_fedavg:test_fedsgd_is_one_step_along_the_gradient_of_all_rows",
    "fedavgm": "algorithms.test_fedavg:test_fedavgm_is_the_papers_loop",
    "fedadam": "server.test_adaptive:test_they_are_as_published",
    "fedyogi": "server.test_adaptive:test_they_are_as_published",
    "fedadagrad": "server.test_adaptive:test_they_are_as_published",
    "fedcm": "algorithms.test_fedcm:test_it_is_the_papers_loop",
    "mofedsam": "algorithms.test_fedcm:test_it_is_the_papers_loop",
    "fedlc": "algorithms.test_fedlc:test_it_is_the_papers_loop",
    "fedrs": "algorithms.test_fedlc:test_it_is_the_papers_loop",
    "fednova": "algorithms.test_fednova:test_fednova_is_the_papers_loop_where_clients_take_unequal_steps",
    "fedper": "algorithms.test_fedper:test_a_part_stays_at_home_and_the_rest_is_averaged",
    "lg-fedavg": "algorithms.test_fedper:test_a_part_stays_at_home_and_the_rest_is_averaged",
    "fedrep": "algorithms.test_fedrep:test_the_head_with_the_body_fixed_and_then_the_body",
    "fedbabu": "algorithms.test_fedbabu:test_the_body_is_trained_and_averaged_and_the_head_stays_as_it_was_first",
    "heterofl": "algorithms.test_heterofl:test_it_is_the_loop_over_smaller_models",
    "fedrolex": "algorithms.test_heterofl:test_it_is_the_loop_over_smaller_models",
    "local_only": "algorithms.test_local_only:test_each_client_trains_alone",
    "centralized": "algorithms.test_centralized:test_it_is_training_on_all_rows_judged_on_the_clients",
    "fedbn": "algorithms.test_fedbn:test_norms_stay_at_home_with_their_statistics",
    "ffalora": "algorithms.test_fedit:test_ffalora_is_the_papers_loop",
}
"""The independent loop, where its name is not ``test_<name>_is_the_papers_loop``."""

NO_REST: dict[str, tuple[str, ...]] = {
    "its loss is of classes, and the clients of that law do least squares": ("fedlc", "fedntd", "fedrod", "fedrs"),
    "a linear model has no features that are trained, and there it is FedAvg": ("feddecorr", "moon"),
    "a linear model is one layer, which leaves nothing to be shared": ("fedper", "lg-fedavg", "fedrep", "fedbabu"),
    "a linear model has no layer that normalises": ("fedbn",),
    "a linear model has no hidden width, and each client trains all of it": ("fedrolex", "heterofl"),
    "its weights for mixing are learnt anew in each round, along one pass": ("fedala",),
    "the server has no model": ("fedamp", "fedproto", "local_only"),
    "it is FedAvg of one client, which a run makes": ("centralized",),
    "the product of two factors is no least squares": ("fedexlora", "fedit", "ffalora", "flora", "hetlora"),
}
"""Algorithms that ``test_rest`` does not see at rest, by the reason."""

HOLES: dict[tuple[str, str], str] = {
    ("fedavg", "law"): "it is the limit that most are in",
    ("local_only", "law"): "it is the limit that others are in",
    ("centralized", "law"): "it is FedAvg of one client, which a run makes",
    **{(name, "rest"): why for why, names in NO_REST.items() for name in names},
}
"""What is empty, and why."""


@dataclass(frozen=True)
class Row:
    """One algorithm; ``law``, ``rest`` and ``oracle`` are empty where there is none."""

    name: str
    lines: int
    stacks: str
    state: str
    sends: str
    law: str
    rest: str
    oracle: str


def rows() -> list[Row]:
    """One row for each registered algorithm."""
    example = {config.name: config for config in reversed(ALGORITHMS)}
    return [row(example[name]) for name in algorithms]


def row(config: Algorithm) -> Row:
    """The row of one."""
    task = stacked(class_problem(SIZES, model_fn=normed), config)
    update, layout = block(task), task.layout
    words = {layout.personal: "region", layout.shared: "S", layout.trained: "D", layout.size: "P"}

    def widths(parts: dict[str, Tensor]) -> str:
        return ", ".join(f"{name} {words.get(part.shape[1], part.shape[1])}" for name, part in parts.items())

    sent = {name: part for name, part in update.parts.items() if name not in VECTOR}
    return Row(
        config.name,
        code_lines(type(config)),
        f"{task.stacking.size}",
        widths(update.state),
        widths(sent),
        law(config.name),
        "; ".join(resting(rest) for rest in REST if rest.algorithm.name == config.name),
        oracle(config.name),
    )


def normed() -> nn.Module:
    """A model with a buffer and a layer that normalises, which stacks."""
    module = nn.Sequential(nn.Linear(6, 8), nn.LayerNorm(8), nn.Tanh(), nn.Linear(8, 3))
    module.register_buffer("scale", torch.ones(5))
    return module


def code_lines(kind: type) -> int:
    """Lines of a class that are code: no documentation, no comment, nothing empty."""
    (tree,) = ast.parse(textwrap.dedent(inspect.getsource(kind))).body
    documentation: set[ast.AST] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            documentation |= {node, node.value}
    lines: set[int] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.stmt | ast.expr | ast.arg) and node not in documentation:
            lines |= {node.lineno, node.end_lineno or node.lineno}
    return len(lines)


def law(name: str) -> str:
    """The words of the laws of an algorithm."""
    found = [f"{options(limit)}: FedAvg, bitwise" for limit in LIMITS if limit.name == name]
    found += [f"{options(limit)}: FedAvg, plain mean" for limit in PLAIN if limit.name == name]
    found += [f"first round: {other.name}, server.lr {lr:g}" for first, other, lr in FIRST if first.name == name]
    found += ["all at home: local_only, bitwise" for limit in AT_HOME if limit.name == name]
    return "; ".join([*found, *(LAWS[name][0] for _ in "x" if name in LAWS)])


def resting(rest: Rest) -> str:
    """The words of where one comes to rest."""
    cohort = f", cohorts of {rest.cohort} of {CLIENTS}" if rest.cohort < CLIENTS else ""
    return f"{options(rest.algorithm)}: {rest.where}{cohort}"


def options(config: Algorithm) -> str:
    """What was given, or ``any``."""
    given = {f.name: getattr(config, f.name) for f in fields(config)}
    own = {name: value for name, value in given.items() if value != default(config, name)}
    words = (f"{name} {format(value, 'g') if isinstance(value, float) else value}" for name, value in own.items())
    return " ".join(words) or "always"


def default(config: Algorithm, name: str) -> object:
    """The default of an option."""
    return next(f.default for f in fields(config) if f.name == name)


def oracle(name: str) -> str:
    """The test of an algorithm against an independent loop; empty if there is none."""
    place = ORACLES.get(name, f"algorithms.test_{name}:test_{name}_is_the_papers_loop")
    return place if exists(place) else ""


def exists(place: str) -> bool:
    """Whether there is a test ``module:function``."""
    module, _, function = place.partition(":")
    try:
        return hasattr(importlib.import_module(f"tests.{module}"), function)
    except ModuleNotFoundError:
        return False


def table(found: list[Row]) -> Table:
    """The table, for a terminal."""
    drawn = Table("algorithm", "lines", "stack", "keeps", "sends besides delta", "law", "rest", "oracle")
    for one in found:
        cells = [one.name, str(one.lines), one.stacks, one.state, one.sends]
        law, rest, oracle = (
            told or f"({HOLES.get((one.name, kind), '')})"
            for kind, told in (("law", one.law), ("rest", one.rest), ("oracle", one.oracle.partition(":")[0]))
        )
        drawn.add_row(*cells, law, rest, oracle)
    return drawn


if __name__ == "__main__":
    Console(file=sys.stdout, width=None if sys.stdout.isatty() else 200).print(table(rows()))
