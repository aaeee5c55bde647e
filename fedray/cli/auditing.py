"""The command that puts a claim of privacy to the test."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated

import typer

from fedray.cli.common import FAILED, AsJson, ConfigArgument, Overrides
from fedray.cli.verifying import bar
from fedray.config.layers import load_layers
from fedray.core.errors import ConfigError, counted
from fedray.core.quiet import quieted
from fedray.run.interrupt import INTERRUPTED, held

if TYPE_CHECKING:
    from fedray.audit.trials import Found


def audit(
    config: ConfigArgument,
    overrides: Overrides = None,
    trials: Annotated[int, typer.Option("--trials", help="The number of runs.")] = 200,
    canaries: Annotated[
        int, typer.Option("--canaries", help="Canaries in each run; with hundreds of them one trial will do.")
    ] = 1,
    rounds: Annotated[
        int | None, typer.Option("--rounds", help="Rounds of each run: short for rounds=NUMBER.", show_default=False)
    ] = None,
    confidence: Annotated[
        float, typer.Option("--confidence", help="The probability that a bound holds, at least, in (0, 1).")
    ] = 0.95,
    as_json: AsJson = False,
) -> None:
    """Test the epsilon of a config with differential privacy by clients, or rows, that try to be seen.

    The config is run many times in this process, with canaries in it or not, which are guessed from what is
    released. The guesses bound epsilon from below. Exit status: 0 the bounds are within the claim, 1 the claim is
    refuted.
    """
    with held():
        from fedray.audit.runs import HERE
        from fedray.audit.trials import Audit
        from fedray.core.terminal import Grid, pairs, show
        from fedray.experiment.build import Config

    if not 0.0 < confidence < 1.0:
        raise ConfigError(f"--confidence={confidence:g}: it must be above 0 and below 1, such as 0.95")
    changes = [*(overrides or ()), *([f"rounds={rounds}"] if rounds is not None else ()), *HERE]
    found: Found | None = None
    stopped = False
    with quieted("fedray"):
        audited = Audit(Config.bind(config.stem, *load_layers(config, changes)), trials, canaries)
    with quieted("fedray"), bar(trials, quiet=as_json) as tell:
        try:
            for found in audited:
                tell(len(found.scores) // canaries)
        except KeyboardInterrupt:
            stopped = True
    if found is None:
        raise typer.Exit(INTERRUPTED)
    guesses = found.guesses
    lines = audited.lines(guesses, confidence)
    refuted = any(line.refuted for line in lines)
    done = len(found.scores) // canaries
    if as_json:
        said = {"trials": done, "canaries": canaries, "rounds": audited.plan.rounds, "confidence": confidence}
        told = {**said, **guesses.to_json(), "lines": [line.to_json() for line in lines], "refuted": refuted}
        typer.echo(json.dumps({**told, "stopped": stopped}))
    else:
        rows = [[f"{x.delta:g}", f"{x.claimed:.4g}", f"{x.found:.4g}", "refuted" * x.refuted] for x in lines]
        show(Grid(["delta", "claimed epsilon", "at least", ""], rows))
        many = f"{counted(done, 'run')} of {counted(audited.plan.rounds, 'round')}, canaries in each: {canaries:,}"
        seen = f"{guesses.hits:,} of {guesses.there:,} that were, {guesses.alarms:,} of {guesses.away:,} that were not"
        show(
            pairs(
                [
                    ("trials", many + (f", of {trials:,}: stopped" if stopped else "")),
                    ("guessed to be in", seen),
                    ("confidence", f"{confidence:g}, of all lines together"),
                    ("claim", "refuted: more is released than is accounted for" if refuted else "not refuted"),
                ]
            )
        )
    if refuted:
        raise typer.Exit(FAILED)
    if stopped:
        raise typer.Exit(INTERRUPTED)
