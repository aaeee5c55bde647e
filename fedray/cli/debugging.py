"""The command that looks at a client in a round."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from fedray.cli.common import RunArgument
from fedray.cli.verifying import bar
from fedray.cli.watching import AsJson, duration
from fedray.core.errors import counted, listed
from fedray.run.interrupt import held

if TYPE_CHECKING:
    from fedray.core.terminal import Grid
    from fedray.replay.debug import Looked
    from fedray.replay.watched import SeenStep

_MOST_STEPS = 24


def debug(
    run_dir: RunArgument,
    round: Annotated[
        int | None, typer.Option("--round", help="The round; default: that of the first client that failed.")
    ] = None,
    client: Annotated[
        str | None, typer.Option("--client", metavar="ID", help="The client; default: the first that fails in it.")
    ] = None,
    pdb: Annotated[
        bool, typer.Option("--pdb", help="Give the client's training to the debugger, where it goes wrong.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Look at a client in a round of a run: its steps, losses, norms, and the input or layer that goes wrong.

    The rounds since the checkpoint before are done again, in this process; then the round, with the client in its
    block, which is compared with the recorded hash; then the client alone.  Nothing is written into the run folder.
    """
    with held():
        from fedray.core.terminal import pairs, show
        from fedray.replay.debug import chosen
        from fedray.replay.debug import debug as look
        from fedray.replay.recorded import Recorded

    recorded = Recorded.read(run_dir)
    number, who = chosen(recorded, round, client)
    start = recorded.before(number)
    if not as_json:
        begin = f"the checkpoint of round {start}" if start else "the start"
        seconds = duration(max(1.0, recorded.seconds(start + 1, number)))
        typer.echo(f"{counted(number - start, 'round')} to be done again, from {begin} on, about {seconds}")
    with bar(number - start, quiet=as_json or pdb) as tell:
        seen = look(recorded, number, who, pdb, tell, lambda: typer.echo("the debugger has the client's training"))
    if as_json:
        typer.echo(json.dumps(seen.to_json()))
        return
    show(pairs(_lines(seen)))
    if seen.steps:
        show(_steps(seen.steps, seen.trouble.step if seen.trouble else None))
    if seen.trace:
        typer.echo(seen.trace, nl=False)


def _lines(seen: Looked) -> Iterator[tuple[str, str]]:
    reasons = "; ".join(doubt.words for doubt in seen.doubts)
    words = {
        "equal": f"the same bits as recorded, {(seen.now or '')[:12]}",
        "close": f"close, not equal: {reasons}",
        "different": f"other bits than recorded: {reasons or 'code, data or fedray itself may have changed'}",
        "unrecorded": f"it fails, and has no record: {seen.ended}"
        if seen.ended
        else "the run has no hash of its model",
    }
    yield "round", f"{seen.round}: {words[seen.word]}"
    others = [name for name in seen.block if name != seen.client]
    yield (
        "client",
        f"{seen.client}, in a block with {listed(others)}" if others else f"{seen.client}, a block of its own",
    )
    for name, failure in (("recorded", seen.recorded), ("in its block", seen.failure)):
        if failure is not None:
            yield name, f"it gave no update ({failure[0]}): {failure[1]}"
    if seen.gap is not None:
        near = f"as in its block within {seen.gap:.1g}, {seen.share:.1g} of the largest number"
        yield "alone", "the same bits as in its block" if seen.gap == 0 else near
    if seen.trouble is not None:
        fit = f", fit {seen.trouble.fit}" if seen.steps and seen.steps[-1].fit > 1 else ""
        yield "goes wrong", f"in step {seen.trouble.step}{fit}: {seen.trouble.words}"


def _steps(steps: list[SeenStep], trouble: int | None) -> Grid:
    """Lay out steps: all of them, or the first, the last, and those before what went wrong."""
    from fedray.core.terminal import Grid

    near = len(steps) if trouble is None else trouble + 2
    shown = [
        (place, step)
        for place, step in enumerate(steps)
        if len(steps) <= _MOST_STEPS or place < 5 or place >= len(steps) - 5 or near - 10 <= place < near
    ]
    several = steps[-1].fit > 1
    head = [*(["fit"] if several else []), "step", "examples", "loss", "|gradient|", "|change|", "|parameters|"]
    lines, before = [], -1
    for place, step in shown:
        if place > before + 1:
            lines.append(["..."] + [""] * (len(head) - 1))
        before = place
        examples = (
            listed(step.examples) if len(step.examples) <= 10 else f"{len(step.examples)}, from {step.examples[0]}"
        )
        numbers = (f"{value:.6g}" for value in (step.loss, step.gradient, step.change, step.params))
        lines.append([*([str(step.fit)] if several else []), str(step.step), examples, *numbers])
    return Grid(head, lines)
