"""The settings of a run in a sweep, as TensorBoard's HParams tab has them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from fedray.core.record import VIEWS, RoundRecord
from fedray.rundir.names import SWEEP

if TYPE_CHECKING:
    from tensorboard.compat.proto.summary_pb2 import Summary

Value = float | bool | str


@dataclass(frozen=True)
class Settings:
    """The values that a run has for the keys that its sweep varies.

    Args:
        values: by key; all runs of a sweep have numbers, or words, for the same key.
        clients: its clients are evaluated, too.
    """

    values: Mapping[str, Value]
    clients: bool = False

    @classmethod
    def of(cls, run_dir: Path, config_yaml: str) -> Settings | None:
        """Return those of the run in a folder; None: it is in no sweep.

        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as sweep:
        ...     _ = Path(sweep, SWEEP).write_text('{"axes": ["seed=1,2", "local.batch_size=8,full", "rounds=5"]}')
        ...     Settings.of(Path(sweep, "seed=1"), "seed: 1\\nlocal: {batch_size: 8}").values
        {'seed': 1.0, 'local.batch_size': '8'}

        Args:
            run_dir: the run folder.
            config_yaml: its resolved config.
        """
        try:
            axes = json.loads((run_dir.parent / SWEEP).read_text())["axes"]
        except FileNotFoundError:
            return None
        config = yaml.safe_load(config_yaml)
        found: dict[str, Value] = {}
        for axis in axes:
            key, _, text = axis.partition("=")
            every = _values(text)
            if len(every) > 1 or isinstance(every[0], dict):  # a mapping may be a range
                found[key] = _as(_at(config, key), _kind(every))
        return cls(found, bool(_at(config, "evaluate.clients_every")))

    def told_by(self, record: RoundRecord) -> bool:
        """Tell if a record has all that the run measures."""
        return any(getattr(record, section) for section in VIEWS.values()) if self.clients else bool(record.test)

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
        keys = [api.HParamInfo(name=key, type=kinds[type(value)]) for key, value in self.values.items()]
        metrics = [api.MetricInfo(name=api.MetricName(tag=tag), display_name=tag) for tag in tags]
        return _summary("experiment", api.Experiment(hparam_infos=keys, metric_infos=metrics))


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
        value = value["name"] if set(value) == {"name"} else value
    return value if isinstance(value, str) else yaml.safe_dump(value, default_flow_style=True).split("\n...")[0].strip()
