"""Layering of config files: defaults < ``base:`` files < the file < ``key=value`` on the command line."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import yaml
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from fedray.config.beside import check_places
from fedray.config.binding import bind, check_digits, nearest, options_of
from fedray.config.sections import SECTIONS, ClusterSection, ExperimentSchema, SlurmSection
from fedray.config.signs import as_yaml, comment_in, misread
from fedray.core.errors import ConfigError, quoted, short
from fedray.rundir.configs import trackers_in
from fedray.rundir.names import PYTHON


def overlay(under: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Lay ``over`` on top of ``under``, section by section.

    A section that names another part replaces the one below, whose options mean nothing to it; lists are replaced.

    >>> overlay({"algorithm": {"name": "fedprox", "mu": 1}, "rounds": 5}, {"algorithm": {"name": "fedavg"}})
    {'algorithm': {'name': 'fedavg'}, 'rounds': 5}
    """
    merged = dict(under)
    for key, value in over.items():
        below = merged.get(key)
        if isinstance(below, str) and isinstance(value, Mapping) and "name" not in value:
            below = {"name": below}
        if isinstance(below, Mapping) and isinstance(value, Mapping):
            same = "name" not in value or value["name"] == below.get("name", value["name"])
            merged[key] = overlay(below, value) if same else dict(value)
        elif isinstance(below, Mapping) and isinstance(value, str) and below.get("name") == value:
            continue
        else:
            merged[key] = value
    return merged


_TABLES = (".csv", ".tsv", ".xlsx", ".xls", ".parquet", ".arrow", ".feather", ".csv.gz", ".tsv.gz")

Layers = tuple[dict[str, Any], dict[str, Any]]
"""A config twice: with interpolations (``${oc.env:...}``) as written, and resolved."""


@dataclass(frozen=True)
class ConfigFile:
    """A config file with its bases, as it was when it was read.

    Args:
        content: the merged mapping, interpolations as written.
        files: the file, and the bases in the order in which they were read.
    """

    content: Mapping[str, Any]
    files: tuple[Path, ...]

    @classmethod
    def read(cls, path: Path) -> ConfigFile:
        """Read a file, and each file that a ``base:`` lists, relative to the one that lists it.

        Raises:
            ConfigError: a file cannot be read, bad YAML (with its line), a base that includes itself.
        """
        files: list[Path] = []
        return cls(_read(path, (), files), tuple(files))

    def layers(self, overrides: Sequence[str] = ()) -> Layers:
        """Return the config with overrides, ``key=value`` strings whose values are YAML.

        Raises:
            ConfigError: a bad override, an interpolation that cannot be resolved; a file, or a module, that lies beside
                the config and not in the current folder.
        """
        raw = _lay(self.content, _parse_overrides(overrides))
        try:
            resolved = OmegaConf.to_container(OmegaConf.create(raw), resolve=True)
        except OmegaConfBaseException as error:
            raise ConfigError(f"{error.full_key or self.files[0]}: {_unresolved(error)}") from None
        assert isinstance(resolved, dict)
        told = {str(key): value for key, value in resolved.items()}
        check_digits(told)
        check_places(told, self.files)
        return raw, told


NO_LISTENERS = ("tracking=[]", "callbacks=[]")
"""Overrides for who only looks at a run: what listened to it changes no number, and its code need not be here."""


def load_layers(path: Path, overrides: Sequence[str] = ()) -> Layers:
    """Read a config file with its bases and overrides.

    Raises:
        ConfigError: as :meth:`ConfigFile.read` and :meth:`ConfigFile.layers`.
    """
    return ConfigFile.read(path).layers(overrides)


def _unresolved(error: OmegaConfBaseException) -> str:
    """Say why an interpolation has no value, in the words of who wrote it."""
    said = str(error).splitlines()[0]
    missing = re.search(r"Environment variable '(\w+)' not found", said)
    if missing is None:
        return said
    name = missing[1]
    return f"the environment has no {name}; set it, or give a value for when it is not set: ${{oc.env:{name},VALUE}}"


def bind_top(resolved: Mapping[str, Any]) -> ExperimentSchema:
    """Bind the sections of an experiment, each known by name; what is in them is bound by whoever needs it."""
    if PYTHON in resolved:
        raise ConfigError(
            "this run was started from Python, where its model and data are: go on with "
            "fedray.train(..., run_dir=..., resume=True); what it trained is in its model.safetensors"
        )
    # Options may be given to a part that is chosen by default.
    chosen = {f.name: {"name": f.default} for f in fields(ExperimentSchema) if isinstance(f.default, str)}
    return bind(ExperimentSchema, _tracking_as_list(overlay(chosen, resolved)), "", _elsewhere())


@dataclass(frozen=True)
class _TrackingMapping:
    """``tracking`` as earlier versions wrote it, before it was a list."""

    tensorboard: bool = True
    trackers: list[Any] = field(default_factory=list)


def _tracking_as_list(layer: dict[str, Any]) -> dict[str, Any]:
    """Return the layer with the trackers as a list, of whichever form they are.

    Raises:
        ConfigError: a mapping that is not the one of earlier versions.
    """
    said = layer.get("tracking")
    if said is None:
        return {key: value for key, value in layer.items() if key != "tracking"}
    if not isinstance(said, Mapping):
        return layer
    if "name" in said:
        raise ConfigError(f"tracking: a list is needed, such as [{said['name']}]")
    earlier = bind(_TrackingMapping, said, "tracking")
    return {**layer, "tracking": trackers_in({"tensorboard": earlier.tensorboard, "trackers": earlier.trackers})}


def _elsewhere() -> dict[str, str]:
    """Return the full keys of the options of sections, for whoever looks for them at the top."""
    found: dict[str, str] = {"lr": "local.optimizer.lr", "trackers": "tracking"}
    for key, section in SECTIONS.items():
        for option in options_of(section):
            found[option] = f"{found[option]} or {key}.{option}" if option in found else f"{key}.{option}"
    return found


def bind_cluster(schema: ExperimentSchema) -> ClusterSection:
    """Bind the section ``cluster``, which has more keys for Slurm."""
    on_slurm = isinstance(schema.cluster, Mapping) and schema.cluster.get("name") == "slurm"
    return bind(SlurmSection if on_slurm else ClusterSection, schema.cluster, "cluster")


def on_slurm(layer: Mapping[str, Any], options: Mapping[str, Any]) -> dict[str, Any]:
    """Return a config as it is to run on Slurm, with options laid over its section ``cluster``.

    The keys for the number of workers, and for how they talk, mean the same on Slurm, and stay.

    >>> on_slurm({"rounds": 5, "cluster": {"name": "ray", "workers": 2}}, {"nodes": 3})
    {'rounds': 5, 'cluster': {'name': 'slurm', 'workers': 2, 'nodes': 3}}

    Raises:
        ConfigError: the section names a place that there is not.
    """
    section = {} if layer.get("cluster") is None else layer["cluster"]
    if not isinstance(section, Mapping):
        raise ConfigError(f"cluster: expected a section with keys, got {quoted(section)}")
    where = section.get("name", "slurm")
    if where != "slurm" and "${" not in str(where):
        bind(ClusterSection, {"name": where}, "cluster")
    return {**layer, "cluster": overlay({**section, "name": "slurm"}, options)}


def _read(path: Path, seen: tuple[Path, ...], files: list[Path]) -> dict[str, Any]:
    if path in seen:
        raise ConfigError(f"{path}: its base files include itself")
    files.append(path)
    try:
        _check_config(path)
        loaded = OmegaConf.to_container(OmegaConf.load(path), resolve=False)
    except FileNotFoundError:
        whose = f", which is a base of {seen[-1]}" if seen else ""
        raise ConfigError(f"{path}: no such config file{whose}{_beside(path)}") from None
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror or error}") from None
    except ConfigError:
        raise
    # A whole number of thousands of digits is a ValueError, and what lies within itself too often a RecursionError.
    except (yaml.YAMLError, OmegaConfBaseException, ValueError, RecursionError) as error:
        if isinstance(error, yaml.YAMLError) and (sign := misread(error, path.read_text(encoding="utf-8"))):
            raise ConfigError(f"{path}: line {sign[0]}: {sign[1]}; write {short(sign[2])}") from None
        raise ConfigError(f"{path}: not valid YAML: {_why(error)}") from None
    assert isinstance(loaded, dict)
    content = {str(key): value for key, value in loaded.items()}
    bases = content.pop("base", [])
    if isinstance(bases, str):
        bases = [bases]
    if not isinstance(bases, list) or not all(isinstance(base, str) and base for base in bases):
        raise ConfigError(f"base: expected a config file, or a list of such, in {path}, got {quoted(bases)}")
    merged: dict[str, Any] = {}
    for base in bases:
        merged = _lay(merged, _read(path.parent / base, (*seen, path), files))
    return _lay(merged, content)


def _check_config(path: Path) -> None:
    """Check that a file is a mapping of keys, which a table is not: its lines are nobody's keys, and are never quoted.

    Raises:
        ConfigError: it is a table, a list or a text.
        yaml.YAMLError: it is no YAML.
        OSError: it cannot be read.
    """
    with path.open(encoding="utf-8") as file:
        if path.name.lower().endswith(_TABLES):
            raise ConfigError(f"{path} is a table, not a config: write a config that names it, with data.target")
        top = yaml.compose(file, Loader=yaml.SafeLoader)
    if top is not None and not isinstance(top, yaml.MappingNode):
        found = "a list" if isinstance(top, yaml.SequenceNode) else "text without keys"
        raise ConfigError(
            f"{path}: expected a mapping of sections at the top, such as `rounds: 10`; this is {found}, not a config"
        )


def _why(error: Exception) -> str:
    """Return why a text is no YAML, with the line, without what stands there."""
    if "maximum recursion depth" in str(error):  # of Python, of PyYAML or of OmegaConf, by how deep it is
        return "lists and sections lie too deep within one another"
    if isinstance(error, yaml.MarkedYAMLError):
        mark = error.problem_mark or error.context_mark
        where = f", line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        return " ".join(filter(None, (error.context, short(error.problem or "")))) + where
    return " ".join(str(error).split())[:300] if isinstance(error, yaml.YAMLError | UnicodeError) else short(error)


def _beside(path: Path) -> str:
    """Return the name that may be meant by that of a file which there is not."""
    there = [other.name for other in path.parent.glob("*.y*ml")] if path.parent.is_dir() else []
    return nearest(path.name, sorted(there))


def _lay(under: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Lay one config over another; ConfigError where that would drop a list of trackers for an option of theirs."""
    below, above = under.get("tracking"), over.get("tracking")
    if isinstance(below, list) and isinstance(above, Mapping):
        raise ConfigError(
            f"tracking.{next(iter(above), '')}: the trackers are a list, which is replaced as a whole; "
            "write tracking=[tensorboard, csv] with all that are wanted, or tracking=[]"
        )
    return overlay(under, over)


def _parse_overrides(overrides: Sequence[str]) -> dict[str, Any]:
    merged: dict[str, Any] = {}
    for text in overrides:
        key, equals, said = text.partition("=")
        if not equals or not key:
            raise ConfigError(f"{quoted(text)}: expected key=value, as in local.epochs=2")
        if key == "base":
            raise ConfigError("base: a config file says what it builds on; write it there, or run that file")
        value = as_yaml(said)
        try:
            dropped = comment_in(value)
            one = OmegaConf.to_container(OmegaConf.from_dotlist([f"{key}={value}"]), resolve=False)
        except (yaml.YAMLError, OmegaConfBaseException, ValueError, RecursionError) as error:
            if sign := misread(error, value):
                raise ConfigError(f"{quoted(text)}: {sign[1]}; write {shlex.quote(f'{key}={sign[2]}')}") from None
            advice = "a value is YAML: put one with signs such as : { [ in quotes of its own, as in key='\"a: b\"'"
            raise ConfigError(f"{quoted(text)}: {' '.join(str(error).split())[:120]}; {advice}") from None
        if dropped:
            advice = "put the value in quotes of its own, as in key='\"run #3\"'"
            raise ConfigError(f"{quoted(text)}: YAML reads {quoted(dropped)} as a comment; {advice}")
        assert isinstance(one, dict)
        merged = overlay(merged, {str(k): v for k, v in one.items()})
    return merged


def to_yaml(content: Mapping[str, Any]) -> str:
    """Return the YAML text of a merged config, interpolations as written."""
    return OmegaConf.to_yaml(OmegaConf.create(dict(content)), resolve=False)
