"""Algorithms of which a fragment of the model travels in each round, and the parts that they can have beside them."""

from __future__ import annotations

from fedray.algorithms.composition import Composition
from fedray.config.registry import name_of
from fedray.core.errors import ConfigError
from fedray.core.layout import Layout
from fedray.local.program import fragments_of


def check_fragments(algorithm: Composition, layout: Layout) -> None:
    """Raise ConfigError for a part that needs the same columns of updates in every round, or all of them.

    Args:
        algorithm: one without fragments has no such needs.
        layout: of the model.
    """
    program = algorithm.program
    if fragments_of(program, layout) is None:
        return
    who = f"{algorithm.name} has one fragment of the model travel in each round"
    if program.variants():
        raise ConfigError(f"algorithm: {who}, and models of different size: it can have one of the two")
    if not program.uses_server:
        raise ConfigError(f"algorithm: {who}, which s.move moves, and says uses_server = False: leave that out")
    if down := algorithm.transforms.down:
        raise ConfigError(
            f"transforms: {who}, while clients keep the others as they heard them, and {name_of(down[0])} rounds all "
            "of the model anew in each round: set its direction to up, or leave it out"
        )
    if algorithm.aggregator.initial_state(algorithm.sends(layout), "cpu"):
        raise ConfigError(
            f"aggregator: {who}, and {name_of(algorithm.aggregator)} remembers the round before, of another one: use "
            "mean, or median"
        )
    for transform in algorithm.transforms:
        if transform.start():
            raise ConfigError(
                f"transforms: {who}, and {name_of(transform)} remembers the round before, of another one: leave it out"
            )
