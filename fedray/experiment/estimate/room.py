"""The room that a run needs on each node and device, by its formula, against the room that there is."""

from __future__ import annotations

import re
from dataclasses import dataclass

import psutil
import torch
from rich.filesize import decimal

from fedray.config.sections import SlurmSection
from fedray.core.errors import ConfigError
from fedray.experiment.capacity import ranks_on_a_node
from fedray.experiment.estimate.memory import Memory
from fedray.experiment.place import Place

PROCESS = 250_000_000
"""Bytes of Python and torch in a process, about."""

_UNITS = {"": 2**20, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}


@dataclass(frozen=True)
class Need:
    """The memory for one place, against the memory there.

    Args:
        where: the place, such as ``a node``.
        bytes: the need.
        formula: the terms of that.
        room: the memory there; None: nobody knows here.
        by: the one that says so.
    """

    where: str
    bytes: int
    formula: str
    room: int | None = None
    by: str = ""

    @property
    def words(self) -> str:
        """It, and whether it fits."""
        has = "not known here how much it has" if self.room is None else f"it has {decimal(self.room)}, {self.by}"
        return f"{decimal(self.bytes)} = {self.formula}; {has}"


@dataclass(frozen=True)
class Given:
    """The memory of machines that are not this one, in gigabytes, as a command is told it; None: nothing is said.

    Args:
        node: of each node.
        device: of each GPU.
    """

    node: float | None = None
    device: float | None = None


def needs(place: Place, costs: Memory, workers: int, evaluated: bool, given: Given) -> list[Need]:
    """Return what a run needs of each GPU, and of each node, of which the first has the driver as well.

    Args:
        place: the place of the run.
        costs: its memory.
        workers: the number of its workers.
        evaluated: workers evaluate the model, of which they hold another one for that; ranks the one that they train.
        given: the memory of its machines.
    """
    nodes = place.cluster.nodes if isinstance(place.cluster, SlurmSection) else 1
    ranks, inline = place.worker.ranks, place.launcher.in_process
    some = ranks_on_a_node(place)
    processes = some or -(-workers // nodes) * ranks
    # Each rank is charged with its part of the worker's sum; that of ranks on other nodes is here as well.
    away = (ranks - some) * costs.worker["accumulator"] // 2 if some else 0
    worker, driver = sum(costs.worker.values()), sum(costs.driver.values())
    shared = costs.worker["broadcast"]
    python = PROCESS * (1 if inline else processes + 1)
    many = f"{processes} x " if processes > 1 else ""
    python_words = f"{decimal(python)} of Python and torch"
    built = processes * costs.built
    built_words = f"model as it is built {many}{decimal(costs.built)}"
    copies = 1 if costs.mapped else processes
    base_words = f"frozen {f'{copies} x ' if copies > 1 else ''}{decimal(costs.frozen)}, " if costs.frozen else ""
    base = copies * costs.frozen
    theirs = f"sum of ranks elsewhere {decimal(away)}, " if away else ""
    found: list[Need] = []
    if not place.worker.gpus:
        own = worker - shared
        formula = (
            f"broadcast {decimal(shared)}, {base_words}{'ranks' if ranks > 1 else 'worker'} {many}{decimal(own)}, "
            f"{theirs}{built_words}, driver {decimal(driver)}, {python_words}"
        )
        total = shared + base + processes * own + away + built + driver + python
        found.append(Need("a node", total, formula, *_node_room(place, given)))
    else:
        sharing = max(1, int(1 / place.worker.gpus + 1e-9)) if place.worker.gpus < 1 else 1
        # A model that is evaluated is another one than that which trains, but for ranks.
        frozen = costs.frozen + (costs.apart if evaluated and ranks == 1 else 0)
        times = f"{sharing} x " if sharing > 1 else ""
        on_card = sharing * (worker + frozen)
        card = f"worker {times}{decimal(worker)}" + (f", frozen {times}{decimal(frozen)}" if frozen else "")
        if place.driver.gpus:
            on_card, card = on_card + driver, f"{card}, driver {decimal(driver)}"
        found.append(Need("a GPU", on_card, card, *_device_room(place, given)))
        here = 0 if place.driver.gpus else driver
        # What a worker's card has added up reaches the others through the host; of ranks half is the card's.
        sums = 0 if inline else processes * costs.worker["accumulator"] // (2 if ranks > 1 else 1) + away
        formula = (
            f"broadcast {decimal(shared)}, {base_words}{built_words}, accumulators {decimal(sums)}, "
            f"driver {decimal(here)}, {python_words}"
        )
        found.append(Need("a node", shared + base + built + sums + here + python, formula, *_node_room(place, given)))
    if place.worker.memory:
        reserved = round(place.worker.memory * 1e9)
        own = costs.built + PROCESS + (0 if place.worker.gpus else worker - shared)
        words = f"worker {decimal(own - costs.built - PROCESS)}, {decimal(costs.built + PROCESS)} as it is built"
        found.append(Need("a worker", own, words, reserved, "worker.memory"))
    return found


def check_room(found: list[Need]) -> None:
    """Raise ConfigError where a place has less than it needs, with the formula."""
    if lacking := [need for need in found if need.room is not None and need.bytes > need.room]:
        raise ConfigError(
            f"memory: {'; and '.join(f'{need.where} needs {need.words}' for need in lacking)}: take fewer workers "
            "(cluster.workers) or larger machines, share the model out (worker.ranks), take smaller batches "
            "(local.accumulate), model.gradient_checkpointing, or adapters (model.lora)"
        )


def _node_room(place: Place, given: Given) -> tuple[int | None, str]:
    """Return the memory of a node, and who says so."""
    if given.node is not None:
        return round(given.node * 1e9), "--node-memory"
    cluster = place.cluster
    if isinstance(cluster, SlurmSection):
        said = re.fullmatch(r"(\d+)([KMGT]?)B?", str(cluster.mem or ""), flags=re.IGNORECASE)
        return (int(said[1]) * _UNITS[said[2].upper()], "cluster.mem") if said else (None, "")
    if place.launcher.elsewhere():
        return None, ""
    return psutil.virtual_memory().total, "this machine"


def _device_room(place: Place, given: Given) -> tuple[int | None, str]:
    """Return the memory of a GPU, and who says so."""
    if given.device is not None:
        return round(given.device * 1e9), "--device-memory"
    if isinstance(place.cluster, SlurmSection) or place.launcher.elsewhere() or not torch.cuda.is_available():
        return None, ""
    return int(torch.cuda.get_device_properties(0).total_memory), "the first of this machine"
