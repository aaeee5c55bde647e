"""From ``key=value,value`` to cells: every combination of values once, in order, each with a name."""

from __future__ import annotations

import hashlib
import itertools
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields

from fedray.config.sections import ExperimentSchema
from fedray.core.errors import ConfigError

SEED = "seed"
_CLOSING = {"[": "]", "{": "}"}
_STRING = re.compile(r"'(?:[^']|'')*'" + r'|"(?:[^"\\]|\\.)*"')
_LONGEST_NAME = 120
_UNSAFE = re.compile(r"[^A-Za-z0-9._=,+-]+")
_PART = re.compile(r"\{name: [\w.+-]+(, [A-Za-z_]\w*: [\w.+-]+)+\}", re.ASCII)
_KEYS = frozenset(field.name for field in fields(ExperimentSchema))


@dataclass(frozen=True)
class Cell:
    """One run of a sweep.

    Args:
        number: its place in the sweep, from 0.
        settings: (key, value as YAML text), in the order given.
        named: the name of its folder; None: all of its settings.
    """

    number: int
    settings: tuple[tuple[str, str], ...]
    named: str | None = None

    @property
    def overrides(self) -> list[str]:
        """``key=value`` strings for the config."""
        return [f"{key}={value}" for key, value in self.settings]

    @property
    def setting(self) -> tuple[tuple[str, str], ...]:
        """The values of a cell that distinguish it apart from its seed."""
        return tuple((key, value) for key, value in self.settings if key != SEED)

    @property
    def name(self) -> str:
        """The name of its folder.

        >>> Cell(0, (("seed", "1"), ("algorithm.mu", "0.01"))).name
        'seed=1,algorithm.mu=0.01'
        """
        return name_of(self.settings) if self.named is None else self.named


def name_of(settings: Sequence[tuple[str, str]]) -> str:
    """Return a folder name that no other settings have; a digest stands in for what a path cannot hold.

    >>> name_of([("algorithm", "{name: fedadam, server_lr: 0.03}"), ("seed", "1")])
    'algorithm=fedadam,server_lr=0.03,seed=1'
    >>> name_of([("rounds", "5"), ("data.path", "/data")])
    'rounds=5,data.path=-data-503be61b'
    """
    parts = [part_of(value) for _, value in settings]
    # An option that is called as a key of a config is could otherwise read as the next setting.
    if any(part is not None and part[1].keys() & _KEYS for part in parts):
        return digested(settings)
    pairs = [
        (f"{key}={value}", value) if part is None else (",".join([f"{key}={part[0]}", *_said(part[1])]), "")
        for (key, value), part in zip(settings, parts, strict=True)
    ]
    whole = ",".join(words for words, _ in pairs)
    # Nor may a value with a comma of its own.
    plain = whole == _UNSAFE.sub("-", whole)[:_LONGEST_NAME] and not any("," in value for _, value in pairs)
    return whole if plain else digested(settings)


def digested(settings: Sequence[tuple[str, str]]) -> str:
    """Return the folder name of settings that cannot stand in one as they are, which earlier versions gave to parts.

    >>> digested([("algorithm", "{name: fedadam, server_lr: 0.03}")])
    'algorithm=-name-fedadam,-server_lr-0.03--801d906b'
    """
    whole = ",".join(f"{key}={value}" for key, value in settings)
    safe = _UNSAFE.sub("-", whole)[:_LONGEST_NAME]
    plain = safe == whole and not any("," in value for _, value in settings)
    return safe if plain else f"{safe}-{hashlib.sha256(repr(tuple(settings)).encode()).hexdigest()[:8]}"


def part_of(value: str) -> tuple[str, dict[str, str]] | None:
    """Return name and options of a part that is written on one line as it always is; None: the value is another one.

    >>> part_of("{name: fedadam, server_lr: 0.03}"), part_of("fedadam")
    (('fedadam', {'server_lr': '0.03'}), None)
    """
    if not _PART.fullmatch(value):
        return None
    pairs = [pair.partition(": ")[::2] for pair in value[1:-1].split(", ")]
    said = dict(pairs)
    return (said.pop("name"), said) if len(said) == len(pairs) else None


def readable(value: str) -> str:
    """Write a value for people.

    >>> readable("{name: fedadam, server_lr: 0.03}"), readable("[4, 3]")
    ('fedadam, server_lr=0.03', '[4, 3]')
    """
    part = part_of(value)
    return value if part is None else ", ".join([part[0], *_said(part[1])])


def _said(options: Mapping[str, str]) -> list[str]:
    return [f"{name}={value}" for name, value in options.items()]


def grid(axes: Sequence[str]) -> list[Cell]:
    """Make the cells of a sweep, the last axis changing fastest.

    >>> [cell.name for cell in grid(["seed=1,2", "local.epochs=1,5"])]
    ['seed=1,local.epochs=1', 'seed=1,local.epochs=5', 'seed=2,local.epochs=1', 'seed=2,local.epochs=5']

    Args:
        axes: ``key=value,value...``; values are YAML, commas inside brackets, braces and quotes belong to a value.

    Raises:
        ConfigError: no axis, one that is not ``key=values``, a key or value that is there twice, ``run.dir``.
    """
    values = axes_of(axes)
    combinations = itertools.product(*values.values())
    return [Cell(number, tuple(zip(values, chosen, strict=True))) for number, chosen in enumerate(combinations)]


def combined(
    keys: Sequence[str], settings: Sequence[tuple[tuple[str, str], ...]], seeds: Sequence[str] | None
) -> tuple[Cell, ...]:
    """Make the cells of some settings, each with every seed, the seed changing fastest.

    Args:
        keys: the order of keys in a cell.
        settings: (key, value) pairs without ``seed``.
        seeds: None: that of the config.
    """
    values = [{**dict(setting), **seed} for setting in settings for seed in ([{SEED: s} for s in seeds or ()] or [{}])]
    return tuple(Cell(number, tuple((key, one[key]) for key in keys)) for number, one in enumerate(values))


def axes_of(axes: Sequence[str]) -> dict[str, list[str]]:
    """Return the values of each key.

    Raises:
        ConfigError: as :func:`grid`.
    """
    values: dict[str, list[str]] = {}
    for axis in axes:
        key, equals, text = axis.partition("=")
        if not equals or not key:
            raise ConfigError(f"{axis!r}: expected key=value,value... as in seed=1,2,3")
        if key in values:
            raise ConfigError(f"{key}: given twice; write all its values behind one {key}=")
        if key == "run.dir":
            raise ConfigError("run.dir: each run of a sweep has its own folder; name the folder of them all with --dir")
        values[key] = split_values(text, key)
    if not values:
        raise ConfigError("a sweep needs at least one key=value,value... as in seed=1,2,3")
    return values


def split_values(text: str, key: str = "value") -> list[str]:
    """Split a text of values at the commas, as YAML reads them.

    >>> split_values("1, [2, 3], {name: sgd, lr: 0.1}, 'a, b'")
    ['1', '[2, 3]', '{name: sgd, lr: 0.1}', "'a, b'"]

    Args:
        text: the values.
        key: the key of the values, for messages.

    Raises:
        ConfigError: an empty value, a value given twice, brackets or quotes that do not close.
    """
    cuts, open_brackets, position = [-1], [], 0
    fresh = True  # a quote opens a string only where a value begins
    while position < len(text):
        letter = text[position]
        if fresh and letter in "'\"":
            string = _STRING.match(text, position)
            if string is None:
                raise ConfigError(f"{key}={text}: {letter} is missing")
            position = string.end() - 1
        elif letter in _CLOSING:
            open_brackets.append(_CLOSING[letter])
        elif open_brackets and letter == open_brackets[-1]:
            open_brackets.pop()
        elif letter == "," and not open_brackets:
            cuts.append(position)
        fresh = letter in ",[{:" or (fresh and letter == " ")
        position += 1
    if open_brackets:
        raise ConfigError(f"{key}={text}: {open_brackets[-1]} is missing")
    values = [text[start + 1 : end].strip() for start, end in itertools.pairwise([*cuts, len(text)])]
    if "" in values:
        raise ConfigError(f"{key}={text}: a value is missing; values are separated by single commas, as in {key}=1,2")
    if twice := sorted({value for value in values if values.count(value) > 1}):
        raise ConfigError(f"{key}={text}: {twice[0]} is there twice")
    return values
