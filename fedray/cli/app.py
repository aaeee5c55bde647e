"""The commands, by their names."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from fedray.cli import ending, inspecting, jobs, many, slurm, training, watching


class _Commands(TyperGroup):
    """The commands, listed with their whole first sentence: by default what is longer than a line is cut."""

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Write the list."""
        with formatter.section("Commands"):
            every = [(name, command.get_short_help_str(limit=1000)) for name, command in self.commands.items()]
            formatter.write_dl(every)


app = typer.Typer(
    name="fedray",
    cls=_Commands,
    help="Federated learning of PyTorch models: one config, from a laptop to a cluster.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


@app.callback(invoke_without_command=True)
def _top(version: Annotated[bool, typer.Option("--version", help="Show the version and exit.")] = False) -> None:
    if version:
        from fedray import __version__

        typer.echo(f"fedray {__version__}")
        raise typer.Exit


app.command()(training.run)
app.command()(training.resume)
app.command()(inspecting.evaluate)
app.command()(inspecting.export)
app.command()(inspecting.plan)
app.command("list")(inspecting.list_parts)
app.command("config")(inspecting.show_config)
app.command()(many.sweep)
app.command()(watching.status)
app.command()(ending.stop)
app.command()(ending.logs)
app.command()(watching.doctor)
app.command()(jobs.submit)
app.command()(slurm.slurm)
app.command()(training.quickstart)
