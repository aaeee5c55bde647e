"""Layers of a config: defaults, base files, the file, the command line; values from the environment stay references."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from omegaconf import OmegaConf

from fedray.config.layers import ConfigFile, bind_top, load_layers, overlay
from fedray.core.errors import ConfigError
from tests.cli.command import Cli, hashes


def resolved(cli: Cli, *arguments: object) -> dict[str, Any]:
    outcome = cli("config", *arguments)
    assert outcome.status == 0, outcome.err
    shown = OmegaConf.to_container(OmegaConf.create(outcome.out), resolve=False)
    assert isinstance(shown, dict)
    return {str(key): value for key, value in shown.items()}


def test_later_layers_win_key_by_key(cli: Cli, small: Path) -> None:
    folder = small.parent / "deep"
    folder.mkdir()
    (folder / "first.yaml").write_text("base: ../small.yaml\nseed: 4\nlocal: {epochs: 2}\n")
    (folder / "second.yaml").write_text("seed: 5\nevaluate: {every: 7}\n")
    (folder / "top.yaml").write_text("base: [first.yaml, second.yaml]\nlocal: {batch_size: 6}\n")
    shown = resolved(cli, "deep/top.yaml", "local.optimizer.lr=0.25")
    assert shown["seed"] == 5
    assert shown["evaluate"]["every"] == 7
    assert shown["rounds"] == 3
    local = shown["local"]
    assert (local["epochs"], local["batch_size"], local["optimizer"]["momentum"]) == (2, 6, 0.5)
    assert local["optimizer"]["lr"] == 0.25


def test_another_part_does_not_inherit_options(cli: Cli, small: Path) -> None:
    shown = resolved(cli, small, "local.optimizer={name: adam}", "data={name: digits}")
    assert shown["local"]["optimizer"] == {
        "name": "adam",
        "lr": 0.001,
        "betas": [0.9, 0.999],
        "eps": 1e-8,
        "weight_decay": 0.0,
    }
    assert "heterogeneity" not in shown["data"]


def test_options_reach_a_part_that_is_the_default(cli: Cli, small: Path) -> None:
    shown = resolved(cli, small, "algorithm.server_lr=0.5", "data=digits")
    assert shown["algorithm"] == {"name": "fedavg", "weight": "auto", "server_lr": 0.5}
    assert shown["data"]["name"] == "digits"


def test_values_from_the_environment_stay_references(cli: Cli, small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small.write_text(small.read_text() + "run: {dir: '${oc.env:FEDRAY_TEST_OUT}'}\n")
    monkeypatch.setenv("FEDRAY_TEST_OUT", "secret-place")
    assert resolved(cli, small)["run"]["dir"] == "${oc.env:FEDRAY_TEST_OUT}"
    assert cli("run", small, "-q").status == 0
    text = Path("secret-place/config.yaml").read_text()
    assert "${oc.env:FEDRAY_TEST_OUT}" in text
    assert "secret-place" not in text
    assert cli("resume", "secret-place", "rounds=4", "-q").status == 0
    assert "secret-place" not in Path("secret-place/config.yaml").read_text()
    monkeypatch.delenv("FEDRAY_TEST_OUT")
    cli("evaluate", "secret-place").refused("run.dir", "FEDRAY_TEST_OUT")


def test_a_users_model_is_found_in_the_working_directory(cli: Cli, small: Path) -> None:
    package = small.parent / f"own_{small.parent.name}"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "nets.py").write_text(
        "from torch import nn\n"
        "def make(spec, width=3):\n"
        "    return nn.Sequential(nn.Linear(spec.shape[0], width), nn.Tanh(), nn.Linear(width, spec.outputs))\n"
    )
    chosen = f"model={{name: '{package.name}.nets:make', width: 4}}"
    assert resolved(cli, small, chosen)["model"] == {"name": f"{package.name}.nets:make", "width": 4}
    assert cli("run", small, "run.dir=out", chosen, "-q").status == 0
    assert cli("run", small, "run.dir=again", chosen, "-q").status == 0
    assert hashes(Path("out")) == hashes(Path("again"))
    assert "43 trained" in cli("plan", small, chosen).out


LEAVES = st.integers(0, 9) | st.none() | st.lists(st.integers(0, 3), max_size=2)
TREES = st.recursive(
    st.dictionaries(st.sampled_from("abc"), LEAVES, max_size=3),
    lambda inner: st.dictionaries(st.sampled_from("abc"), inner | LEAVES, max_size=3),
    max_leaves=8,
)


def leaves(tree: dict[str, Any], *path: str) -> dict[tuple[str, ...], Any]:
    """Each value by its path."""
    found: dict[tuple[str, ...], Any] = {}
    for key, value in tree.items():
        found |= leaves(value, *path, key) if isinstance(value, dict) and value else {(*path, key): value}
    return found


@given(TREES, TREES)
def test_a_later_layer_wins_where_it_says_something_and_nowhere_else(
    under: dict[str, Any], over: dict[str, Any]
) -> None:
    merged, below, above = leaves(overlay(under, over)), leaves(under), leaves(over)
    for path, value in above.items():
        if value != {}:
            assert merged[path] == value
    for path, value in merged.items():
        if path not in above:
            assert below[path] == value
    assert overlay(under, under) == under == overlay(under, {})


def test_a_base_that_is_its_own_base_is_said(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("base: b.yaml\nseed: 1\n")
    (tmp_path / "b.yaml").write_text("base: a.yaml\n")
    with pytest.raises(ConfigError, match=r"a\.yaml: its base files include itself"):
        load_layers(tmp_path / "a.yaml")
    (tmp_path / "b.yaml").write_text("base: [c.yaml]\n")
    with pytest.raises(ConfigError, match=r"c\.yaml: no such config file, which is a base of .*b\.yaml"):
        load_layers(tmp_path / "a.yaml")


@pytest.mark.parametrize(
    ("text", "overrides", "message"),
    [
        ("a: [1", (), r"x\.yaml: not valid YAML: .*line 1"),
        ("- 1\n", (), r"x\.yaml: expected a mapping of sections at the top"),
        ("a: ${oc.env:FEDRAY_NOWHERE}\n", (), r"^a: the environment has no FEDRAY_NOWHERE; set it, or give a value"),
        ("a: 1\n", ("b",), r"^'b': expected key=value, as in local\.epochs=2$"),
        ("a: 1\n", ("base=b.yaml",), r"^base: a config file says what it builds on"),
        ("a: 1\n", ("=2",), r"^'=2': expected key=value"),
        ("a: 1\n", ("path=[*.csv]",), r"""^'path=\[\*\.csv\]': .* as an alias; write 'path=\["\*\.csv"\]'$"""),
        ("a: 1\n", ("name=run #3",), r"^'name=run #3': YAML reads '#3' as a comment; put the value in quotes"),
        ("a: 1\n", ("path=[1",), r"^'path=\[1': .*in quotes of its own"),
        ("a: 1\nb: *.csv\n", (), r"""x\.yaml: line 2: YAML reads the \* of \*\.csv as an alias; write b: "\*\.csv"$"""),
    ],
)
def test_what_cannot_be_read_is_one_line(text: str, overrides: tuple[str, ...], message: str, tmp_path: Path) -> None:
    (tmp_path / "x.yaml").write_text(text)
    with pytest.raises(ConfigError, match=message) as told:
        load_layers(tmp_path / "x.yaml", overrides)
    assert "\n" not in str(told.value)


def test_an_option_at_the_top_is_pointed_to_its_section() -> None:
    parts = {"data": "digits", "model": "mlp"}
    with pytest.raises(ConfigError, match=r"^epochs: unknown key \(write local\.epochs\)"):
        bind_top({**parts, "epochs": 3})
    with pytest.raises(ConfigError, match=r"^gpus: unknown key \(write worker\.gpus or driver\.gpus\)"):
        bind_top({**parts, "gpus": 1})
    with pytest.raises(ConfigError, match="this run was started from Python"):
        bind_top({**parts, "python": {}})


def test_a_file_and_its_bases_are_read_once(tmp_path: Path) -> None:
    (tmp_path / "base.yaml").write_text("rounds: 3\nseed: 1\n")
    (tmp_path / "x.yaml").write_text("base: base.yaml\nseed: 2\n")
    file = ConfigFile.read(tmp_path / "x.yaml")
    assert file.files == (tmp_path / "x.yaml", tmp_path / "base.yaml")
    for name in ("x.yaml", "base.yaml"):
        (tmp_path / name).unlink()
    assert [file.layers(overrides)[1] for overrides in ((), ("rounds=9",))] == [
        {"rounds": 3, "seed": 2},
        {"rounds": 9, "seed": 2},
    ]


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        ("{tensorboard: false}", []),
        ("{}", ["tensorboard"]),
        ("{trackers: [{name: tensorboard, log_dir: x}]}", ["tensorboard", {"name": "tensorboard", "log_dir": "x"}]),
        ("{tensorboard: false, trackers: [csv]}", ["csv"]),
        ("null", ["tensorboard"]),
        ("[]", []),
        ("[csv, tensorboard]", ["csv", "tensorboard"]),
    ],
)
def test_trackers_are_a_list_and_the_mapping_of_earlier_versions_is_read(said: str, meant: list[Any]) -> None:
    assert bind_top({"data": "x", "model": "y", "tracking": yaml.safe_load(said)}).tracking == meant


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ("{tensorbord: false}", r"^tracking\.tensorbord: unknown key \(did you mean 'tensorboard'\?\)"),
        ("{tensorboard: often}", r"^tracking\.tensorboard: "),
        ("{name: csv}", r"^tracking: a list is needed, such as \[csv\]$"),
        ("csv", r"^tracking: expected a list, got 'csv' \(write \['csv'\]\)$"),
    ],
)
def test_what_is_no_list_of_trackers_is_refused(said: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        bind_top({"data": "x", "model": "y", "tracking": yaml.safe_load(said)})


def test_an_option_of_the_old_mapping_drops_no_list(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("tracking: [csv]\n")
    (tmp_path / "b.yaml").write_text("base: a.yaml\ntracking: {tensorboard: false}\n")
    with pytest.raises(ConfigError, match=r"^tracking\.tensorboard: the trackers are a list, .* tracking=\["):
        load_layers(tmp_path / "a.yaml", ["tracking.tensorboard=false"])
    with pytest.raises(ConfigError, match=r"^tracking\.tensorboard: the trackers are a list"):
        load_layers(tmp_path / "b.yaml")
    assert load_layers(tmp_path / "a.yaml", ["tracking=[]"])[1] == {"tracking": []}


def test_a_run_with_the_old_mapping_says_so_in_its_log_and_goes_on_with_either(cli: Cli, small: Path) -> None:
    small.write_text(small.read_text().replace("tracking: []", "tracking: {tensorboard: true}"))
    assert cli("run", small, "run.dir=out", "-q").status == 0
    told = [line for line in Path("out/log.txt").read_text().splitlines() if "tracking" in line]
    assert len(told) == 1
    assert told[0].endswith("it is read as the list of trackers [tensorboard]")
    assert cli("resume", "out", "tracking.tensorboard=false", "rounds=4", "-q").status == 0
    assert cli("resume", "out", "rounds=5", "-q").status == 0
    assert "resumed after round 4" in Path("out/log.txt").read_text()
