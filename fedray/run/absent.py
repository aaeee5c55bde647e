"""Clients of a cohort that send nothing, as the config says."""

from __future__ import annotations

import numpy as np
import torch

from fedray.config.sections import FailuresSection
from fedray.core.errors import ConfigError
from fedray.core.messages import Ints
from fedray.core.rng import Stream
from fedray.data import ClientData


def left_out(failures: FailuresSection, data: ClientData) -> dict[int, frozenset[int]]:
    """Return the clients of ``failures.left_out`` by their indices."""
    if not failures.left_out:
        return {}
    index = data.names.find(name for names in failures.left_out.values() for name in names)
    for round, names in failures.left_out.items():
        if unknown := [name for name in names if name not in index]:
            raise ConfigError(f"failures.left_out.{round}: {data.names.unknown(unknown[0])}")
    return {round: frozenset(index[name] for name in names) for round, names in failures.left_out.items()}


def staying(share: float, clients: Ints, data: ClientData, seed: int, round: int) -> Ints:
    """Return those of a cohort that do not drop out of the round: each tosses a coin named by (seed, round, client).

    Args:
        share: probability of dropping out, from 0 to below 1.
        clients: client indices ``[n]``.
        data: the clients.
        seed: the run's seed.
        round: round number.
    """
    if not share or not len(clients):
        return clients
    keys = torch.from_numpy(np.ascontiguousarray(data.keys(clients)))
    coins = Stream(seed, "absence", round).uniform(keys, torch.zeros_like(keys), 1)[:, 0].numpy()
    found: Ints = clients[coins >= share]
    return found
