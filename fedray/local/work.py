"""The amount of work of each client in a round: who does how many epochs or steps."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray

from fedray.config.amounts import Amount
from fedray.config.local import LocalSection
from fedray.core.errors import ConfigError
from fedray.core.messages import Floats, Ints
from fedray.core.rng import Stream
from fedray.data import ClientData
from fedray.data.columns.ids import id_keys

Mask = NDArray[np.bool_]


def sections(args: LocalSection, keys: Ints | None) -> Iterator[tuple[LocalSection, Mask | slice]]:
    """Yield each section that some of the clients work by, with their places among them.

    Args:
        args: of all clients, and of single ones.
        keys: the clients' keys ``[C]``; None: of nobody in particular, who works as all do.
    """
    if keys is None or not args.own:
        yield args, slice(None)
        return
    others = np.ones(len(keys), dtype=np.bool_)
    for name, section in args.own.items():
        which = np.isin(keys, _keys(name))
        if which.any():
            others &= ~which
            yield section, which
    if others.any():
        yield args, others


@lru_cache(maxsize=4096)
def _keys(name: str) -> tuple[int, ...]:
    """Return the keys that a client of this name can have: the hash of its name, or the number of an unnamed one."""
    hashed = int(id_keys(np.array([name.encode()]))[0])
    return (hashed, int(name)) if name.isdecimal() and len(name) < 19 else (hashed,)


def amounts(amount: Amount, keys: Ints, seed: int, round: int) -> Ints:
    """Return an amount of each client in a round, drawn if it is to be, ``[C]``; named by (seed, round, client).

    >>> amounts({"name": "uniform", "low": 1, "high": 5}, np.array([7, 8, 9]), seed=1, round=2)
    array([1, 2, 5])

    Args:
        amount: a number, or how it is drawn.
        keys: the clients' keys ``[C]``.
        seed: the run's seed.
        round: round number.
    """
    if not isinstance(amount, dict):
        return np.full(len(keys), amount, dtype=np.int64)
    clients = torch.from_numpy(np.ascontiguousarray(keys))
    drawn = Stream(seed, "work", round).uniform(clients, torch.zeros_like(clients), 2).double()
    share = (drawn[:, 0] + drawn[:, 1] * 2.0**-24).numpy()
    found: Ints = amount["low"] + np.floor(share * (amount["high"] - amount["low"] + 1)).astype(np.int64)
    if (part := amount.get("clients", 1.0)) < 1.0:
        coin = Stream(seed, "work", round).uniform(clients, torch.ones_like(clients), 1)[:, 0]
        found[(coin >= part).numpy()] = amount["high"]
    return found


def own_rates(args: LocalSection, keys: Ints) -> Floats | None:
    """Return the learning rate of each client of its own, ``[C]``, 0 for those who have that of all; None: all have.

    >>> own_rates(LocalSection(by_client={"7": {"lr": 0.5}}), np.array([6, 7]))
    array([0. , 0.5])
    """
    if not args.rates:
        return None
    found: Floats = np.zeros(len(keys))
    for name, rate in args.rates.items():
        found[np.isin(keys, _keys(name))] = rate
    return found


def shared_rate(args: LocalSection, data: ClientData, clients: Ints) -> float | None:
    """Return the learning rate that the clients of a block have of their own; None: that of all.

    Raises:
        RuntimeError: they differ in it: the plan cuts blocks of one rate.
    """
    rates = own_rates(args, data.keys(clients))
    if rates is None:
        return None
    if len(set(rates.tolist())) > 1:
        raise RuntimeError(f"a block has clients of one learning rate: {rates.tolist()}")
    return float(rates[0]) or None


def check_names(args: LocalSection, data: ClientData) -> None:
    """Raise ConfigError if ``local.by_client`` names a client that there is not."""
    known = data.names.find(args.own) if args.own else {}
    for name in args.own:
        if name not in known:
            raise ConfigError(f"local.by_client: {data.names.unknown(name)}")


def check_lengths(args: LocalSection, data: ClientData) -> None:
    """Raise ConfigError if batches are to be of one length, and rows have none of their own."""
    if args.group_by_length is not None and not data.has_lengths:
        raise ConfigError(
            "local.group_by_length: inputs must be sequences of different lengths, held in memory, of which each batch "
            "is padded to its own longest, as data: {name: text} has them, or fedray.Ragged(..., multiple=8); leave it "
            "out"
        )
