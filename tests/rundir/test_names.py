"""How a run folder is known, and how its run goes on."""

from __future__ import annotations

from pathlib import Path

import pytest

from fedray.core.errors import ConfigError
from fedray.rundir.names import CONFIG, cache_folder, config_of, read_object, to_go_on, to_look_at


def test_a_folder_without_a_config_is_no_run_folder(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=f"is no run folder: it has no {CONFIG}"):
        config_of(tmp_path)
    (tmp_path / CONFIG).write_text("seed: 1\n")
    assert config_of(tmp_path) == "seed: 1\n"


@pytest.mark.parametrize(
    ("config", "limit", "words"),
    [
        ("seed: 1\n", None, "fedray resume "),
        ("seed: 1\n", "budget.wall_hours", " budget.wall_hours=MORE"),
        ("python:\n  seed: 1\n", None, "fedray.train(..., run_dir="),
        ("python:\n  seed: 1\n", "budget.wall_hours", "TrainArgs(..., wall_hours=MORE)"),
        ("seed: 1\n", "stop.patience", " stop.patience=MORE"),
        ("python:\n  seed: 1\n", "stop.patience", "TrainArgs(..., stop_patience=MORE)"),
    ],
)
def test_it_goes_on_as_it_was_started(config: str, limit: str | None, words: str, tmp_path: Path) -> None:
    folder = tmp_path / "my run"
    folder.mkdir()
    (folder / CONFIG).write_text(config)
    said = to_go_on(folder, limit)
    assert words in said
    assert f"'{folder}'" in said  # quoted, as a shell and Python want it
    look = f"fedray.debug('{folder}', model, data)" if config.startswith("python") else f"fedray debug '{folder}'"
    assert to_look_at(folder) == look


def test_where_things_are_kept_between_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FEDRAY_CACHE", "/scratch/me")
    assert cache_folder("text") == Path("/scratch/me/text")
    monkeypatch.delenv("FEDRAY_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", "/x")
    assert cache_folder("text") == Path("/x/fedray/text")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache_folder("text") == Path.home() / ".cache/fedray/text"


@pytest.mark.parametrize("content", [b"\xff\xfe", b"rounds: [", b"", b"- 1\n", b"rounds: 1" + b"0" * 5000])
def test_a_config_that_something_has_damaged_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "config.yaml").write_bytes(content)
    with pytest.raises(ConfigError, match=r"config\.yaml is damaged: .*; put back a copy of it, or move "):
        config_of(tmp_path)


@pytest.mark.parametrize("content", [b"\xff", b"garbage", b"[]", b"5", b'{"name": '])
def test_an_object_is_read_or_absent_or_damaged(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "summary.json"
    assert read_object(path) == {}
    path.write_text('{"name": "x"}')
    assert read_object(path) == {"name": "x"}
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=r"summary\.json is damaged: "):
        read_object(path)
    path.unlink()
    path.mkdir()
    with pytest.raises(ConfigError, match=r"summary\.json is damaged: .*Is a directory"):
        read_object(path)
