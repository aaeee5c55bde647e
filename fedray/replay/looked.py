"""The findings about a client in a round of a run, and their words."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from rich.console import RenderableType

from fedray.core.errors import listed
from fedray.core.terminal import Grid, pairs, plain
from fedray.replay.doubts import Doubt
from fedray.replay.rounds import UNASKED
from fedray.replay.watched import SeenStep, Trouble

_MOST_STEPS = 24
_ASKED = "does the data function give the same rows at each call, and the model the same outputs?"


@dataclass
class Looked:
    """The findings about a client in a round.

    Args:
        round: the round.
        client: the client's id.
        block: ids of the clients of its block, itself included.
        rows: the number of its rows.
        training: the number of these that are not held out, by whose places, from 0, steps name examples; where they
            are among all rows each step has as ``rows``.
        then: the recorded SHA-256 of the model after the round; None: the run has not recorded the round.
        now: the one of now; None: the round failed.
        error: the reason for which the run failed in the round, as it has recorded it; None: it did not.
        ended: the reason for which the round failed now.
        failure: stage and error with which the client failed in the round, now.
        recorded: the same as the run has recorded it.
        gap: the largest difference between what the client's training gives in its block and alone; None: the block
            gives nothing.
        share: the same as a share of the largest of these numbers.
        steps: the client's steps alone.
        trouble: the first thing in them that went wrong.
        trace: the traceback, where its code raised alone.
        doubts: reasons for other bits.
    """

    round: int
    client: str
    block: list[str] = field(default_factory=list)
    rows: int = 0
    training: int = 0
    then: str | None = None
    now: str | None = None
    error: str | None = None
    ended: str | None = None
    failure: tuple[str, str] | None = None
    recorded: tuple[str, str] | None = None
    gap: float | None = None
    share: float | None = None
    steps: list[SeenStep] = field(default_factory=list)
    trouble: Trouble | None = None
    trace: str = ""
    doubts: list[Doubt] = field(default_factory=list)

    @property
    def word(self) -> str:
        """``equal``, ``close`` (in another place, where bits may be others), ``different``, or ``unrecorded``."""
        if self.then is None or self.now is None:
            return "unrecorded"
        if self.then == self.now:
            return "equal"
        return "close" if self.doubts and all(doubt.place for doubt in self.doubts) else "different"

    @property
    def recurs(self) -> bool | None:
        """True where the client failed in the run, and fails now; None: it did not fail by what it computes."""
        if self.recorded is None or self.recorded[0] in UNASKED:
            return None
        return self.failure is not None

    def to_json(self) -> dict[str, Any]:
        """Return it ready for JSON."""
        trouble = None if self.trouble is None else vars(self.trouble)
        steps = [step.to_json() for step in self.steps]
        doubts = [doubt.words for doubt in self.doubts]
        told = {"verdict": self.word, "recurs": self.recurs}
        return {**vars(self), **told, "trouble": trouble, "steps": steps, "doubts": doubts}

    def told(self) -> Iterator[RenderableType]:
        """Yield what is shown of it: what was found, and the steps; the traceback is a text of its own."""
        yield pairs(_lines(self))
        if self.steps:
            yield _steps(self.steps, self.trouble.step if self.trouble else None, self.rows > self.training)

    def __str__(self) -> str:
        """Return it as the command shows it."""
        return "".join([*(plain(part) for part in self.told()), self.trace]).rstrip()


def _lines(seen: Looked) -> Iterator[tuple[str, str]]:
    reasons = "; ".join(doubt.words for doubt in seen.doubts)
    words = {
        "equal": f"the same bits as recorded, {(seen.now or '')[:12]}",
        "close": f"close, not equal: {reasons}",
        "different": f"other bits than recorded: {reasons or 'code, data or fedray itself may have changed'}",
        "unrecorded": _unrecorded(seen),
    }
    yield "round", f"{seen.round}: {words[seen.word]}"
    others = [name for name in seen.block if name != seen.client]
    yield (
        "client",
        f"{seen.client}, in a block with {listed(others)}" if others else f"{seen.client}, a block of its own",
    )
    if seen.rows > seen.training:
        names = "steps name `examples` among these and `rows` among all, from 0"
        yield "rows", f"{seen.rows:,}, of these {seen.training:,} training; {names}"
    for name, failure in (("recorded", seen.recorded), ("in its block", seen.failure)):
        if failure is not None:
            yield name, f"it gave no update ({failure[0]}): {failure[1]}"
    if seen.recurs is False:
        yield "in its block", f"done again it gives one: {reasons or _ASKED}"
    if seen.gap is not None:
        near = f"as in its block within {seen.gap:.1g}, {seen.share:.1g} of the largest number"
        yield "alone", "the same bits as in its block" if seen.gap == 0 else near
    if seen.trouble is not None:
        fit = f", fit {seen.trouble.fit}" if seen.steps and seen.steps[-1].fit > 1 else ""
        yield "goes wrong", f"in step {seen.trouble.step}{fit}: {seen.trouble.words}"


def _unrecorded(seen: Looked) -> str:
    if seen.ended:
        return f"it fails, and has no record: {seen.ended}"
    return "the run has no hash of its model" if seen.error is None else "the run failed in it; done again it does not"


def _steps(steps: list[SeenStep], trouble: int | None, held: bool) -> Grid:
    """Lay out steps: all of them, or the first, the last, and those before what went wrong.

    Args:
        steps: the steps.
        trouble: the step that went wrong, if any did.
        held: rows are held out, so that places among training rows and among all are two things.
    """
    near = len(steps) if trouble is None else trouble + 2
    shown = [
        (place, step)
        for place, step in enumerate(steps)
        if len(steps) <= _MOST_STEPS or place < 5 or place >= len(steps) - 5 or near - 10 <= place < near
    ]
    several = steps[-1].fit > 1
    places = ["examples", *(["rows"] if held else [])]
    head = [*(["fit"] if several else []), "step", *places, "loss", "|gradient|", "|change|", "|parameters|"]
    lines, before = [], -1
    for place, step in shown:
        if place > before + 1:
            lines.append(["..."] + [""] * (len(head) - 1))
        before = place
        examples = [_places(one) for one in (step.examples, *([step.rows] if held else []))]
        numbers = (f"{value:.6g}" for value in (step.loss, step.gradient, step.change, step.params))
        lines.append([*([str(step.fit)] if several else []), str(step.step), *examples, *numbers])
    return Grid(head, lines)


def _places(places: list[int]) -> str:
    return listed(places) if len(places) <= 10 else f"{len(places)}, from {places[0]}"
