"""A plugin that cannot be imported costs its own parts and a warning, no more."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from fedray.config.plugins import load_plugins
from fedray.config.registry import bind_part
from fedray.core.errors import ConfigError
from fedray.sampling import samplers


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder of installed packages: one plugin that is whole, and one for each way to break."""
    packages = {
        "whole_parts": (
            "from dataclasses import dataclass\nfrom fedray.parts import Sampler, samplers\n"
            "@dataclass(frozen=True)\nclass Nobody(Sampler):\n    '''No client.'''\n"
            "samplers._entries.pop('nobody', None)\nsamplers.register('nobody')(Nobody)\n"
        ),
        "absent_parts": "import a_package_that_is_not_there\n",
        "leaving_parts": "import sys\nsys.exit(3)\n",
        "taking_parts": "from fedray.parts import samplers\nsamplers.register('full')(object)\n",
    }
    for name, code in packages.items():
        (tmp_path / f"{name}.py").write_text(code)
        info = tmp_path / f"{name}-0.1.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name.replace('_', '-')}\nVersion: 0.1\n")
        (info / "entry_points.txt").write_text(f"[fedray.parts]\n{name} = {name}\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    load_plugins.cache_clear()
    yield tmp_path
    samplers._entries.pop("nobody", None)
    load_plugins.cache_clear()


@pytest.mark.usefixtures("site")
def test_each_broken_plugin_is_named_once_and_breaks_nobody_else(caplog: pytest.LogCaptureFixture) -> None:
    assert "nobody" in samplers
    assert bind_part(samplers, "full", "sampler") == samplers["full"]()
    said = sorted(record.getMessage() for record in caplog.records if record.levelname == "WARNING")
    assert [words.partition(" of ")[0] for words in said] == [
        "plugin 'absent_parts'",
        "plugin 'leaving_parts'",
        "plugin 'taking_parts'",
    ]
    assert "of absent-parts 0.1 cannot be imported, its parts are missing: ModuleNotFoundError" in said[0]
    assert "ValueError: sampler 'full' is registered twice" in said[2]
    assert sorted(load_plugins()) == said


@pytest.mark.usefixtures("site")
def test_whoever_misses_a_part_is_told_of_them() -> None:
    with pytest.raises(ConfigError, match=r"unknown sampler 'absent'.*; plugin 'absent_parts' of absent-parts 0\.1"):
        bind_part(samplers, "absent", "sampler")
