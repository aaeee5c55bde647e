"""The command that looks at a client in a round."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Annotated

import typer

from fedray.cli.common import FAILED, AsJson, RunArgument, duration
from fedray.cli.verifying import bar
from fedray.core.errors import counted
from fedray.run.interrupt import held


def debug(
    run_dir: RunArgument,
    round: Annotated[
        int | None, typer.Option("--round", help="The round; default: that of the first client that failed.")
    ] = None,
    client: Annotated[
        str | None, typer.Option("--client", metavar="ID", help="The client; default: the first that failed in it.")
    ] = None,
    pdb: Annotated[
        bool, typer.Option("--pdb", help="Give the client's training to the debugger, where it goes wrong.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Look at a client in a round of a run: its steps, losses, norms, and the input or layer that goes wrong.

    The rounds since the checkpoint before are done again, in this process; then the round, with the client in its
    block, which is compared with the recorded hash; then the client alone.  Nothing is written into the run folder.
    Exit status: 1 where the client failed in the run, and done again does not; else 0.
    """
    with held():
        from fedray.core.terminal import show
        from fedray.replay.debug import chosen
        from fedray.replay.debug import debug as look
        from fedray.replay.recorded import Recorded

    recorded = Recorded.read(run_dir)
    number, who = chosen(recorded, round, client)
    start = recorded.before(number)

    @contextmanager
    def progress() -> Iterator[Callable[[int], None]]:
        if not as_json:
            place = f"the checkpoint of round {start}" if start else "the start"
            seconds = duration(max(1.0, recorded.seconds(start + 1, number)))
            typer.echo(f"{counted(number - start, 'round')} to be done again, from {place} on, about {seconds}")
        with bar(number - start, quiet=as_json or pdb) as tell:
            yield tell

    def ready() -> None:
        typer.echo("the debugger has the client's training")

    seen = look(recorded, number, who, pdb, ready, progress=progress)
    if as_json:
        typer.echo(json.dumps(seen.to_json()))
    else:
        for part in seen.told():
            show(part)
        typer.echo(seen.trace, nl=False)
    if seen.recurs is False:
        raise typer.Exit(FAILED)
