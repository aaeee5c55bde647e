"""The settings of a run in a sweep, as TensorBoard's HParams tab has them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from fedray.aggregators.base import aggregators
from fedray.algorithms.base import algorithms
from fedray.config.registry import Registry, bind_part, dump
from fedray.core.errors import ConfigError
from fedray.core.record import OWN, VIEWS, RoundRecord, own
from fedray.rundir.names import SWEEP
from fedray.sampling import samplers
from fedray.server.base import server_optimizers

if TYPE_CHECKING:
    from tensorboard.compat.proto.summary_pb2 import Summary

Value = float | bool | str

NUMBER = {"test": "", OWN: "client_mean", **dict.fromkeys(VIEWS.values(), "mean")}
"""The sections whose metrics stand beside the settings, each with the number of a spread that does."""

_PARTS: dict[str, Registry] = {
    "aggregator": aggregators,
    "algorithm": algorithms,
    "sampler": samplers,
    "server": server_optimizers,
}


@dataclass(frozen=True)
class Settings:
    """The values that a run has for the keys that its sweep varies.

    Of a part, such as an algorithm, its name is one value, and each option in which the parts of the sweep differ is
    another.

    Args:
        values: by key; all runs of a sweep have numbers, or words, for the same key.
        kinds: the kind of the values of each key that a run of the sweep has; this one may lack the options of others.
        clients: its clients are evaluated, too.
        parts: the sweep varies parts, whose runs may have other sections of metrics than this one.
    """

    values: Mapping[str, Value]
    kinds: Mapping[str, type[Value]]
    clients: bool = False
    parts: bool = False

    @classmethod
    def of(cls, run_dir: Path, config_yaml: str) -> Settings | None:
        """Return those of the run in a folder; None: it is in no sweep.

        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as sweep:
        ...     _ = Path(sweep, SWEEP).write_text('{"axes": ["seed=1,2", "algorithm=fedavg,fedprox", "rounds=5"]}')
        ...     Settings.of(Path(sweep, "seed=1"), "seed: 1\\nalgorithm: {name: fedprox, mu: 0.1}").values
        {'seed': 1.0, 'algorithm': 'fedprox', 'algorithm.mu': 0.1}

        Args:
            run_dir: the run folder.
            config_yaml: its resolved config.
        """
        try:
            axes = json.loads((run_dir.parent / SWEEP).read_text())["axes"]
        except FileNotFoundError:
            return None
        config = yaml.safe_load(config_yaml)
        values: dict[str, Value] = {}
        kinds: dict[str, type[Value]] = {}
        parts = False
        for axis in axes:
            key, _, text = axis.partition("=")
            every, section = _values(text), _at(config, key)
            if len(every) < 2 and not isinstance(every[0], dict):  # a mapping may be a range
                continue
            sections = _sections(key, every)
            kinds[key] = str if sections else _kind(every)
            values[key] = _as(section, kinds[key])
            for option, found in _differing(sections).items():
                kinds[f"{key}.{option}"] = _kind(found)
                if isinstance(section, dict) and option in section:
                    values[f"{key}.{option}"] = _as(section[option], kinds[f"{key}.{option}"])
            parts |= bool(sections)
        return cls(values, kinds, bool(_at(config, "evaluate.clients_every")), parts)

    def told_by(self, record: RoundRecord) -> bool:
        """Tell if a record has all that the run measures."""
        return any(_views(record).values()) if self.clients else bool(record.test)

    def metrics(self, record: RoundRecord) -> list[str]:
        """Return the names of the metrics that stand beside the values, by section and name.

        TensorBoard takes those of any one run for all: where parts vary, such as the algorithm, these are also the ones
        that runs with other parts have, of whose clients some keep models and some do not.

        >>> record = RoundRecord(1, clients_personal={"accuracy": {"mean": 0.5}})
        >>> Settings({}, {}, clients=True).metrics(record)
        ['own/accuracy/client_mean', 'clients_personal/accuracy/mean']

        Args:
            record: one by which it is told, see :meth:`told_by`.
        """
        views = _views(record)
        sections: dict[str, Any] = {"test": record.test, OWN: views[own(views)], **views}
        names = dict.fromkeys(name for section in sections.values() for name in section)
        usual = ("test", OWN, VIEWS["global"], VIEWS["personal"]) if self.parts and self.clients else ()
        return [
            "/".join(filter(None, (section, name, number)))
            for section, number in NUMBER.items()
            for name in (names if section in usual else sections[section])
        ]

    def start(self) -> Summary:
        """Return what tells the values."""
        from tensorboard.plugins.hparams.plugin_data_pb2 import SessionStartInfo

        info = SessionStartInfo()
        for key, value in self.values.items():
            field = {bool: "bool_value", float: "number_value", str: "string_value"}[type(value)]
            setattr(info.hparams[key], field, value)
        return _summary("session_start_info", info)

    def columns(self, tags: Sequence[str]) -> Summary:
        """Return what names the columns of the tab: the keys, and metrics by their tags."""
        from tensorboard.plugins.hparams import api_pb2 as api

        kinds = {bool: api.DATA_TYPE_BOOL, float: api.DATA_TYPE_FLOAT64, str: api.DATA_TYPE_STRING}
        keys = [api.HParamInfo(name=key, type=kinds[kind]) for key, kind in self.kinds.items()]
        metrics = [api.MetricInfo(name=api.MetricName(tag=tag), display_name=tag) for tag in tags]
        return _summary("experiment", api.Experiment(hparam_infos=keys, metric_infos=metrics))


def of_own(record: RoundRecord) -> dict[str, float]:
    """Return the means over clients, each counted once, with the model that each would use, by section and name.

    Algorithms with and without personal models have these in common.

    >>> of_own(RoundRecord(1, clients_personal={"accuracy": {"mean": 0.5, "client_mean": 0.25}}))
    {'own/accuracy/client_mean': 0.25}
    """
    views, number = _views(record), NUMBER[OWN]
    found = {name: spread[number] for name, spread in views[own(views)].items() if number in spread}
    return {f"{OWN}/{name}/{number}": float("nan") if value is None else value for name, value in found.items()}


def ended() -> Summary:
    """Return what tells that a run came to its end."""
    from tensorboard.plugins.hparams.api_pb2 import STATUS_SUCCESS
    from tensorboard.plugins.hparams.plugin_data_pb2 import SessionEndInfo

    return _summary("session_end_info", SessionEndInfo(status=STATUS_SUCCESS))


def _summary(field: str, message: Any) -> Summary:
    from tensorboard.compat.proto.summary_pb2 import Summary, SummaryMetadata
    from tensorboard.plugins.hparams import metadata
    from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

    content = HParamsPluginData(**{field: message}, version=metadata.PLUGIN_DATA_VERSION).SerializeToString()
    about = SummaryMetadata(plugin_data=SummaryMetadata.PluginData(plugin_name=metadata.PLUGIN_NAME, content=content))
    return Summary(value=[Summary.Value(tag=f"_hparams_/{field}", metadata=about)])


def _views(record: RoundRecord) -> dict[str, dict[str, dict[str, float]]]:
    return {section: getattr(record, section) for section in VIEWS.values()}


def _sections(key: str, values: Sequence[Any]) -> list[dict[str, Any]]:
    """Return the sections of the parts that an axis names, with the options of those that are known; empty: none."""
    registry = _PARTS.get(key)
    if registry is None and not any(isinstance(value, dict) and "name" in value for value in values):
        return []
    nodes = [{"name": value} if isinstance(value, str) else value for value in values]
    return [_whole(registry, node, key) if isinstance(node, dict) else {} for node in nodes]


def _whole(registry: Registry | None, node: dict[str, Any], key: str) -> dict[str, Any]:
    """Return the section of a part with all of its options; one of the user's own, whose code stays alone, as it is."""
    if registry is None or ":" in str(node.get("name", ":")):
        return node
    try:
        return dump(bind_part(registry, node, key))
    except ConfigError:  # the run that has it says so
        return node


def _differing(sections: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
    """Return the values of each option in which parts differ, or that some of them lack and others have set."""
    names = dict.fromkeys(name for one in sections for name in one if name != "name")
    found = {name: [one[name] for one in sections if name in one] for name in names}
    return {
        name: values
        for name, values in found.items()
        if any(value != values[0] for value in values) or (len(values) < len(sections) and values[0] is not None)
    }


def _at(config: Any, key: str) -> Any:
    """Return the value of a key with dots in a config; None: it has none."""
    for word in key.split("."):
        if isinstance(config, list) and word.isdigit() and int(word) < len(config):
            config = config[int(word)]
        elif isinstance(config, dict):
            config = config.get(word)
        else:
            return None
    return config


def _values(text: str) -> list[Any]:
    """Return the values of an axis, of which there is one at least."""
    try:
        return list(yaml.safe_load(f"[{text}]"))
    except yaml.YAMLError:
        return [text, text]


def _kind(values: Sequence[Any]) -> type[Value]:
    """Return the kind of some values: of 1 and 2 numbers, as of a range; of 8 and full words."""
    if all(isinstance(value, bool) for value in values):
        return bool
    return float if all(isinstance(value, dict) or _is_number(value) for value in values) else str


def _is_number(value: Any) -> bool:
    try:
        return not isinstance(value, bool) and float(value) == float(value)
    except (TypeError, ValueError):  # YAML 1.1 takes 1e-3 for a word, and the config does not
        return False


def _as(value: Any, kind: type[Value]) -> Value:
    if (kind is float and not _is_number(value)) or (kind is bool and not isinstance(value, bool)):
        kind = str
    if kind is not str:
        return kind(value)
    if isinstance(value, dict):
        value = value.get("name", value)
    return value if isinstance(value, str) else yaml.safe_dump(value, default_flow_style=True).split("\n...")[0].strip()
