"""The commands, by their names."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

from fedray.cli import (
    attacking,
    auditing,
    comparing,
    data,
    debugging,
    ending,
    inspecting,
    jobs,
    many,
    predicting,
    privacy,
    reporting,
    runs,
    slurm,
    training,
    tuning,
    verifying,
    watching,
)
from fedray.config.binding import nearest
from fedray.core.unread import ending_unread
from fedray.run.interrupt import exit_at_once, starting

_WRONG_USE: Any = typer.BadParameter.__base__
"""The error of a wrong command line: ``UsageError`` of click, which typer has within, and exports below it alone."""


class _Commands(TyperGroup):
    """The commands, listed with their whole first sentence: by default what is longer than a line is cut."""

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Write the list."""
        with formatter.section("Commands"):
            every = [(name, command.get_short_help_str(limit=1000)) for name, command in self.commands.items()]
            formatter.write_dl(every)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Return the command that is meant by its name."""
        word = args[0]
        if word not in self.commands and not word.startswith("-") and not ctx.resilient_parsing:
            ctx.fail(f"No such command {word!r}{nearest(word, self.commands)}.")
        return super().resolve_command(ctx, args)


class _Command(TyperCommand):
    """A command that tells an option it does not know from a key of the config, which is written without dashes."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse the command line."""
        try:
            return super().parse_args(ctx, args)
        except _WRONG_USE as error:
            # Only the error of an unknown option tells of others that may be meant.
            if hasattr(error, "possibilities") and any(param.name == "overrides" for param in self.params):
                key = error.option_name.lstrip("-").replace("-", "_")
                error.message += f"; a key of the config is written without dashes: {key}=VALUE"
            raise


class _Question(_Command):
    """A command that leaves nothing to go on with: a signal ends it with the status that a shell gives."""

    def invoke(self, ctx: Any) -> Any:
        """Answer it."""
        with starting(again=exit_at_once, resumable=False):
            return super().invoke(ctx)


class _Report(_Question):
    """A command whose output is all that it leaves: it ends where nobody reads on, as after ``| head``."""

    def invoke(self, ctx: Any) -> Any:
        """Tell it."""
        with ending_unread():
            return super().invoke(ctx)


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


app.command(cls=_Command)(training.run)
app.command(cls=_Command)(training.resume)
app.command(cls=_Question)(inspecting.evaluate)
app.command(cls=_Question)(predicting.predict)
app.command(cls=_Question)(inspecting.export)
app.command(cls=_Question)(data.data)
app.command(cls=_Report)(inspecting.plan)
app.command("list", cls=_Report)(inspecting.list_parts)
app.command("config", cls=_Report)(inspecting.show_config)
app.command(cls=_Question)(tuning.tune)
app.command(cls=_Command)(many.sweep)
app.command(cls=_Command)(comparing.compare)
app.command(cls=_Question)(reporting.report)
app.command(cls=_Report)(runs.runs)
app.command(cls=_Report)(watching.status)
app.command(cls=_Report)(privacy.privacy)
app.command(cls=_Question)(auditing.audit)
app.command(cls=_Question)(attacking.attack)
app.command(cls=_Question)(verifying.verify)
app.command(cls=_Report)(verifying.diff)
app.command(cls=_Question)(debugging.debug)
app.command(cls=_Question)(ending.stop)
app.command(cls=_Report)(ending.logs)
app.command(cls=_Report)(watching.doctor)
app.command(cls=_Command)(jobs.submit)
app.command(cls=_Command)(slurm.slurm)
app.command(cls=_Command)(training.quickstart)
app.command(cls=_Question)(training.new)
