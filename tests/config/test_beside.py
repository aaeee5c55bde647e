"""What lies beside a config elsewhere is not taken, and the message says where it is looked for and what to do."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from fedray.config.beside import PATHS, check_places
from fedray.config.layers import load_layers
from fedray.config.registry import Registry
from fedray.core.errors import ConfigError
from fedray.data import data_sources
from fedray.models import models
from fedray.sampling import samplers

FILES = ["a.csv", "b.csv", "more/c.jsonl", "tokens/tokenizer.json", "trace.csv", "mine.py", "chat.jinja"]
CONFIGS: list[tuple[dict[str, Any], str, str]] = [
    ({"data": {"name": "folder", "path": "more"}}, "data.path: more", "write far/more, or"),
    ({"data": {"name": "csv", "train": ["a.csv", "b.csv"]}}, "data.train: a.csv", "write far/a.csv, or"),
    ({"data": {"name": "csv", "test": {"a": "b.csv"}}}, "data.test.a: b.csv", "write far/b.csv, or"),
    ({"data": {"name": "text", "train": "more/*.jsonl"}}, "data.train: more/*.jsonl", "write far/more/*.jsonl, or"),
    ({"data": {"name": "text", "tokenizer": "tokens"}}, "data.tokenizer: tokens", "write far/tokens, or"),
    ({"data": {"format": {"chat_template": "chat.jinja"}}}, "data.format.chat_template: chat.jinja", "far/chat.jinja"),
    ({"model": {"name": "huggingface", "path": "tokens"}}, "model.path: tokens", "write far/tokens, or"),
    ({"sampler": {"name": "trace", "file": "trace.csv"}}, "sampler.file: trace.csv", "write far/trace.csv, or"),
    ({"model": "mine:Net"}, "model: mine", "run the command in far"),
    ({"metrics": ["loss", {"name": "mine:right"}]}, "metrics.name: mine", "run the command in far"),
    ({"local": {"loss": "mine:loss"}}, "local.loss: mine", "run the command in far"),
    ({"data": {"name": "own:load", "table": "b.csv"}}, "data.table: b.csv", "write far/b.csv, or"),
    ({"data": {"name": "own:load", "of": {"north": ["more/c.jsonl"]}}}, "data.of.north: more/c.jsonl", "far/more/c"),
    ({"data": {"name": "own:load", "folder": "more/"}}, "data.folder: more/", "write far/more, or"),
    ({"model": {"name": "own:net", "start": "tokens/*.json"}}, "model.start: tokens/*.json", "write far/tokens/*.js"),
    ({"transforms": [{"name": "own:Fold", "places": "trace.csv"}]}, "transforms.places: trace.csv", "far/trace.csv"),
]


@pytest.fixture
def far(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of files below the current one, where a module of one's own lies."""
    for name in FILES:
        (tmp_path / "far" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "far" / name).touch()
    for folder in (tmp_path, tmp_path / "far"):
        (folder / "own.py").touch()
    monkeypatch.chdir(tmp_path)
    return tmp_path / "far"


@pytest.mark.parametrize(("config", "what", "remedy"), CONFIGS)
def test_both_folders_are_named_and_what_to_do(far: Path, config: dict[str, Any], what: str, remedy: str) -> None:
    (far / "study.yaml").write_text(yaml.safe_dump(config))
    for path in (Path("far/study.yaml"), far / "study.yaml"):
        with pytest.raises(ConfigError) as caught:
            load_layers(path)
        assert str(caught.value).startswith(f"{what} is not in the current folder, {far.parent}, but beside the config")
        assert remedy in str(caught.value)


@pytest.mark.parametrize(("config", "what", "remedy"), CONFIGS)
def test_in_the_folder_of_the_config_all_is_as_ever(
    far: Path, monkeypatch: pytest.MonkeyPatch, config: dict[str, Any], what: str, remedy: str
) -> None:
    (far / "study.yaml").write_text(yaml.safe_dump(config))
    monkeypatch.chdir(far)
    assert load_layers(Path("study.yaml"))[1] == config


def test_the_current_folder_wins_and_a_word_of_an_own_part_is_no_path(far: Path) -> None:
    Path("a.csv").touch()
    Path("mine.py").touch()
    for config in (
        {"data": {"name": "csv", "train": ["a.csv"]}, "model": "mine:Net"},
        {"data": {"name": "mine:load", "table": "a.csv", "split": "more", "words": "a.b/c", "none": "nowhere.csv"}},
        {"data": {"name": "csv", "train": ["nowhere.csv"], "target": "b.csv", "silos": {"north": "b.csv"}}},
        {"data": {"name": "csv", "train": [str(far / "b.csv")]}, "local": {"loss": "torch.nn:HuberLoss"}},
        {"data": {"format": {"chat_template": "{{ messages }}" * 99}}},
    ):
        check_places(config, [far / "study.yaml"])


def test_files_of_a_base_are_looked_for_beside_it_and_those_of_a_run_folder_are_its_own(far: Path) -> None:
    (far / "base.yaml").write_text("data: {name: csv, train: [a.csv]}\n")
    Path("study.yaml").write_text("base: far/base.yaml\n")
    with pytest.raises(ConfigError, match=r"data\.train: a\.csv .* in far\n"):
        load_layers(Path("study.yaml"))
    (far / "checkpoints").mkdir()
    (far / "config.yaml").write_text("data: {name: csv, train: [a.csv]}\n")
    assert load_layers(far / "config.yaml")[1]["data"]["train"] == ["a.csv"]


@pytest.mark.parametrize(
    ("section", "registry"),
    [("data", data_sources), ("model", models), ("sampler", samplers)],
    ids=["data", "model", "sampler"],
)
def test_every_option_that_is_a_path_is_known(section: str, registry: Registry) -> None:
    found = set()
    for name in registry:
        for option, words in re.findall(r"(?m)^ +(\w+): (.*)$", registry[name].__doc__ or ""):
            if re.match(r"((a|the|LEAF's) )?(\S+ )?(files?|folder|path)\b", words):
                found.add(f"{section}.{option}")
    assert found
    assert not [key for key in found if not PATHS.fullmatch(key)]
