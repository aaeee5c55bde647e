"""Judgements of several machines together, each a pure function of what all of them said."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from fedray.core.errors import listed
from fedray.doctor.checks import Finding, Level
from fedray.doctor.facts import Facts

SKEW_WARNING, SKEW_ERROR = 1.0, 30.0


def compare(facts: Mapping[str, Facts], clocks: Mapping[str, tuple[float, float]], marker: str | None) -> list[Finding]:
    """Find what does not fit together between machines.

    Args:
        facts: by node.
        clocks: by node: seconds its clock is ahead of the asking machine's, and how sure that is, plus or minus.
        marker: the text written into the run folder for every node to read; None without a run folder.
    """
    found = [_same("python", {node: one.python for node, one in facts.items()}, "error", _INSTALL)]
    for name in dict.fromkeys(name for one in facts.values() for name in one.packages):
        versions = {node: one.packages.get(name) for node, one in facts.items()}
        found.append(_same(name, versions, "error", _INSTALL))
    found += [
        _same("cuda", {node: one.cuda for node, one in facts.items()}, "error", _INSTALL),
        _same("nccl", {node: one.nccl for node, one in facts.items()}, "error", _INSTALL),
        _same("driver", {node: one.driver for node, one in facts.items()}, "warning", _DRIVERS),
        _same("cpu", {node: one.cpu for node, one in facts.items()}, "warning", _BITS),
        _same("gpus", {node: ", ".join(sorted(set(one.gpus))) for node, one in facts.items()}, "warning", _BITS),
    ]
    return [*found, *_clocks(clocks), *_shared(facts, marker)]


_INSTALL = "use one environment on all nodes: a shared one, or a container"
_DRIVERS = "see that each of them fits torch, in the lines of the nodes"
_BITS = "the bits of a result may differ with the kind of machine: ask for equal nodes (a constraint, a label)"


def _same(subject: str, values: Mapping[str, str | None], level: Level, advice: str) -> Finding:
    nodes: dict[str, list[str]] = {}
    for node, value in values.items():
        nodes.setdefault(value or "none", []).append(node)
    if len(nodes) <= 1:
        return Finding("ok", subject, f"the same on all nodes: {next(iter(nodes), 'none')}")
    told = listed((f"{value} on {_some(names)}" for value, names in nodes.items()), separator="; ")
    return Finding(level, subject, f"not the same: {told}", advice)


def _clocks(clocks: Mapping[str, tuple[float, float]]) -> Iterator[Finding]:
    if not clocks:
        return
    # Only what the time of the answer cannot explain counts as skew.
    skew = {node: max(0.0, abs(ahead) - unsure) for node, (ahead, unsure) in clocks.items()}
    worst = max(skew, key=lambda node: skew[node])
    level: Level = "error" if skew[worst] >= SKEW_ERROR else "warning" if skew[worst] >= SKEW_WARNING else "ok"
    if level == "ok":
        yield Finding("ok", "clocks", f"less than {SKEW_WARNING:g} s apart")
    else:
        advice = "set the clocks by NTP: ages in status and logs are wrong, tokens and munge may be refused"
        yield Finding(level, "clocks", f"{worst} is {skew[worst]:.1f} s from here", advice)


def _shared(facts: Mapping[str, Facts], marker: str | None) -> Iterator[Finding]:
    if marker is None:
        return
    blind = [node for node, one in facts.items() if one.run_dir is None or one.run_dir.marker != marker]
    if len(blind) == len(facts):
        advice = "name a folder of a file system that all nodes share"
        yield Finding("error", "run folder", "no node sees what this machine writes there", advice)
    elif blind:
        advice = "name a folder of a file system that all nodes share: the driver may be on any of them"
        yield Finding("warning", "run folder", f"not the same folder on {_some(blind)}", advice)
    else:
        yield Finding("ok", "run folder", "the same on all nodes")


def _some(names: list[str]) -> str:
    return listed(names)
