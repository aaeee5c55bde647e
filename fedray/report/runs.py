"""A report on runs: what was run, how it went, for whom, at what cost, and with what."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

from fedray.core.errors import counted, listed
from fedray.core.one_answer import told
from fedray.core.record import OWN, VIEWS, more_is_better
from fedray.report.blocks import Block, Cell, Facts, Figures, Section, Table, Verbatim, Words, number
from fedray.report.charts import Chart
from fedray.report.clients import client_blocks
from fedray.report.confusion import confusion_blocks
from fedray.report.costs import cost_blocks
from fedray.report.intervals import interval_blocks
from fedray.report.privacy import privacy_blocks
from fedray.report.progress import MOST_CURVES, progress_charts
from fedray.report.target import Target, target_blocks
from fedray.report.told import Setting, Told, read_runs, settings_of
from fedray.rundir.each_client import SUPPORT
from fedray.sweep import Cell as SweepCell
from fedray.sweep import Outcome, Sweep, in_words, notes, tabulate

_MOST_LINES, _MOST_METRICS, _MOST_CELLS, _LONG = 100, 8, 60, 40
_FACTS = {
    "data.name": "data",
    "data": "data",
    "data.target": "target",
    "data.partition.name": "partition",
    "data.partition.alpha": "alpha",
    "task": "task",
    "model.name": "model",
    "model": "model",
    "algorithm.name": "algorithm",
    "algorithm": "algorithm",
    "aggregator.name": "aggregator",
    "server.name": "server optimizer",
    "sampler.name": "sampler",
    "local.epochs": "local epochs",
    "local.batch_size": "batch size",
    "local.optimizer.name": "optimizer",
    "local.optimizer.lr": "learning rate",
    "cluster.name": "cluster",
}


def report_sections(
    folders: Sequence[Path], now: float, target: Target | None = None
) -> tuple[str, str, list[Section]]:
    """Return the title, the lead and the sections of a report on runs.

    Args:
        folders: run folders, sweeps, or folders that hold run folders.
        now: seconds since the epoch.
        target: a metric and its value, to tell the rounds until it was reached.

    Raises:
        ConfigError: there is no run, or one cannot be read.
    """
    runs = read_runs(folders, now)
    settings = settings_of(runs)
    sections = [
        Section("What was run", list(_overview(settings))),
        Section("Results", list(_results(folders, settings))),
        Section("Over rounds", list(_progress(settings))),
        Section("Rounds to target", list(target_blocks(settings, target))),
        Section("Clients", list(client_blocks(settings))),
        Section("Intervals", list(interval_blocks(settings))),
        Section("Confusion", list(confusion_blocks(settings))),
        Section("Failures", list(_failures(runs))),
        Section("Privacy", list(privacy_blocks(settings))),
        Section("Cost", list(cost_blocks(settings))),
        Section("Environment", list(_environment(runs))),
        Section("Config", list(_config(settings))),
    ]
    names = list(dict.fromkeys(run.status.name for run in runs))
    title = names[0] if len(names) == 1 else Path(folders[0]).resolve().name if len(folders) == 1 else listed(names)
    return title, _lead(runs, settings), sections


def charts_in(sections: Sequence[Section]) -> list[Chart]:
    """Return the charts of a report, in order."""
    blocks = (block for section in sections for block in section.blocks)
    return [chart for block in blocks if isinstance(block, Figures) for chart in block.charts]


def _lead(runs: Sequence[Told], settings: Sequence[Setting]) -> str:
    states = Counter(run.status.state for run in runs)
    how = ", ".join(f"{count} {state}" if len(runs) > 1 else state for state, count in states.items())
    what = counted(len(runs), "run") + (f" of {len(settings)} settings" if len(settings) > 1 else "")
    done = max(run.status.round for run in runs)
    return f"{what}, {how}; {counted(done, 'round')}"


def _overview(settings: Sequence[Setting]) -> Iterator[Block]:
    runs = [run for one in settings for run in one.runs]
    facts = [(key, _by_setting(settings, partial(_counted, key=key))) for key in ("clients", "parameters")]
    facts.append(("rounds", _by_setting(settings, _rounds)))
    for key, words in _FACTS.items():
        if found := _by_setting(settings, partial(_option, key=key)):
            facts.append((words, found))
    if any("transforms.0.name" in run.options for run in runs):
        facts.append(("transforms", _joined(_parts(run, "transforms") or "none" for run in runs)))
    facts.append(("seeds", _joined(run.seed for run in runs if run.seed)))
    yield Facts([(name, text) for name, text in facts if text])
    if len(settings) > 1:
        yield from _differences(settings)
    for run in runs:
        if run.status.error:
            yield Words(f"{run.folder} failed: {run.status.error}", warns=True)
        elif run.status.state not in ("finished", "budget", "early_stopped"):
            yield Words(
                f"{run.folder} is {run.status.state}: its numbers are those up to round {run.status.round}", warns=True
            )
    for run in runs:
        tables = {section: run.table(section, SUPPORT) for section in ("test", *VIEWS.values())}
        two = any(len(table.get("classes", ())) == 2 for table in tables.values())
        weights = run.options.get("local.class_weights", run.options.get("class_weights"))
        if words := told(tables, threshold=two, weights=weights not in (None, "", "null")):
            yield Words(f"{run.folder}: {words}", warns=True)
    if len(settings) > MOST_CURVES:
        yield Words(
            f"Charts show the first {MOST_CURVES} of {len(settings)} settings; tables have all of them.", warns=True
        )


def _results(folders: Sequence[Path], settings: Sequence[Setting]) -> Iterator[Block]:
    sweep = Sweep.at(folders[0]) if len(folders) == 1 else None
    if sweep is not None:
        rows = sweep.rows()
    else:
        outcomes: list[Outcome] = []
        for one in settings:
            for run in one.runs:
                cell = SweepCell(len(outcomes), (("setting", one.label), ("seed", run.seed)))
                outcomes.append(Outcome(cell, run.final or None, run.status.state == "failed"))
        rows = tabulate(outcomes)
    head, lines = in_words(rows)
    seeds = max(len(one.runs) for one in settings)
    words = "Last values" + ("; mean over seeds ± the half width of its 95 % confidence interval" if seeds > 1 else "")
    if len(rows) == 1 and seeds == 1:
        yield from _best(settings[0].runs[0])
        return
    words = ". ".join([words, *notes(head, lines)])
    tables = list(_side_by_side(head, lines))
    yield from (Table(*one) for one in tables[:-1])
    yield Table(*tables[-1], f"{words}.")


def _side_by_side(head: Sequence[str], lines: Sequence[Sequence[str]]) -> Iterator[tuple[list[str], list[list[str]]]]:
    """Yield the table of results; of many metrics one for each section, as they have no room on a page."""
    first = head.index("runs") + 1
    sections = dict.fromkeys(name.partition(".")[0] for name in head[first:])
    groups = [[*sections]] if len(head) - first <= _MOST_METRICS else [[section] for section in sections]
    for group in groups:
        places = [place for place, name in enumerate(head) if place < first or name.partition(".")[0] in group]
        yield [head[place] for place in places], [[line[place] for place in places] for line in lines]


def _best(run: Told) -> Iterator[Block]:
    """Yield the numbers of one run: the last of each metric, and the best with its round."""
    lines: list[list[Cell]] = []
    for name, value in run.final.items():
        section, _, metric = name.partition(".")
        if section == OWN:
            continue
        series = run.series(section, metric, "mean")
        best = (max if more_is_better(metric) else min)(series, key=series.__getitem__) if series else None
        cells: list[Cell] = [name, "nan" if value is None else number(value)]
        lines.append([*cells, "" if best is None else number(series[best]), best])
    if lines:
        caption = "".join(f"{words}." for words in notes([str(line[0]) for line in lines], []))
        yield Table(["metric", "last", "best", "in round"], lines, caption)


def _progress(settings: Sequence[Setting]) -> Iterator[Block]:
    if charts := [chart for chart in progress_charts(settings) if chart.curves]:
        yield Figures(charts)
    else:
        yield Words("No round is recorded yet.")


def _failures(runs: Sequence[Told]) -> Iterator[Block]:
    seen: dict[tuple[str, str, str], list[tuple[int, str]]] = {}
    for run in runs:
        for record in run.records:
            for failure in record.get("failures", ()):
                key = str(run.folder), str(failure["client"]), str(failure["stage"])
                seen.setdefault(key, []).append((int(record["round"]), str(failure["error"])))
    dropped = sum(int(record.get("clients", {}).get("dropped", 0)) for run in runs for record in run.records)
    retries = sum(run.status.totals.retries for run in runs)
    attackers = {one for run in runs for record in run.records for one in record.get("attackers", ())}
    facts = [("clients that gave no update", f"{sum(map(len, seen.values())):,} times")]
    facts += [("dropped out (failures.dropout)", f"{dropped:,} times")] if dropped else []
    facts += [("blocks done again, as a worker was lost", f"{retries:,}")] if retries else []
    forged = f"{len(attackers)}: {listed(sorted(attackers))}"
    facts += [("clients whose updates were forged", forged)] if attackers else []
    yield Facts(facts)
    if not seen:
        return
    lines: list[list[Cell]] = [
        [
            *([folder] if len(runs) > 1 else []),
            client,
            stage,
            len(found),
            found[0][0],
            found[-1][0],
            found[-1][1].splitlines()[0][:300] if found[-1][1] else "",
        ]
        for (folder, client, stage), found in sorted(seen.items(), key=lambda item: -len(item[1]))[:_MOST_LINES]
    ]
    head = [*(["run"] if len(runs) > 1 else []), "client", "stage", "times", "first round", "last round", "last error"]
    more = f" The {_MOST_LINES} most frequent of {len(seen)}." if len(seen) > _MOST_LINES else ""
    yield Table(head, lines, f"Clients that gave no update, by stage.{more}")


def _environment(runs: Sequence[Told]) -> Iterator[Block]:
    facts: dict[str, list[str]] = {}
    for run in runs:
        told = {**run.summary.get("versions", {}), **run.summary.get("machine", {})}
        told["workers"] = run.status.workers
        told["hardware of the workers"] = listed(run.status.totals.hardware, none="")
        told["stacking"] = run.summary.get("stacking", "")
        for name, value in told.items():
            if value not in ("", None) and str(value) not in facts.setdefault(str(name), []):
                facts[str(name)].append(str(value))
    yield Facts([(name, "; ".join(values)) for name, values in facts.items() if values])
    if differing := [name for name in ("torch", "cpu", "gpu", "fedray") if len(facts.get(name, ())) > 1]:
        yield Words(f"The runs differ in {listed(differing)}: their bits may differ by that alone.", warns=True)


def _differences(settings: Sequence[Setting]) -> Iterator[Block]:
    """Yield the table of what settings differ in, settings below each other or where that is narrower keys."""
    keys = list(dict.fromkeys(key for one in settings for key in one.differs))
    lines: list[list[Cell]]
    if len(keys) <= len(settings):
        head = ["setting", *keys]
        lines = [[one.label, *(one.differs.get(key, "") for key in keys)] for one in settings]
    else:
        head = ["key", *(one.label for one in settings)]
        lines = [[key, *(one.differs.get(key, "") for one in settings)] for key in keys]
    long = len(lines) * len(head) > _MOST_CELLS or any(len(str(cell)) > _LONG for line in lines for cell in line)
    folded = f"The {counted(len(keys), 'key')} of the config in which the settings differ" if long else ""
    yield Table(head, lines, "" if long else "Keys of the config in which the settings differ.", folded)


def _config(settings: Sequence[Setting]) -> Iterator[Block]:
    shown = [one.runs[0] for one in settings[:MOST_CURVES]]
    for run in shown:
        yield Verbatim(f"config of {run.folder}", run.text)
    several = len(settings) > 1
    folders = [
        [*([one.label] if several else []), str(run.folder), run.seed, run.status.state]
        for one in settings
        for run in one.runs
    ]
    head = [*(["setting"] if several else []), "run folder", "seed", "state"]
    yield Table(head, folders, folded="Run folders" if len(folders) > 1 else "Run folder")


def _parts(run: Told, section: str) -> str:
    names = (run.options.get(f"{section}.{number}.name") for number in range(20))
    return ", ".join(name for name in names if name)


def _counted(run: Told, key: str) -> str:
    found = run.summary.get(key)
    return f"{found:,}" if isinstance(found, int) else ""


def _rounds(run: Told) -> str:
    return f"{run.status.round:,} of {run.status.rounds or '?'}"


def _option(run: Told, key: str) -> str:
    found = run.options.get(key)
    return "" if found in (None, "null") else str(found)


def _by_setting(settings: Sequence[Setting], fact: Callable[[Told], str]) -> str:
    """Return what is so of the runs; where settings differ in it, with those of each, unless their labels say it."""
    found: dict[str, list[str]] = {}
    for one in settings:
        for value in dict.fromkeys(filter(None, map(fact, one.runs))):
            found.setdefault(value, []).append(one.label)
    if len(found) < 2 or all(value in label for value, labels in found.items() for label in labels):
        return _joined(iter(found))
    if len(settings) > MOST_CURVES:
        return "; ".join(f"{value} ({counted(len(labels), 'setting')})" for value, labels in found.items())
    return "; ".join(f"{value} ({listed(labels)})" for value, labels in found.items())


def _joined(values: Iterator[str]) -> str:
    return listed(dict.fromkeys(values), none="")
