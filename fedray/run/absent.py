"""Clients of a cohort that send nothing, as the config says."""

from __future__ import annotations

from fedray.config.binding import nearest
from fedray.config.sections import FailuresSection
from fedray.core.errors import ConfigError
from fedray.data import ClientData


def left_out(failures: FailuresSection, data: ClientData) -> dict[int, frozenset[int]]:
    """Return the clients of ``failures.left_out`` by their indices."""
    if not failures.left_out:
        return {}
    index = {data.client_id(i): i for i in range(len(data))}
    for round, names in failures.left_out.items():
        if unknown := [name for name in names if name not in index]:
            raise ConfigError(
                f"failures.left_out.{round}: no client {unknown[0]!r}{nearest(unknown[0], index)}; "
                f"there are {len(index)}, the first is {data.client_id(0)!r}"
            )
    return {round: frozenset(index[name] for name in names) for round, names in failures.left_out.items()}
