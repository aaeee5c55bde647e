"""The knobs that are turned, each with its candidates: what the config leaves open, and this machine can do."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

import torch

from fedray.core.cpus import usable_cpus
from fedray.core.draws import put_back
from fedray.core.errors import ConfigError
from fedray.experiment.build import Config
from fedray.local.emulation import native_bf16
from fedray.local.stacking import Stack, decide, stacked_size
from fedray.local.task import Stacking
from fedray.run.plan import Plan
from fedray.tune.search import Candidate

_SHARES = (0.5, 0.25)
_KEYS = ("local.stack", "local.precision", "cluster.workers")
_ONES = ("worker.gpus", "worker.cpus", "worker.threads")


def knobs(config: Config, plan: Plan, overrides: Sequence[str] = ()) -> list[list[Candidate]]:
    """Return the candidates of each knob in the order in which they are turned; none of what is given.

    That is the block size, then the precision, then how workers share a machine.  What the config or the command line
    gives stays, where it is not ``auto``.  Only a 1 that a file says of a worker's GPUs, CPUs or threads does not: a
    config without it would have no GPU, and files that others build on say it of CPUs.

    Args:
        config: the experiment.
        plan: the plan of it.
        overrides: those of the command line.
    """
    turned = [_stacks(config, plan), _precisions(config), _shares(config, overrides)]
    return [found for knob in turned if (found := list(knob))]


def kept_as_given(config: Config, overrides: Sequence[str] = ()) -> dict[str, Any]:
    """Return the values of knobs that stay as the config or the command line gives them, by their keys."""
    typed = {override.partition("=")[0] for override in overrides}
    said = {key: _said(config.raw, key) for key in (*_KEYS, *_ONES)}
    given = {key: value for key, value in said.items() if value not in (None, "auto")}
    return {
        key: value
        for key, value in given.items()
        if key not in _ONES or value != 1 or typed & {key, key.partition(".")[0]}
    }


def _said(raw: Mapping[str, Any], key: str) -> Any:
    """Return what a config says of a key of a section; None: nothing."""
    section, _, option = key.partition(".")
    found = raw.get(section)
    value = found.get(option) if isinstance(found, Mapping) else None
    return "off" if value is False and key == "local.stack" else value


def _device(config: Config) -> Literal["cpu", "cuda"]:
    return "cuda" if config.place.devices[0].type == "cuda" else "cpu"


def _stacks(config: Config, plan: Plan) -> Iterator[Candidate]:
    """Yield the block sizes around that which ``auto`` takes, alone, and in the other way of stepping together."""
    task, device = plan.task, _device(config)
    if _said(config.raw, "local.stack") not in (None, "auto") or config.place.worker.ranks > 1 or task.data.silos:
        return
    own, cohort = task.stacking, plan.sampler.expected(task.data.sizes)
    usual = own.size if own.stacked else stacked_size(task, cohort, device)
    probe = replace(task, data=task.data.probe())

    def stacked(wanted: Stack) -> Stacking | None:
        try:
            with put_back():
                found = decide(probe, wanted, cohort, device)
        except ConfigError:  # the algorithm's program does not run in a stack
            return None
        return found if found.stacked else None

    in_lanes = own.lanes is not None
    sizes = [size for size in around(usual, math.ceil(cohort)) if not (own.stacked and size == own.size)]
    form: Any = "lanes:{}" if in_lanes else "{}"
    if sizes and stacked(form.format(sizes[0]) if in_lanes else sizes[0]):
        yield from (Candidate((f"local.stack={form.format(size)}",), size) for size in sizes)
    if own.stacked:
        yield Candidate(("local.stack=off",), 1)
    if (other := stacked(max(2, usual) if in_lanes else "lanes")) is not None:
        name = other.size if in_lanes else f"lanes:{other.size}"
        yield Candidate((f"local.stack={name}",), other.size)


def around(usual: int, most: int) -> list[int]:
    """Return the powers of two around a block size, the nearest first.

    >>> around(50, most=100), around(1, most=100), around(1, most=1)
    ([64, 32, 16], [2, 4], [])

    Args:
        usual: the size that ``auto`` takes.
        most: the clients of a cohort: larger blocks are no other ones.
    """
    power = 2 ** round(math.log2(usual))
    return [int(size) for size in (power, 2 * power, power / 2, 4 * power, power / 4) if 2 <= size <= most]


def _precisions(config: Config) -> Iterator[Candidate]:
    """Yield bfloat16, where the device has it."""
    if _said(config.raw, "local.precision") is not None:
        return
    if _device(config) == "cpu":
        has = native_bf16()
    else:  # that of another machine is asked by the run itself
        has = not torch.cuda.is_available() or torch.cuda.is_bf16_supported(including_emulation=False)
    if has:
        yield Candidate(("local.precision=bf16",))


def _shares(config: Config, overrides: Sequence[str]) -> Iterator[Candidate]:
    """Yield shares of a GPU that the config gives to one worker; of CPUs fewer workers with more threads each."""
    place, given = config.place, kept_as_given(config, overrides)
    if place.worker.ranks > 1 or place.cluster.workers != "auto":
        return
    if _device(config) == "cuda":
        if place.worker.gpus == 1 and "worker.gpus" not in given and not place.launcher.in_process:
            yield from (Candidate((f"worker.gpus={share}",)) for share in _SHARES)
        return
    if given.keys() & {"worker.cpus", "worker.threads"}:
        return
    count, most = 2, usable_cpus().count
    while count <= most:
        own = () if place.launcher.in_process else (f"worker.cpus={count}",)
        yield Candidate((*own, f"worker.threads={count}"))
        count *= 2
