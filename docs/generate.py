"""Write the pages that the code dictates: algorithms, parts, keys of the config, commands.

``python docs/generate.py`` rewrites them; a test says when they are out of date.  What a registry or a class knows is
written there alone: this file decides how it looks on a page.
"""

from __future__ import annotations

import dataclasses
import inspect
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import click
import typer
import yaml

DOCS = Path(__file__).resolve().parent
sys.path.insert(0, str(DOCS.parent))  # the table of the algorithms stands with their laws

from fedray import parts  # noqa: E402
from fedray.cli.app import app  # noqa: E402
from fedray.config.sections import SECTIONS, ExperimentSchema, ModelSection, SlurmSection, TopSection  # noqa: E402
from fedray.core.record import RoundRecord  # noqa: E402
from fedray.experiment.status import Driver, Status  # noqa: E402
from fedray.privacy import Privacy  # noqa: E402
from fedray.run.budget import Totals  # noqa: E402
from fedray.run.summary import KEYS as SUMMARY_KEYS  # noqa: E402
from fedray.slurm.commands import SlurmJob  # noqa: E402
from tests.laws.table import Row, rows  # noqa: E402

NOTE = "<!-- Written by docs/generate.py: change what it reads, and run it. -->\n"

REGISTRIES = {
    "Transforms": ("transforms", "what happens to an update before it is summed", parts.transforms),
    "Aggregators": ("aggregator", "how the updates of a cohort become one", parts.aggregators),
    "Server optimizers": ("server", "how the mean update moves the global model", parts.server_optimizers),
    "Attacks": ("attack", "what Byzantine clients send", parts.attacks),
    "Samplers": ("sampler", "who takes part in a round", parts.samplers),
    "Data": ("data", "what the clients hold", parts.data_sources),
    "Partitioners": ("data.partition", "how one data set becomes many clients", parts.partitioners),
    "Augmentations": ("data.augment", "what is done to a batch on the device", parts.augmentations),
    "Models": ("model", "what is trained", parts.models),
    "Tasks": ("task", "what the output of the model says of an example", parts.tasks),
    "Losses": ("local.loss", "what training minimises", parts.losses),
    "Metrics": ("metrics", "what evaluations measure", parts.metrics),
    "Optimizers": ("local.optimizer", "how a client steps", parts.optimizers),
    "Schedules": ("local.lr_schedule", "the learning rate by round", parts.lr_schedules),
    "Trackers": ("tracking", "where records go", parts.trackers),
    "Callbacks": ("callbacks", "what is called after each round, and may end the run", parts.callbacks),
}
"""Every registry but that of the algorithms: its key in a config, and the reason for which it is there."""

BAR, ESCAPED = r"(?<!\\)[|]", r"\\|"
"""A bar would end a cell."""

ABSENT = {"server": "the algorithm's own", "attack": "nobody attacks"}
"""The words for parts that are None by default, where it is not the data that decide."""

OF_ALGORITHMS = (
    "Each is chosen by `algorithm: {name: ...}` or as a class of `fedray`, runs in stacks of clients, and combines "
    "with every transform, aggregator, server optimizer and sampler that fits it. In the equations `x` is the global "
    "model, `w` a client's, `d = w - x` its update, `g` the gradient on a batch, `p` a client's share of the weights,"
    " `S` the cohort and `N` the number of all clients. `P` is the number of all entries of the model, `D` of those "
    "that are trained."
)
OF_PARTS = (
    "Each is chosen by its name in a config, where its options stand beside the name, or made in Python and handed "
    "over. In the place of a name, `my_module:name` takes your own from the working directory ([write your "
    "own](write-your-own.md)). `fedray list PARTS` prints these tables."
)
OF_CONFIGS = (
    "A config is one YAML file; `base: [other.yaml]` lays it over others, and any key can be changed on the command "
    "line: `fedray run study.yaml local.epochs=4`. `fedray config study.yaml` prints what comes out. Keys that "
    "nobody knows are refused. `bool` is `true` or `false`, also as `0`, `1` or a word that OmegaConf reads so; whole "
    "numbers have 64 bits, but that a `seed` may be any. From Python the same options are arguments of "
    "`fedray.TrainArgs`, `fedray.Cluster` and of the classes of the parts."
)
OF_FILES = (
    "What a run folder and `fedray status RUN_DIR --json` tell programs. Keys may be added; none changes its meaning. "
    "None is null there, and so is a number that is not finite. [Results](results.md) says what each file is for."
)
KEYED = (
    ("`totals`", Totals, "Of `summary.json` and of the status."),
    ("`metrics.jsonl`", RoundRecord, "A line a round; what is empty is left out."),
    ("`fedray status RUN_DIR --json`", Status, "By the files of a run folder alone, before, while and after it runs."),
    ("`driver` of the status", Driver, "The process that drives the rounds, or did so last."),
    ("`slurm` of the status", SlurmJob, "The job that drives them."),
)
"""The sections with a table of their keys besides the summary: title, class, and a sentence."""
OF_COMMANDS = (
    "Each explains itself with `--help`. Exit status: 0 done, 1 the run failed, 2 config or data is wrong, 75 stopped"
    " on request and can go on, 130 stopped before the run began, 141 of what only prints, where nobody reads on. A run"
    " goes on, and ends as it would have ended, where nobody reads its output."
)
"""The first lines of the pages."""


def main() -> None:
    """Write all of them."""
    for name, text in pages().items():
        (DOCS / name).write_text(text)


def pages() -> dict[str, str]:
    """Return the text of each page by its file name."""
    return {
        "algorithms.md": algorithms_page(),
        "parts.md": parts_page(),
        "config.md": config_page(),
        "commands.md": commands_page(),
        "files.md": files_page(),
    }


# Algorithms


def algorithms_page() -> str:
    """Return the page on algorithms, in the order of ``algorithms.yaml``."""
    groups = yaml.safe_load((DOCS / "algorithms.yaml").read_text())
    known = {row.name: row for row in rows()}
    told = [name for group in groups for name in group["algorithms"]]
    if sorted(told) != sorted(known):
        raise SystemExit(f"docs/algorithms.yaml: {sorted(set(told) ^ set(known))} stand there or in the registry alone")
    text = [
        "# Algorithms\n",
        f"{len(known)} algorithms. {OF_ALGORITHMS}\n",
        overview(groups, known),
    ]
    for group in groups:
        text += [f"## {group['title']}\n", *([f"{group['text']}\n"] if group["text"] else [])]
        text += [algorithm(known[name], entry) for name, entry in group["algorithms"].items()]
    return page(text)


def overview(groups: list[dict[str, Any]], known: Mapping[str, Row]) -> str:
    """Return one table of all."""
    lines = []
    for group in groups:
        for name, entry in group["algorithms"].items():
            row = known[name]
            kind = parts.algorithms[name].__name__
            first = re.split(r"[.;:] |\.$", entry["when"])[0]
            lines.append((f"[{kind}](#{kind.lower()})", travels(row), keeps(row), first))
    return table(("algorithm", "a client sends", "a client keeps", "when"), lines)


def algorithm(row: Row, entry: Mapping[str, str]) -> str:
    """Return what is said of one."""
    kind = parts.algorithms[row.name]
    about, options = documentation(kind)
    return "\n".join(
        [
            f"### {kind.__name__}\n",
            f"`algorithm: {{name: {row.name}}}`, `fedray.{kind.__name__}`\n",
            f"$$\n{entry['equation']}\n$$\n",
            f"{about}\n",
            f"**When.** {entry['when']}\n",
            f"**Travels.** Up: {travels(row)}. **Kept by each client.** {keeps(row)}.\n",
            options_of(kind, options),
        ]
    )


def travels(row: Row) -> str:
    """Return what a client sends."""
    if "personal region" in row.state:
        vector = "the shared part"
    else:
        vector = "" if row.state.startswith("personal P") else "`D`"
    beside = [*named(row.sends), *(word.removeprefix("sent.") for word in named(row.state) if word.startswith("sent."))]
    return ", ".join(filter(None, [vector, *beside])) or "nothing"


def keeps(row: Row) -> str:
    """Return what stays with a client from round to round."""
    if "personal region" in row.state:
        return "its own part of the model"
    return ", ".join(word for word in named(row.state) if not word.startswith("sent.")) or "nothing"


def named(widths: str) -> list[str]:
    """Return vectors with their widths: as letters, or a single number; the others depend on model and data."""
    pairs = [word.split() for word in widths.split(", ") if word]
    return [f"{name} `{width}`" if width in ("1", "D", "P") else name for name, width in pairs]


# Other parts


def parts_page() -> str:
    """Return the page on all other parts."""
    text = [
        "# Parts\n",
        f"{OF_PARTS}\n",
    ]
    for title, (key, why, registry) in REGISTRIES.items():
        text.append(f"## {title}\n\nUnder `{key}`: {why}.\n")
        for name in registry:
            kind = registry[name]
            about, options = documentation(kind)
            text.append(
                f"### {title[:-1] if title != 'Data' else 'data'}: {name}\n\n{about}\n\n{options_of(kind, options)}"
            )
    return page(text)


# The config


def config_page() -> str:
    """Return the page on the keys of a config."""
    about = documentation(TopSection)[1]
    tops = [*dataclasses.fields(TopSection)]
    text = [
        "# Every key of a config\n",
        f"{OF_CONFIGS}\n",
        "## At the top\n",
        rows_of(TopSection, [(field.name, about.get(field.name, "")) for field in tops], ""),
        "## Parts\n",
        "Keys that choose a part; the options of each stand in [algorithms](algorithms.md) and [parts](parts.md).\n",
        table(("key", "chooses", "default"), [*part_keys()]),
    ]
    for name, section in SECTIONS.items():
        title, options = documentation(section)
        text += [f"## `{name}`\n", f"{sentence(title)}\n", rows_of(section, [*options.items()], f"{name}.")]
        if name == "cluster":
            title, more = documentation(SlurmSection)
            text += ["### `cluster: {name: slurm}`\n", f"{sentence(title)}\n"]
            text.append(rows_of(SlurmSection, [*more.items()], "cluster."))
    title, options = documentation(Privacy)
    text += ["## `privacy`\n", f"{sentence(title)} See [privacy](privacy.md).\n"]
    text.append(rows_of(Privacy, [*options.items()], "privacy."))
    title, options = documentation(ModelSection)
    text += ["## `model`, for every model\n", f"{title}\n", rows_of(ModelSection, [*options.items()], "model.")]
    return page(text)


def part_keys() -> Iterator[tuple[str, str, str]]:
    """Yield the keys of the parts at the top, what they choose, and what is taken if they are left out."""
    reasons = {key: why for key, why, _ in REGISTRIES.values()} | {"algorithm": "what clients and server do in a round"}
    for field in dataclasses.fields(ExperimentSchema):
        if field.name in reasons:
            yield f"`{field.name}`", reasons[field.name], default_of(field) or ABSENT.get(field.name, "by the data")


def sentence(title: str) -> str:
    """Return a section's documentation without the key that it begins with."""
    about = re.sub(r"^`[^`]*`: ", "", title)
    return about[0].upper() + about[1:]


# Commands


def commands_page() -> str:
    """Return the page on the commands."""
    group = typer.main.get_command(app)
    assert isinstance(group, click.Group) or hasattr(group, "commands")
    text = [
        "# Commands\n",
        f"{OF_COMMANDS}\n",
    ]
    for name, command in group.commands.items():
        if command.hidden:
            continue
        context = click.Context(command, info_name=f"fedray {name}")
        usage = " ".join(command.collect_usage_pieces(context))
        text += [f"## fedray {name}\n", f"```text\nfedray {name} {usage}\n```\n", f"{prose(command.help or '')}\n"]
        lines = [
            (" ".join(f"`{word}`" for word in words(param)), prose(getattr(param, "help", None) or ""), shown(param))
            for param in command.params
            if not getattr(param, "hidden", False) and param.name != "help"
        ]
        text.append(table(("word", "is", "default"), lines))
    return page(text)


def words(param: Any) -> list[str]:
    """Return the words by which an argument or option is given."""
    if param.param_type_name == "argument":
        return [param.make_metavar(click.Context(click.Command("x")))]
    return [*param.opts, *param.secondary_opts]


def shown(param: Any) -> str:
    """Return the default of an argument or option, if it is one to speak of."""
    default = param.default
    return "" if default is None or default in (False, (), []) or callable(default) else f"`{default}`"


# Files


def files_page() -> str:
    """Return the page on the keys of what programs read: the summary, the records, the status."""
    text = [
        "# Keys of files\n",
        f"{OF_FILES}\n",
        "## `summary.json`\n",
        "Is written as a driver ends, however it does.\n",
        table(("key", "says"), [(f"`{key}`", prose(meaning)) for key, meaning in SUMMARY_KEYS.items()]),
    ]
    for title, kind, about in KEYED:
        meanings = documentation(kind)[1]
        keys = [(f"`{field.name}`", f"`{type_of(field)}`", meanings[field.name]) for field in dataclasses.fields(kind)]
        text += [f"## {title}\n", f"{about}\n", table(("key", "type", "says"), keys)]
    return page(text)


# Words and tables


def documentation(kind: Any) -> tuple[str, dict[str, str]]:
    """Return what a part says of itself, without examples, and of each of its options."""
    text = inspect.getdoc(kind) or ""
    about, _, listed = text.partition("\nArgs:\n")
    about = re.sub(r"^>>> .*?(?=^$|\Z)", "", about, flags=re.MULTILINE | re.DOTALL)
    options: dict[str, str] = {}
    for base in reversed(inspect.getmro(kind)[1:] if inspect.isclass(kind) else ()):
        if dataclasses.is_dataclass(base):
            options |= documentation(base)[1]
    listed = re.split(r"^\w+:$", listed, flags=re.MULTILINE)[0]
    for line in re.split(r"^    (?=\S)", listed, flags=re.MULTILINE)[1:]:
        name, _, meaning = line.partition(":")
        options[name.strip()] = prose(meaning)
    named = {field.name for field in dataclasses.fields(kind)} if dataclasses.is_dataclass(kind) else set(options)
    return prose(about), {name: meaning for name, meaning in options.items() if name in named}


def prose(text: str) -> str:
    """Return a docstring's text as Markdown: one line a paragraph, one pair of backticks around code."""
    text = re.sub(r":\w+:`~?([^`]*)`", r"``\1``", text)
    text = text.replace("``", "`")
    paragraphs = [" ".join(part.split()) for part in re.split(r"\n\s*\n", inspect.cleandoc(text))]
    return "\n\n".join(escaped(part) for part in paragraphs if part)


def escaped(text: str) -> str:
    """Return text in which, outside of code, nothing is taken for markup."""
    return "".join(
        piece if piece.startswith("`") else re.sub(r"([*_$<|\[\]])", r"\\\1", piece)
        for piece in re.split(r"(`[^`]*`)", text)
    )


def options_of(kind: type, about: Mapping[str, str]) -> str:
    """Return the table of a part's options; nothing if it has none."""
    if not dataclasses.is_dataclass(kind):
        return ""
    named = [field.name for field in dataclasses.fields(kind) if field.init]
    return rows_of(kind, [(name, about.get(name, "")) for name in named], "")


def rows_of(kind: type, options: Iterable[tuple[str, str]], prefix: str) -> str:
    """Return the table of options with type and default."""
    fields = {field.name: field for field in dataclasses.fields(kind)}
    return table(
        ("option", "type", "default", "meaning"),
        [
            (f"`{prefix}{name}`", f"`{type_of(fields[name])}`", default_of(fields[name]), meaning)
            for name, meaning in options
            if name in fields
        ],
    )


def type_of(field: dataclasses.Field[Any]) -> str:
    """Return the annotation of an option, as it is written."""
    return str(field.type).replace("Any", "any")


def default_of(field: dataclasses.Field[Any]) -> str:
    """Return the default of an option, as YAML has it."""
    if field.default is not dataclasses.MISSING:
        value = field.default
    elif field.default_factory is not dataclasses.MISSING:
        value = field.default_factory()
    else:
        return "required"
    if value is None:
        return ""
    return f"`{yaml.safe_dump(value, default_flow_style=True, width=1000).strip().removesuffix('...').strip()}`"


def table(head: tuple[str, ...], lines: Iterable[tuple[str, ...]]) -> str:
    """Return a table in Markdown; nothing if it has no lines."""
    body = [*lines]
    if not body:
        return ""
    cells = [head, ("---",) * len(head), *body]
    return "".join(f"| {' | '.join(re.sub(BAR, ESCAPED, cell) for cell in line)} |\n" for line in cells)


def page(text: Iterable[str]) -> str:
    """Return a page from its pieces."""
    return re.sub(r"\n{3,}", "\n\n", "\n".join([NOTE, *text])).rstrip() + "\n"


if __name__ == "__main__":
    main()
