"""A visit: facts are gathered here or on every node of a cluster, judged, and put into words."""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from rich.table import Table
from rich.text import Text

from fedray.core.errors import ConfigError
from fedray.doctor.checks import Finding, examine
from fedray.doctor.cluster import compare
from fedray.doctor.facts import MARKER, Facts, gather

_STYLES = {"ok": "green", "warning": "yellow", "error": "bold red"}

ALL = "cluster"
"""The name of all nodes together, where a finding is about how they fit."""


@dataclass(frozen=True)
class Report:
    """The findings of a visit.

    Args:
        findings: by node, those of all nodes together under ``cluster``.
    """

    findings: Mapping[str, list[Finding]]

    @property
    def errors(self) -> int:
        """The number of errors."""
        return sum(one.level == "error" for some in self.findings.values() for one in some)

    def table(self) -> Table:
        """Lay out a line for each finding and one for its advice; nodes that say the same share a line."""
        table = Table.grid(padding=(0, 2))
        table.add_column(no_wrap=True, min_width=7)
        table.add_column(no_wrap=True, min_width=10)
        table.add_column(overflow="fold")
        nodes: dict[Finding, list[str]] = {}
        for node, findings in self.findings.items():
            for finding in findings:
                nodes.setdefault(finding, []).append(node)
        several = len(self.findings) > 1
        machines = len([node for node in self.findings if node != ALL])
        for finding, names in nodes.items():
            where = ", ".join(names) if len(names) < machines or ALL in names else f"all {machines} nodes"
            text = f"{finding.text}  [{where}]" if several else finding.text
            advice = "" if finding.level == "ok" else f"\n-> {finding.advice}"
            table.add_row(Text(finding.level, _STYLES[finding.level]), Text(finding.subject), Text(text + advice))
        return table

    def to_json(self) -> dict[str, Any]:
        """Return the report ready for JSON."""
        return {node: [asdict(finding) for finding in findings] for node, findings in self.findings.items()}


def visit_here(run_dir: Path | None) -> Report:
    """Examine this machine.

    Args:
        run_dir: a folder to look at as well; made if it is not there.
    """
    with _marked(run_dir):
        facts = gather(_text(run_dir))
    return Report({facts.host: examine(facts)})


def visit_cluster(run_dir: Path | None) -> Report:
    """Examine every node of the cluster in ``RAY_ADDRESS``, and how they fit together.

    Raises:
        ConfigError: there is no such address, or the cluster cannot be joined.
    """
    from fedray.cluster.place.survey import Survey

    if "RAY_ADDRESS" not in os.environ:
        raise ConfigError("--cluster: set RAY_ADDRESS=HOST:PORT of the cluster to look at; no other one is joined")
    with _marked(run_dir) as marker, Survey() as survey:
        answers = survey.ask(partial(gather, _text(run_dir)))
        times = survey.ask_in_turn(time.time)
    facts: dict[str, Facts] = {node: answer.value for node, answer in answers.items() if answer.value is not None}
    findings = {node: examine(one) for node, one in facts.items()}
    for node, answer in answers.items():
        if answer.error is not None:
            advice = "see that fedray is installed there, and the node's Ray logs"
            findings[node] = [Finding("error", "node", f"gives no answer: {answer.error}", advice)]
    clocks = {
        node: (one.value - (one.asked + one.answered) / 2, (one.answered - one.asked) / 2)
        for node, one in times.items()
        if one.value is not None
    }
    return Report({**findings, ALL: compare(facts, clocks, marker)})


def _text(run_dir: Path | None) -> str | None:
    return None if run_dir is None else str(run_dir.resolve())


@contextmanager
def _marked(run_dir: Path | None) -> Iterator[str | None]:
    """Put a fresh marker into a run folder for the length of the context; what was not there before is gone after."""
    if run_dir is None:
        yield None
        return
    text, made = uuid.uuid4().hex, not run_dir.exists()
    # What cannot be written is found by those who look.
    with suppress(OSError):
        run_dir.mkdir(parents=True, exist_ok=True)
        (run_dir / MARKER).write_text(text)
    try:
        yield text
    finally:
        with suppress(OSError):
            (run_dir / MARKER).unlink(missing_ok=True)
            if made:
                run_dir.rmdir()
