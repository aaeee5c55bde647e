"""The command on differential privacy: what a run has spent, or what noise a target takes."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from fedray.cli.common import AsJson
from fedray.core.errors import ConfigError, counted
from fedray.core.record import finite
from fedray.run.interrupt import held

if TYPE_CHECKING:
    from fedray.core.terminal import Grid
    from fedray.privacy.accounting import Accountant
    from fedray.privacy.ledger import Entry, Ledger
    from fedray.privacy.section import Privacy

_SHOWN = 20
"""The number of lines that the table of a ledger has at most, unless all are asked for."""

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
    sampling: Annotated[
        Literal["poisson", "fixed"] | None,
        typer.Option(
            "--sampling",
            help="Cohorts by coins, or of a fixed size, where the noise is over twice the clip; default: poisson.",
            show_default=False,
        ),
    ] = None,
    turns: Annotated[
        int | None,
        typer.Option(
            "--turns", help="Groups of clients that take turns; of --sampling fixed; default: 1.", show_default=False
        ),
    ] = None,
    delta: Delta = None,
    accountant: Annotated[
        Literal["pld", "rdp"] | None,
        typer.Option("--accountant", help="What counts; default: the run's, or pld.", show_default=False),
    ] = None,
    everything: Annotated[
        bool, typer.Option("--all", help="Show each release of a run, in the place of about twenty.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Show what a run with differential privacy has spent, or find the noise for an epsilon before there is one.

    With a run folder: its ledger, with the epsilon after each release, or of each client where clients add the noise
    themselves, and what can be claimed, whether the run goes on, has ended or was killed. With --epsilon, --rate and
    --rounds: the noise multiplier. With --noise-multiplier in the place of --epsilon: the epsilon.
    """
    with held():
        from fedray.privacy import accounting

    if run_dir is not None:
        if any(said is not None for said in (epsilon, noise_multiplier, rate, rounds, sampling, turns)):
            raise ConfigError(
                f"{run_dir}: a ledger says what was spent: leave --epsilon, --noise-multiplier, --rate, --rounds, "
                "--sampling and --turns out"
            )
        _of_run(run_dir, delta, accountant, everything, as_json)
        return
    if everything:
        raise ConfigError("--all: it is for the ledger of a run folder")
    if (epsilon is None) == (noise_multiplier is None) or rounds is None:
        raise ConfigError("give a run folder; or --rounds with one of --epsilon and --noise-multiplier")
    way, groups = sampling or "poisson", 1 if turns is None else turns
    kind = (1.0 if rate is None else rate, rounds, 1e-5 if delta is None else delta, accountant or "pld")
    try:
        if epsilon is not None:
            found = accounting.noise_multiplier(epsilon, *kind, sampling=way, turns=groups)
            told = {"noise_multiplier": found}
        else:
            assert noise_multiplier is not None
            told = {"epsilon": accounting.epsilon(noise_multiplier, *kind, sampling=way, turns=groups)}
    except ValueError as error:
        raise ConfigError(f"--{error}") from None
    lines = [f"{name} {value:.6g}" for name, value in told.items()]
    typer.echo(json.dumps(finite(told)) if as_json else "\n".join(lines))


def _of_run(run_dir: Path, delta: float | None, accountant: Accountant | None, everything: bool, as_json: bool) -> None:
    """Show the ledger of a run, and what can be claimed by it and the config of the run."""
    from fedray.cli.client_privacy import show_clients
    from fedray.core.terminal import pairs, show
    from fedray.privacy.accounting import counted_by
    from fedray.privacy.client_ledger import ClientLedger
    from fedray.privacy.ledger import Ledger
    from fedray.privacy.statement import lost_words, statement
    from fedray.rundir.names import LEDGER

    if not (run_dir / LEDGER).exists():
        raise ConfigError(f"{run_dir}: there is no {LEDGER}, so it is no run with a section privacy")
    if ClientLedger.is_at(run_dir / LEDGER):
        show_clients(run_dir / LEDGER, _section(run_dir), delta, accountant, None if everything else _SHOWN, as_json)
        return
    ledger, section = Ledger.read(run_dir / LEDGER), _section(run_dir)
    at = delta if delta is not None else 1e-5 if section is None else section.delta
    by = counted_by(ledger.releases, accountant or ("pld" if section is None else section.accountant))
    if accountant not in (None, by):
        raise ConfigError(f"--accountant={accountant}: of noise that clients share {by} alone knows: leave it out")
    try:
        found = ledger.spent(at, by)
    except ValueError as error:
        raise ConfigError(f"--{error}") from None
    if as_json:
        releases = [entry.to_json() for entry in ledger]
        typer.echo(json.dumps({"epsilon": finite(found), "delta": at, "accountant": by, "releases": releases}))
        return
    show(_table(ledger, at, None if everything else _SHOWN))
    made = f"{counted(len(ledger), 'release')} in {counted(ledger.rounds, 'round')}{lost_words(ledger)}"
    rows = [("epsilon", f"{found:.4g} at delta {at:g} ({by}), of {made}")]
    if by != "rdp" and len(ledger):
        rows.append(("", "the lines of the table are counted by rdp, which is quick, and above what pld counts"))
    if not everything and len(ledger) > _SHOWN:
        rows.append(("", f"{_SHOWN} of {len(ledger):,} releases are shown; --all shows each"))
    if section is not None:
        said = statement(section, ledger)
        rows += [(name, said[name]) for name in _CLAIMED]
        rows += [("not covered" if i == 0 else "", line) for i, line in enumerate(said["not_covered"])]
    show(pairs(rows))


def _section(run_dir: Path) -> Privacy | None:
    """Return the section of the newest config of a run; None: the folder has no config, but a ledger alone."""
    from fedray.config.layers import ConfigFile
    from fedray.experiment.chosen import chosen_privacy
    from fedray.rundir.names import configs

    if not (known := configs(run_dir)):
        return None
    read = ConfigFile.read(known[-1][1])
    # Alone, as what the rest takes from the environment need not be known here.
    _, resolved = ConfigFile({"privacy": read.content.get("privacy")}, read.files).layers()
    return chosen_privacy(resolved["privacy"])


def _table(ledger: Ledger, delta: float, most: int | None) -> Grid:
    from fedray.core.terminal import Grid
    from fedray.privacy.ledger import LOST, Ledger

    entries, counts, times = list(ledger), Counter[int](), list[int]()
    for entry in entries:
        counts[entry.round] += 1
        times.append(counts[entry.round])
    chosen, lines, before = _chosen(times, most), list[list[str]](), Ledger(ledger.path, ledger.id)
    for place, entry in enumerate(entries):
        before.add(entry)
        if place not in chosen:
            continue
        told = entry.circumstances
        again = f" ({_ordinal(times[place])} release)" if times[place] > 1 else ""
        again += " (reserved)" if entry.id == LOST else ""
        row = [f"{entry.round:,}{again}", f"{entry.release.noise_multiplier:g}", f"{entry.release.rate:g}"]
        row += [entry.release.sampling, _noise(entry)]
        row += ["?"] * 3 if told is None else map(_short, (told.expected, told.norm, told.noise_std))
        lines.append([*row, _short(before.spent(delta, "rdp"))])
    head = ["round", "noise multiplier", "rate", "sampling", "mechanism", "expected clients", "clip norm", "noise std"]
    return Grid([*head, "epsilon so far"], lines)


def _noise(entry: Entry) -> str:
    """Return the mechanism of a release, as a config names it, where it does."""
    made, told = entry.release, entry.circumstances
    if made.mechanism == "independent":
        return "gaussian"
    if told is None or told.correlated is None:
        return made.mechanism
    return f"{made.mechanism}, {'bands' if made.mechanism == 'banded' else 'restart'} {told.correlated.reach}"


def _chosen(times: Sequence[int], most: int | None) -> set[int]:
    """Return the places of what is shown: at most so many, evenly, with releases of a round beyond its first in front.

    >>> sorted(_chosen([1] * 9, 3)), sorted(_chosen([1, 1, 2, 1, 1, 1], 4))
    ([0, 4, 8], [0, 2, 3, 5])
    """
    if most is None or len(times) <= most:
        return {*range(len(times))}
    again = [place for place, time in enumerate(times) if time > 1]
    kept = set(_evenly(again, most // 2))
    rest = [place for place in range(len(times)) if place not in kept]
    return kept | set(_evenly(rest, most - len(kept)))


def _evenly(places: Sequence[int], most: int) -> list[int]:
    if len(places) <= most:
        return [*places]
    return [places[round(step * (len(places) - 1) / (most - 1))] for step in range(most)]


def _short(value: float) -> str:
    return f"{value:.4g}"


def _ordinal(number: int) -> str:
    """Return a number of a series in words of English.

    >>> [_ordinal(number) for number in (2, 3, 11, 22)]
    ['2nd', '3rd', '11th', '22nd']
    """
    ending = "th" if number // 10 % 10 == 1 else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number}{ending}"
