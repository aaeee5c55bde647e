"""The epsilon of each client, as ``fedray privacy`` shows it of a run in which they add noise themselves."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from fedray.core.errors import ConfigError
from fedray.core.record import finite
from fedray.core.terminal import Grid, pairs, show
from fedray.privacy.client_ledger import ClientLedger, Releases, dearest
from fedray.privacy.client_statement import client_epsilons, client_statement
from fedray.privacy.section import Privacy

if TYPE_CHECKING:
    from fedray.privacy.accounting import Accountant

_CLAIMED = ("releases", "unit", "neighbouring", "sampling", "mechanism", "accountant", "noise")


def show_clients(
    path: Path,
    section: Privacy | None,
    delta: float | None,
    accountant: Accountant | None,
    most: int | None,
    as_json: bool,
) -> None:
    """Show the ledger of clients, those that pay most first, and what can be claimed by it.

    Args:
        path: the ledger.
        section: of the config; None: there is none, but a ledger alone.
        delta: in the place of the section's.
        accountant: likewise.
        most: the number of clients to show; None: all.
        as_json: print JSON.

    Raises:
        ConfigError: it is no such ledger, an option has no meaning for it, or counting needs what is not installed.
    """
    ledger = ClientLedger.read(path)
    local = not any(line.release.sampling == "poisson" for line in ledger)
    kind: dict[str, Any] = {"model": "local"} if local else {"unit": "example"}
    said = section or Privacy(noise_multiplier=1.0, **kind)
    if accountant is not None and local:
        raise ConfigError("--accountant: what clients release themselves has a closed form: leave it out")
    if delta is not None and said.counted_at == 0.0:
        raise ConfigError("--delta: that of Laplace noise is 0: leave it out")
    try:
        said = replace(said, delta=delta or said.delta, accountant=accountant or said.accountant)
    except ValueError as error:
        raise ConfigError(f"--{error}") from None
    found, releases = client_epsilons(said, ledger), ledger.clients
    most_paid = dearest(releases.values(), said.delta, said.accountant)
    if as_json:
        clients = {
            name: {"epsilon": finite(epsilon), "releases": sum(each.count for each in releases[name])}
            for name, epsilon in found.items()
        }
        typer.echo(json.dumps({"epsilon": finite(most_paid), "delta": said.counted_at, "clients": clients}))
        return
    names = list(found)[:most]
    show(
        Grid(
            ["client", "releases", "noise multiplier", "rate", "epsilon"],
            [_row(n, releases[n], found[n]) for n in names],
        )
    )
    statement = client_statement(said, ledger)
    rows = [("epsilon", f"{most_paid:.4g} at delta {said.counted_at:g}, of who pays most")]
    if not local and said.accountant != "rdp":
        rows.append(
            ("", f"by {said.accountant}; the lines of the table are counted by rdp, which is quick, and above it")
        )
    if len(names) < len(found):
        rows.append(("", f"{len(names)} of {len(found):,} clients are shown, those that pay most; --all shows each"))
    if section is not None:
        rows += [(name, statement[name]) for name in _CLAIMED]
        rows += [("not covered" if i == 0 else "", line) for i, line in enumerate(statement["not_covered"])]
    show(pairs(rows))


def _row(name: str, releases: Releases, epsilon: float) -> list[str]:
    count = sum(each.count for each in releases)
    return [
        name,
        f"{count:,}",
        _range([each.noise_multiplier for each in releases]),
        _range([each.rate for each in releases]),
        f"{epsilon:.4g}",
    ]


def _range(values: list[float]) -> str:
    low, high = f"{min(values):.4g}", f"{max(values):.4g}"
    return low if low == high else f"{low} to {high}"
