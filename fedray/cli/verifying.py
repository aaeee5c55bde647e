"""Commands that say whether runs are the same, bit for bit: a run and itself, a run and another one."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fedray.cli.common import FAILED, AsJson, RunArgument, duration
from fedray.core.errors import counted, listed
from fedray.run.interrupt import held

if TYPE_CHECKING:
    from fedray.replay.verify import Verdict


def _how_many(text: str) -> int | str:
    if text != "all" and not (text.isdecimal() and int(text) > 0):
        raise typer.BadParameter(f"{text!r} is no number of rounds: give one, or all")
    return text if text == "all" else int(text)


def verify(
    run_dir: RunArgument,
    rounds: Annotated[
        Any,
        typer.Option(
            "--rounds", parser=_how_many, metavar="NUMBER|all", help="How many; all: from the start to the end."
        ),
    ] = "3",
    as_json: AsJson = False,
) -> None:
    """Do some rounds of a run again, in this process, and compare their models with the recorded hashes.

    Those soon after a checkpoint or the start, which cost least; checkpoints are compared with their rounds, too.
    Nothing is written into the run folder.  Exit status: 0 the same bits, 1 not.
    """
    with held():
        from fedray.core.terminal import show
        from fedray.replay.recorded import Recorded, stretches
        from fedray.replay.verify import chosen
        from fedray.replay.verify import verify as verify_run

    recorded = Recorded.read(run_dir)
    wanted = chosen(recorded, None if rounds == "all" else rounds)
    pieces = stretches(recorded, wanted)
    done = sum(last - start for start, last in pieces.items())
    seconds = sum(recorded.seconds(start + 1, last) for start, last in pieces.items())
    if not as_json:
        names = listed(f"{start + 1} to {last}" if last > start + 1 else last for start, last in pieces.items())
        typer.echo(f"{counted(done, 'round')} to be done again ({names}), about {duration(max(1.0, seconds))}")
    with bar(done, quiet=as_json) as tell:
        verdict = verify_run(recorded, wanted, tell)
    if as_json:
        typer.echo(json.dumps(verdict.to_json()))
    else:
        show(_table(verdict))
        for line in _words(verdict):
            typer.echo(line)
    if verdict.word != "equal":
        raise typer.Exit(FAILED)


def diff(
    one: Annotated[Path, typer.Argument(metavar="RUN1", help="A run folder.", show_default=False)],
    other: Annotated[Path, typer.Argument(metavar="RUN2", help="Another one.", show_default=False)],
    as_json: AsJson = False,
) -> None:
    """Say in which round two runs first differ, and in what: config, versions, hardware, data, code of
    your own.

    Reads only the run folders' files.  Exit status: 0 the same bits in all rounds that both have, 1 not.
    """
    with held():
        from fedray.core.terminal import pairs, show
        from fedray.replay.differences import differences
        from fedray.replay.recorded import Recorded

    found = differences(Recorded.read(one), Recorded.read(other))
    if as_json:
        typer.echo(json.dumps(found.to_json()))
    else:
        same = f"the same in all {counted(found.compared, 'round')} that both have"
        first = same if found.first is None else f"round {found.first:,} is the first that differs"
        kinds = {name: getattr(found, name) for name in ("config", "versions", "hardware", "data", "code")}
        lines = [("rounds", first), *(("", words) for words in found.told)]
        for name, words in kinds.items():
            told = words or [_same(name, found.unrecorded.get(name, []))]
            lines += [(name if i == 0 else "", text) for i, text in enumerate(told)]
        show(pairs(lines))
    if found.first is not None:
        raise typer.Exit(FAILED)


def _same(kind: str, unrecorded: list[str]) -> str:
    """Say that nothing differs, or that a run folder, or both, do not tell it."""
    if not unrecorded:
        return "the same"
    none = ", as of runs that need none of your own" if kind == "code" else ""
    return f"not recorded in {unrecorded[0] if len(unrecorded) == 1 else 'either'}{none}"


@contextmanager
def bar(rounds: int, quiet: bool) -> Iterator[Callable[[int], None]]:
    """Show how many rounds are done, on a terminal; gives what is to be told of each."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    columns = (TextColumn("round {task.fields[round]}"), BarColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=quiet or not console.is_terminal) as progress:
        task = progress.add_task("", total=rounds, round="")
        yield lambda round: progress.update(task, advance=1, round=str(round))


def _table(verdict: Verdict) -> Any:
    from fedray.core.terminal import Grid

    head = ["round", "after", "recorded", "now", "", "loss then", "now"]
    lines = [
        [
            str(check.round),
            f"checkpoint {check.start}" if check.start else "the start",
            check.then[:12],
            check.now[:12],
            "same bits" if check.same else "other bits",
            *("" if loss is None else f"{loss:.6g}" for loss in (check.loss_then, check.loss_now)),
        ]
        for check in verdict.checks
    ]
    return Grid(head, lines)


def _words(verdict: Verdict) -> Iterator[str]:
    good = [round for round, wrong in verdict.checkpoints.items() if wrong is None]
    if good:
        yield f"checkpoints of rounds {listed(good)}: whole, each with the model of its round"
    for round, wrong in verdict.checkpoints.items():
        if wrong is not None:
            yield f"checkpoint of round {round}: {wrong}"
    match verdict.word:
        case "equal":
            yield f"equal{f', although they might not be: {verdict.reasons}' if verdict.reasons else ''}"
        case "close":
            yield f"close, not equal: {verdict.reasons}"
        case "different":
            first = next((check.round for check in verdict.checks if not check.same), None)
            unknown = "the code that the config names, the data or fedray itself may have changed"
            yield "different" if first is None else f"different, from round {first} on: {verdict.reasons or unknown}"
