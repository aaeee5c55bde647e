"""The command that attacks a config: who was there, and what their rows were."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
import typer

from fedray.cli.common import AsJson, Overrides
from fedray.cli.verifying import bar
from fedray.config.layers import load_layers
from fedray.core.errors import ConfigError, counted
from fedray.core.quiet import quieted
from fedray.core.record import finite
from fedray.run.interrupt import held

if TYPE_CHECKING:
    from fedray.audit.roc import Roc
    from fedray.experiment.build import Config
    from fedray.report.charts import Chart

Kind = Annotated[
    Literal["membership", "inversion"],
    typer.Argument(
        metavar="membership|inversion",
        help="membership: which clients was a model trained with; inversion: what are the rows behind an update.",
        show_default=False,
    ),
]


def attack(
    kind: Kind,
    config: Annotated[
        Path, typer.Argument(metavar="CONFIG.yaml|RUN_DIR", help="The experiment, or a run of it.", show_default=False)
    ],
    overrides: Overrides = None,
    without_privacy: Annotated[
        bool, typer.Option("--without-privacy", help="Attack it without its section privacy, too, for comparison.")
    ] = False,
    models: Annotated[
        int | None,
        typer.Option(
            "--models",
            help="membership: the number of models, each trained with about half of the clients; default: 16.",
            show_default=False,
        ),
    ] = None,
    round: Annotated[
        int | None,
        typer.Option("--round", help="inversion: the round that is attacked; default: 1.", show_default=False),
    ] = None,
    client: Annotated[
        str | None,
        typer.Option("--client", help="inversion: the client; default: the first of the round.", show_default=False),
    ] = None,
    view: Annotated[
        Literal["update", "released"] | None,
        typer.Option(
            "--view",
            help="inversion: what the attacker has: a client's update, as the server does, or the models before and "
            "after the round, as everybody does; default: released where the server adds noise, else update.",
            show_default=False,
        ),
    ] = None,
    steps: Annotated[
        int | None, typer.Option("--steps", help="inversion: steps of the search; default: 400.", show_default=False)
    ] = None,
    restarts: Annotated[
        int | None, typer.Option("--restarts", help="inversion: searches; default: 1.", show_default=False)
    ] = None,
    figures: Annotated[
        Path | None, typer.Option("--figures", help="A folder for the figures: SVG, PDF, PNG, and CSV for each.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Attack a config as somebody would who wants to know of its clients, and say how far that gets.

    membership trains models with about half of the clients each, in this process, and guesses from each model and the
    rows of a client if it was there: by a threshold on the loss, by one on the loss less that of the other models that
    were trained without it, and by the likelihood ratio of the other models' losses.
    inversion does the rounds up to one, and makes rows anew whose gradient is what was sent or released.
    """
    with held():
        from fedray.report import check_packages, save_figures

    of_inversion = {"round": round, "client": client, "view": view, "steps": steps, "restarts": restarts}
    other: dict[str, Any] = {"models": models} if kind == "inversion" else of_inversion
    if wrong := [name for name, value in other.items() if value is not None]:
        raise ConfigError(f"--{wrong[0]}: it is not for {kind}: leave it out")
    if figures is not None:
        check_packages()
    path = _config_of(config)
    with quieted("fedray"):
        variants = dict(_variants(path, overrides or [], without_privacy))
        if kind == "membership":
            told, rows, charts = _membership(variants, 16 if models is None else models, as_json)
        else:
            told, rows, charts = _inversion(variants, 1 if round is None else round, client, view, steps, restarts)
    if figures is not None:
        files = save_figures(charts, figures)
    if as_json:
        typer.echo(json.dumps(told))
        return
    from fedray.core.terminal import Grid, show

    show(Grid(*rows))
    if figures is not None:
        typer.echo(f"figures: {figures} ({len(files)} files)")


def _config_of(path: Path) -> Path:
    from fedray.rundir.names import configs

    if not path.is_dir():
        return path
    if not (known := configs(path)):
        raise ConfigError(f"{path}: there is no config in it: give a config, or the folder of a run of one")
    return known[-1][1]


def _variants(path: Path, changes: list[str], without: bool) -> Iterator[tuple[str, Config]]:
    """Yield what is attacked, by what the table says of it."""
    from fedray.audit.runs import HERE
    from fedray.experiment.build import Config

    config = Config.bind(path.stem, *load_layers(path, [*changes, *HERE]))
    if without and config.privacy is None:
        raise ConfigError("--without-privacy: the config has no section privacy to go without")
    yield ("without privacy" if config.privacy is None else "with privacy"), config
    if without:
        yield "without privacy", Config.bind(path.stem, *load_layers(path, [*changes, *HERE, "privacy=null"]))


def _membership(
    variants: dict[str, Config], models: int, quiet: bool
) -> tuple[dict[str, Any], tuple[list[str], list[list[str]]], list[Chart]]:
    from fedray.audit.membership import Membership, Seen
    from fedray.audit.roc import Roc
    from fedray.report.attacks import Rocs

    found: list[tuple[str, str, str, Roc]] = []
    claims: dict[str, tuple[float, float]] = {}
    with bar(models * len(variants), quiet) as tell:
        for name, config in variants.items():
            asked, seen = Membership(config, models), list[Seen]()
            for one in asked:
                tell(len(one.losses))
                seen = [one]
            found += [(name, attack, unit, Roc(*scores)) for (attack, unit), scores in seen[0].scores().items()]
            if (claim := asked.claim()) is not None:
                claims[name] = claim
    told = {
        "models": models,
        "attacks": [{"variant": v, "attack": a, "unit": u, **roc.to_json()} for v, a, u, roc in found],
        "claims": {name: {"epsilon": finite(epsilon), "delta": delta} for name, (epsilon, delta) in claims.items()},
    }
    head = ["", "attack", "of", "AUC", "found at 0.1 % false alarms", "at 1 %", "right at best"]
    rows = [
        [v, a, u, f"{r.auc:.3f}", *(f"{100 * share:.1f} %" for share in (r.hits(0.001), r.hits(0.01), r.accuracy))]
        for v, a, u, r in found
    ]
    charts: list[Chart] = []
    for unit in ("clients", "rows"):
        curves = [(f"{a}, {v}", roc) for v, a, u, roc in found if u == unit]
        bounds = [(f"most at epsilon {e:.3g}", e, d) for e, d in claims.values()]
        charts.append(Rocs(f"membership-{unit}", unit, curves, bounds if unit == "clients" else ()))
    return told, (head, rows), charts


def _inversion(
    variants: dict[str, Config], round: int, client: str | None, view: str | None, steps: int | None,
    restarts: int | None,
) -> tuple[dict[str, Any], tuple[list[str], list[list[str]]], list[Chart]]:  # fmt: skip
    from fedray.audit.inversion import Inversion, as_images, intercepted
    from fedray.report.attacks import Beside

    first = next(iter(variants.values()))
    noised = first.privacy is not None and first.privacy.unit == "client" and first.privacy.model != "local"
    view = view or ("released" if noised else "update")
    said = {name: value for name, value in (("steps", steps), ("restarts", restarts)) if value is not None}
    search, found, clients = Inversion(**said), [], tuple[str, ...]()
    for name, config in variants.items():
        seen = intercepted(config, round, client, view == "released")
        clients = seen.clients
        found.append((name, search(config.plan().task, seen, round)))
    told = {
        "round": round,
        "view": view,
        "clients": list(clients),
        "attacks": [
            {
                "variant": name,
                "exact": one.exact,
                "distance": one.distance,
                "psnr": [finite(value) for value in one.psnr],
                "flat": [finite(value) for value in one.flat],
            }
            for name, one in found
        ],
    }
    head = ["", "attacked", "rows", "PSNR in dB", "best", "one brightness", "how"]
    what = f"{view}, {counted(len(clients), 'client')}"
    rows = [
        [
            name, what, str(len(one.x)), f"{np.mean(one.psnr):.1f}", f"{max(one.psnr):.1f}", f"{np.mean(one.flat):.1f}",
            "exact, of a linear layer" if one.exact else f"search, 1 - cosine {one.distance:.2g}",
        ]
        for name, one in found
    ]  # fmt: skip
    shown: list[Chart] = [Beside("inversion", found)] if as_images(found[0][1].x) is not None else []
    return told, (head, rows), shown
