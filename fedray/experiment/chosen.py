"""The parts that a config names, or that were made in Python, where a registry alone does not find them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from fedray.config.binding import bind, is_plain, options_of
from fedray.config.registry import Imported, Registry, bind_part, made
from fedray.config.sections import ModelSection
from fedray.core.errors import ConfigError, an
from fedray.data import ClientData, data_sources
from fedray.data.augment_chain import chosen
from fedray.experiment.given import GivenData, GivenModel
from fedray.local.losses import losses
from fedray.metrics.base import metrics
from fedray.metrics.given import as_metric
from fedray.metrics.torch_metric import named_torchmetric
from fedray.models import models
from fedray.optim import LRSchedule, lr_schedules
from fedray.privacy import Privacy
from fedray.server import ServerOptimizer, server_optimizers
from fedray.tracking import Tracker, trackers
from fedray.tracking.callbacks import callbacks, check_callback


def chosen_data(node: Any) -> tuple[Any, tuple[Any, ...]]:
    """Return the data source of a config, or data made in Python, and the changes of their inputs.

    Raises:
        ConfigError: it is neither.
    """
    if isinstance(node, ClientData):
        return GivenData(node), chosen(node.augment)
    named = isinstance(node, str | Mapping | list | int | float)
    if not named and not callable(getattr(node, "load", None)):
        raise ConfigError(
            "data: a fedray.FederatedData is needed, such as fedray.FederatedData.from_arrays(x, y, clients) makes, "
            f"or the name of a data source ({', '.join(data_sources)}); this is a {type(node).__name__}"
        )
    if isinstance(node, Mapping) and "augment" in node:
        rest = {key: value for key, value in node.items() if key != "augment"}
        return bind_part(data_sources, rest, "data"), chosen(node["augment"] or ())
    return bind_part(data_sources, node, "data"), ()


def chosen_model(node: Any) -> tuple[Any, ModelSection]:
    """Return the model of a config, or one made in Python in the place of it, and the regions of its tensors.

    Raises:
        ConfigError: it is no model.
    """
    if isinstance(node, GivenModel):
        return node, node.regions
    names = options_of(ModelSection)
    said = {name: node[name] for name in names if name in node} if isinstance(node, Mapping) else {}
    rest = {key: value for key, value in node.items() if key not in names} if said else node
    return bind_part(models, rest, "model"), bind(ModelSection, said, "model")


def chosen_privacy(node: Any) -> Privacy | None:
    """Return the section ``privacy``, or one made in Python; None: there is none.

    Raises:
        ConfigError: it is none, or says what cannot be.
    """
    return None if node is None else bind(Privacy, vars(node) if isinstance(node, Privacy) else node, "privacy")


def chosen_trackers(nodes: list[Any]) -> tuple[Tracker, ...]:
    """Return the trackers of a config.

    Raises:
        ConfigError: one of them is no tracker, or there twice.
    """
    found: list[Tracker] = []
    for position, node in enumerate(nodes):
        tracker = bind_part(trackers, node, f"tracking[{position}]")
        if tracker in found:
            raise ConfigError(
                f"tracking[{position}]: the same tracker as tracking[{found.index(tracker)}]; leave one of them out"
            )
        found.append(tracker)
    return tuple(found)


def chosen_callbacks(nodes: Any) -> tuple[Any, ...]:
    """Return the callbacks of a config, and functions made in Python among them.

    Raises:
        ConfigError: one of them cannot be called with a record.
    """
    if not isinstance(nodes, Sequence):
        such_as = "a list of functions is needed, such as [print], or of names, [my_module:name]"
        raise ConfigError(f"callbacks: {such_as}; this is {an(type(nodes).__name__)}")
    found = []
    for position, node in enumerate(nodes):
        key = f"callbacks[{position}]"
        part = bind_part(callbacks, node, key) if isinstance(node, str | Mapping) else node
        if not isinstance(part, Imported):
            check_callback(part, key)
        found.append(part)
    return tuple(found)


def chosen_metrics(nodes: Any) -> tuple[Any, ...] | None:
    """Return the metrics of a config, or functions made in Python in the place of them; None: nobody has chosen any.

    Raises:
        ConfigError: one of them is no metric.
    """
    if nodes is None:
        return None
    if isinstance(nodes, str | Mapping) or not isinstance(nodes, Sequence):
        raise ConfigError(f"metrics: a list is needed, such as [accuracy, auroc]; this is {nodes!r}")
    found = []
    for position, node in enumerate(nodes):
        key = f"metrics[{position}]"
        made_already = callable(node) and not isinstance(node, type)
        part = node if made_already else named_torchmetric(node, key) or bind_part(metrics, node, key)
        as_metric(made(part), key)
        found.append(part)
    return tuple(found)


def chosen_server(node: Any) -> tuple[ServerOptimizer | None, LRSchedule | None]:
    """Return the server optimizer of a config and the schedule of its learning rate; None where there is none.

    Options without a name are those of ``sgd``.  Of an optimizer that is named by its import path the schedule is among
    its options.
    """
    if node is None:
        return None, None
    server = bind_part(server_optimizers, node, "server", "sgd")
    if isinstance(server, Imported):
        return server, None  # type: ignore[return-value]
    return server, bind_part(lr_schedules, server.lr_schedule, "server.lr_schedule", "constant")


def chosen_function(registry: Registry, node: Any, key: str, default: str = "") -> Callable[..., Any]:
    """Return a part that is a function; from Python any function will do."""
    known = tuple(entry for entry in registry.values() if isinstance(entry, type))
    if not is_plain(node) and not isinstance(node, known):
        if not callable(node):
            raise ConfigError(f"{key}: a function, or the name of a registered one, is needed; got {node!r}")
        if registry is losses and isinstance(node, type):
            raise ConfigError(f"{key}: a function is needed, this is a class: give {node.__name__}()")
        return node  # type: ignore[no-any-return]
    function: Callable[..., Any] = made(bind_part(registry, node, key, default))
    return function
