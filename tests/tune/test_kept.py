"""What is measured once is known the next time, for the same model, data and machine."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from fedray.config.layers import load_layers
from fedray.core.cpus import Cpus
from fedray.core.stages import listening
from fedray.experiment.build import Config
from fedray.tune import kept
from fedray.tune.candidates import knobs
from fedray.tune.kept import key_of, read, traits, tuned
from fedray.tune.search import Probe
from tests.cli.command import SMALL


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, ...]]:
    """The runs that are asked for; that of blocks of eight is fast."""
    asked: list[tuple[str, ...]] = []

    class Quick:
        def __init__(self, *_: object) -> None: ...

        def __call__(self, changes: Sequence[str]) -> Probe:
            asked.append(tuple(changes))
            return Probe((0.5 if "local.stack=8" in changes else 1.0,) * 9, stack=8)

    monkeypatch.setattr(kept, "Processes", Quick)
    monkeypatch.setenv("FEDRAY_CACHE", str(tmp_path / "kept"))
    (tmp_path / "c.yaml").write_text(SMALL)
    return asked


def test_a_choice_is_measured_once(tmp_path: Path, runs: list[tuple[str, ...]]) -> None:
    first = tuned(tmp_path / "c.yaml")
    assert (first.changes, first.kept, len(first.rows)) == (("local.stack=8",), False, len(runs))
    count = len(runs)
    second = tuned(tmp_path / "c.yaml", ["seed=7", "rounds=9", "local.optimizer.lr=0.5", "evaluate.every=0"])
    assert (second.changes, second.rows, second.when, second.kept) == (first.changes, first.rows, first.when, True)
    assert len(runs) == count
    assert not tuned(tmp_path / "c.yaml", again=True).kept
    assert len(runs) == 2 * count


def test_each_run_is_told_as_it_begins(tmp_path: Path, runs: list[tuple[str, ...]]) -> None:
    heard: list[str] = []
    with listening(lambda stage: heard.append(stage.words)):
        tuned(tmp_path / "c.yaml")
    (first, second, *_) = [words for words in heard if words.startswith("measuring")]
    every = len(runs) - 2
    assert first == f"measuring the config as it is (run 1 of {every})"
    assert second == f"measuring local.stack=8 (run 2 of {every})"
    assert heard[-1] == f"measuring local.stack=8, again (run {every + 2} of {every + 2})"


def test_what_is_damaged_is_measured_anew_and_a_folder_that_cannot_be_written_ends_nothing(
    tmp_path: Path, runs: list[tuple[str, ...]], monkeypatch: pytest.MonkeyPatch
) -> None:
    tuned(tmp_path / "c.yaml")
    (file,) = (tmp_path / "kept" / "tune").iterdir()
    for text in ("", "{}", "[]", '{"changes": [], "candidates": [{}], "when": "", "kept": false}'):
        file.write_text(text)
        assert read(file) is None
    assert not tuned(tmp_path / "c.yaml").kept
    monkeypatch.setenv("FEDRAY_CACHE", "/dev/null/nowhere")
    assert tuned(tmp_path / "c.yaml").changes == ("local.stack=8",)


def key(folder: Path, *overrides: str) -> str:
    config = Config.bind("c", *load_layers(folder / "c.yaml", overrides))
    plan = config.plan()
    return key_of(traits(config, plan, knobs(config, plan, overrides)))


@pytest.mark.parametrize(
    "override",
    [
        "model.hidden=[6]",
        "local.batch_size=4",
        "local.optimizer=adam",
        "local.optimizer.momentum=0.0",
        "local.epochs=2",
        "data.examples=40",
        "data.clients=9",
        "algorithm=scaffold",
        "sampler={name: uniform, clients: 4}",
        "local.stack=4",
        "worker.threads=2",
        "local.precision=bf16",
    ],
)
def test_another_model_work_or_data_is_measured_by_itself(
    tmp_path: Path, runs: list[tuple[str, ...]], override: str
) -> None:
    assert key(tmp_path, override) != key(tmp_path)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("processor", lambda: "another"),
        ("usable_cpus", lambda: Cpus(99, "made up")),
        ("versions", lambda: {"torch": "9"}),
        ("machine", lambda: {"gpu": "another"}),
    ],
)
def test_another_machine_or_version_measures_by_itself(
    tmp_path: Path, runs: list[tuple[str, ...]], monkeypatch: pytest.MonkeyPatch, name: str, value: object
) -> None:
    before = key(tmp_path)
    assert key(tmp_path, "seed=9", "local.optimizer.lr=0.3", "rounds=50") == before
    monkeypatch.setattr(kept, name, value)
    assert key(tmp_path) != before
