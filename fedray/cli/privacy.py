"""The command on differential privacy: what a run has spent, or what noise a target takes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from fedray.cli.watching import AsJson
from fedray.core.errors import ConfigError, counted
from fedray.core.record import finite
from fedray.run.interrupt import held

if TYPE_CHECKING:
    from fedray.privacy.ledger import Ledger

_CLAIMED = ("unit", "neighbouring", "sampling", "mechanism", "noise")

Delta = Annotated[
    float | None,
    typer.Option(
        "--delta",
        help="The probability at which epsilon may not hold; default: the run's, or 1e-5.",
        show_default=False,
    ),
]


def privacy(
    run_dir: Annotated[
        Path | None, typer.Argument(metavar="[RUN_DIR]", help="A run folder: show its ledger.", show_default=False)
    ] = None,
    epsilon: Annotated[
        float | None, typer.Option("--epsilon", help="Find the noise multiplier for it.", show_default=False)
    ] = None,
    noise_multiplier: Annotated[
        float | None, typer.Option("--noise-multiplier", help="Find the epsilon of it.", show_default=False)
    ] = None,
    rate: Annotated[
        float | None,
        typer.Option("--rate", help="The probability with which a client takes part; default: 1.", show_default=False),
    ] = None,
    rounds: Annotated[int | None, typer.Option("--rounds", help="The number of rounds.", show_default=False)] = None,
    delta: Delta = None,
    accountant: Annotated[
        Literal["pld", "rdp"] | None,
        typer.Option("--accountant", help="What counts; default: the run's, or pld.", show_default=False),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Show what a run with differential privacy has spent, or find the noise for an epsilon before there is one.

    With a run folder: its ledger, a line for each kind of release, and what can be claimed. With --epsilon, --rate and
    --rounds: the noise multiplier. With --noise-multiplier in the place of --epsilon: the epsilon.
    """
    with held():
        from fedray.core.terminal import pairs, show
        from fedray.privacy import accounting
        from fedray.privacy.ledger import Ledger
        from fedray.rundir.names import LEDGER, PRIVACY

    if run_dir is not None:
        if any(said is not None for said in (epsilon, noise_multiplier, rate, rounds)):
            raise ConfigError(
                f"{run_dir}: a ledger says what was spent: leave --epsilon, --noise-multiplier, --rate and --rounds out"
            )
        if not (run_dir / LEDGER).exists():
            raise ConfigError(f"{run_dir}: there is no {LEDGER}, so it is no run with a section privacy")
        ledger = Ledger.read(run_dir / LEDGER)
        claim = run_dir / PRIVACY
        said = json.loads(claim.read_text()) if claim.exists() else {}
        at = delta if delta is not None else float(said.get("delta", 1e-5))
        by = accountant or said.get("accountant", "pld").partition(",")[0]
        try:
            found = ledger.spent(at, by)
        except ValueError as error:
            raise ConfigError(f"--{error}") from None
        if as_json:
            releases = [entry.to_json() for entry in ledger]
            typer.echo(json.dumps({"epsilon": finite(found), "delta": at, "accountant": by, "releases": releases}))
            return
        show(_table(ledger))
        made = f"{counted(len(ledger), 'release')} in {counted(ledger.rounds, 'round')}"
        rows = [("epsilon", f"{found:.4g} at delta {at:g} ({by}), of {made}")]
        rows += [(name, said[name]) for name in _CLAIMED if name in said]
        rows += [("not covered" if i == 0 else "", line) for i, line in enumerate(said.get("not_covered", ()))]
        show(pairs(rows))
        return
    if (epsilon is None) == (noise_multiplier is None) or rounds is None:
        raise ConfigError("give a run folder; or --rounds with one of --epsilon and --noise-multiplier")
    kind = (1.0 if rate is None else rate, rounds, 1e-5 if delta is None else delta, accountant or "pld")
    try:
        if epsilon is not None:
            found = accounting.noise_multiplier(epsilon, *kind)
            told = {"noise_multiplier": found}
        else:
            assert noise_multiplier is not None
            told = {"epsilon": accounting.epsilon(noise_multiplier, *kind)}
    except ValueError as error:
        raise ConfigError(f"--{error}") from None
    lines = [f"{name} {value:.6g}" for name, value in told.items()]
    typer.echo(json.dumps(finite(told)) if as_json else "\n".join(lines))


def _table(ledger: Ledger) -> Any:
    from fedray.core.terminal import Grid

    rounds: dict[tuple[float, float], list[int]] = {}
    for entry in ledger:
        rounds.setdefault((entry.release.noise_multiplier, entry.release.rate), []).append(entry.round)
    lines = [
        [f"{min(found):,} to {max(found):,}", f"{len(found):,}", f"{z:g}", f"{q:g}"] for (z, q), found in rounds.items()
    ]
    return Grid(["rounds", "releases", "noise multiplier", "rate"], lines)
