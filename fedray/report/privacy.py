"""Privacy of runs: clipping, noise and sampling as configured, and what has left each client."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from typing import Any

from fedray.core.errors import listed
from fedray.core.record import VIEWS
from fedray.report.blocks import Block, Cell, Table, Words
from fedray.report.clients import MOST_CLIENTS
from fedray.report.progress import MOST_CURVES
from fedray.report.told import Setting, Told
from fedray.rundir.names import SENT


def privacy_blocks(settings: Sequence[Setting]) -> Iterator[Block]:
    """Yield what is to be said of the privacy of some settings."""
    yield from _protection(settings)
    for one in settings[:MOST_CURVES]:
        yield from _ledger(one, one.label if len(settings) > 1 else "")


def _ledger(one: Setting, label: str) -> Iterator[Block]:
    """Yield what has left each client, by the ledger of the setting's first run."""
    told = next((found for run in one.runs if (found := _sent(run))), None)
    if told is None:
        return
    of = f"{label}: " if label else ""
    lines: list[list[Cell]] = []
    for round, questions in told["before"].items():
        named = [(asked["question"], *asked["columns"]) for asked in questions]
        for place, asked in enumerate(questions):
            columns = f" ({', '.join(asked['columns'])})" if asked["columns"] else ""
            # As sums are, about zero, and then about the mean.
            times, turn = named.count(named[place]), named[: place + 1].count(named[place])
            which = f", {turn} of {times}" if times > 1 else ""
            words = f"before round {round}: {_unquoted(asked['question'])}{columns}{which}"
            values = max(asked["values"]) if "values" in asked else None  # earlier versions did not count them
            lines.append([words, _unquoted(asked["answer"]), values, "an answer", max(asked["bytes"])])
    for variant in told["variants"]:
        lines += [
            [part["name"], f"each round, {part['in']}", part["numbers"], part["dtype"], part["bytes"]]
            for part in variant["parts"]
        ]
    lines.append([", ".join(told["told"]["training"]), "each round, training", 1, "numbers for the record", None])
    if told["told"]["evaluation"]:
        names = ", ".join(map(_recorded, told["told"]["evaluation"]))
        lines.append([names, "each evaluation of clients", None, "sums over its rows", None])
    since = f", from round {told['since']} on" if told["since"] > 1 else ""
    beginning = f"{of}all" if of else "All"
    text = f"{beginning} that leaves a client{since}, by sent.json; of the answers to a question the largest is told."
    yield Table(["what", "when, or which answer", "numbers", "type", "bytes"], lines, text)
    if "by_client" in told:
        table = told["by_client"]
        head = ["client", "rounds", "surveys", "evaluations", "bytes"]
        rows = list(zip(*(table[name] for name in head), strict=True))
        yield Table(head, rows[:MOST_CLIENTS], folded=f"{of}Sent by each client" if of else "Sent by each client")


def _unquoted(docstring: str) -> str:
    """Return words of a docstring without shapes and marks for code.

    >>> _unquoted("Sum columns about ``center`` ``[k]``: counts")
    'Sum columns about center: counts'
    >>> _unquoted("Count the rows of each class, int64 ``[classes]``; empty for regression")
    'Count the rows of each class; empty for regression'
    """
    return re.sub(r"(, \w+)? ``\[[^`]*\]``", "", docstring).replace("``", "")


def _recorded(name: str) -> str:
    """Return the name that records have for a number of an evaluation.

    >>> _recorded("global.accuracy")
    'clients_test.accuracy'
    """
    view, _, metric = name.partition(".")
    return f"{VIEWS.get(view, view)}.{metric}"


def _sent(run: Told) -> dict[str, Any] | None:
    try:
        content: dict[str, Any] = json.loads((run.folder / SENT).read_bytes())
    except (OSError, ValueError):
        return None
    return content


def _protection(settings: Sequence[Setting]) -> Iterator[Block]:
    lines: list[list[Cell]] = []
    bare = []
    for one in settings:
        run = one.runs[0]
        found = [part for part in _transforms(run) if part.get("name") in ("clip", "gaussian")]
        for part in found:
            told = ", ".join(f"{name}={value}" for name, value in part.items() if name != "name")
            named = [one.label] if len(settings) > 1 else []
            lines.append([*named, part["name"], told, run.options.get("sampler.name")])
        if private := {key.removeprefix("privacy."): v for key, v in run.options.items() if key.startswith("privacy.")}:
            told = ", ".join(f"{name}={value}" for name, value in private.items() if value not in ("", "null", "None"))
            found = [private]
            lines.append(
                [*([one.label] if len(settings) > 1 else []), "privacy", told, run.options.get("sampler.name")]
            )
        if not found:
            bare.append(one.label)
    if not lines:
        yield Words(
            "No update is clipped, no noise is added: what the server adds up are the clients' updates themselves."
        )
        return
    head = [*(["setting"] if len(settings) > 1 else []), "transform", "options", "sampler"]
    yield Table(head, lines, "Of each client's update clip bounds the norm; gaussian adds noise to their mean.")
    if any(line[-3] != "privacy" for line in lines):
        yield Words("Of clip and gaussian fedray does not account for the privacy that is spent.")
    if any(line[-3] == "privacy" for line in lines):
        yield Words(
            "privacy clips all that a client sends, and adds noise to its sum over those expected; with model=local "
            "each client adds noise to what it sends, with model=distributed a share of it, with unit=example to each "
            "step. What the noise does not protect is left out of this page: it stands in not_private.jsonl of the run "
            "folder."
        )
    if bare:
        yield Words(f"Updates of {listed(bare)} are not clipped, and have no noise added.")


def _transforms(run: Told) -> Iterator[dict[str, str]]:
    """Yield the options of each transform of a run's config."""
    numbers = {int(key.split(".")[1]) for key in run.options if key.startswith("transforms.")}
    for number in sorted(numbers):
        prefix = f"transforms.{number}."
        yield {key.removeprefix(prefix): value for key, value in run.options.items() if key.startswith(prefix)}
