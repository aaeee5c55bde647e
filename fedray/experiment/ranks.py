"""The checks of a run whose workers have several ranks: refused in one line, before anything starts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

from torch import nn

from fedray.algorithms.composition import Composition
from fedray.config.registry import name_of
from fedray.core.errors import ConfigError, listed
from fedray.core.messages import DELTA
from fedray.experiment.place import Place
from fedray.local.sharing import decide_sharing, unshared
from fedray.local.stacking import Stack, unsuited
from fedray.local.task import LocalTask, Sharing, Stacking
from fedray.local.views import Views
from fedray.models.bare import not_bare
from fedray.models.shared import base_of
from fedray.transforms.codec import Codec


def decide_ranks(
    said: Mapping[str, int],
    place: Place,
    stack: Stack,
    views: Views,
    task: LocalTask,
    algorithm: Composition,
) -> tuple[Stacking, Sharing]:
    """Return how clients step, and what is shared out, where workers have several ranks.

    Args:
        said: the ranks of those that have several, by what says so.
        place: the place of the run.
        stack: ``local.stack``.
        views: the ways in which clients are evaluated.
        task: the local training problem, tried.
        algorithm: the algorithm, as it is composed.

    Raises:
        ConfigError: something of the run needs more than a shard of the model.
    """
    module = task.model_fn()
    name, ranks = next(iter(said.items()))
    stacking = Stacking(1, False, "a worker of several ranks trains one client at a time")
    if stack not in ("auto", "off", 1):
        raise ConfigError(f"{name}={ranks}: {stacking.reason}, and local.stack={stack} asks for more; leave it out")
    if reason := next(_reasons(views, replace(task, stacking=stacking), algorithm, module), None):
        raise ConfigError(f"{name}={ranks}: {reason}; set it to 1")
    alone = decide_sharing(replace(task, stacking=stacking), place.most_devices(task.data))
    told = " or ".join(f"{count:,}" for count in sorted({*said.values()}))
    words = f"a client's batch, and its model, are shared out over {told} ranks of its worker"
    if set(said) != {"worker.ranks"}:
        words = f"{words}, where it has them ({listed(f'{name}={count}' for name, count in said.items())})"
    whole = not_bare(task.model_fn, module)
    if whole is not None and base_of(module) is None:  # what is mapped from a file is in no memory of a rank's own
        words += f"; each of them builds the whole model before it has its part, as {whole}"
    return stacking, Sharing(alone.devices, words, place.worker.ranks, bare=whole is None)


def _reasons(views: Views, task: LocalTask, algorithm: Composition, module: nn.Module) -> Iterator[str]:
    """Yield what of a run needs more than a shard of the model; the first is enough."""
    layout, program, name = task.layout, task.program, algorithm.name
    if task.private is not None:
        yield "privacy of single rows takes the gradients of whole models"
    if task.submodels is not None:
        yield f"clients of {name} train models of several widths"
    if task.fragments is not None:
        yield f"clients of {name} send a fragment of the model in each round"
    if layout.personal or views.own or views.finetune:
        yield "a model of a client's own, kept or evaluated, is held by one process"
    if task.moments is not None and task.profile.others:
        yield "local.keep_optimizer keeps what optimizers know of further models with the clients"
    kept, sent = algorithm.tried(task.profile).state(layout), algorithm.tried(task.profile).sends(layout)
    if kept:
        yield f"clients keep {min(kept)} from round to round, as long as a whole model perhaps"
    if heard := {**task.receives, **task.addressed, **task.profile.surveys, **algorithm.transforms.receives}:
        yield f"clients of {name} receive {min(heard)} beside the model"
    if buffers := [entry.name for entry in layout.rest]:
        yield f"the model has the buffer {buffers[0]}, which each rank would move by its own rows"
    if set(sent) != {DELTA} or task.profile.slots:
        yield f"clients of {name} send more than the change of the model"
    if not (program.plain or program.elementwise):
        yield f"the clients of {name} may look at the whole model (elementwise = True would say that they do not)"
    for transform in algorithm.transforms:
        if transform.scope == "whole" and (transform.changes_updates or isinstance(transform, Codec)):
            yield f"{name_of(transform)} looks at whole updates"
    if not algorithm.aggregator.linear or set(algorithm.tried(task.profile).widths(layout)) != {DELTA}:
        yield f"{algorithm.aggregator.words} needs whole updates"
    for entry, parameter in module.named_parameters():
        if not parameter.dim():
            yield f"{entry} is a single number, of which no rank could have rows"
        if not parameter.is_contiguous():
            yield f"{entry} does not lie in one piece of memory row by row: give the model parameter.contiguous()"
    if layout.wrapper:
        yield f"the model is wrapped ({layout.wrapper.rstrip('.')}), and is sharded as it is built"
    if reason := unsuited(task, module) or unshared(task):
        yield reason
