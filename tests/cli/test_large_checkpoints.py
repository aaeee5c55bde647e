"""A run whose checkpoints are in several files is like any other."""

from __future__ import annotations

from pathlib import Path

import pytest

from fedray.rundir import tensor_files
from tests.cli.command import Cli, hashes


def test_a_run_goes_on_from_several_files_with_the_bits_of_one(
    cli: Cli, small: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The model has 53 numbers, and its server optimizer keeps two more for each."""
    options = (small, "algorithm=fedadam", "rounds=4", "checkpoint.every=1", "checkpoint.keep=4")
    assert cli("run", *options, "run.dir=one").status == 0
    monkeypatch.setattr(tensor_files, "LARGEST", 80)
    assert cli("run", *options, "rounds=3", "run.dir=several").status == 0
    folder = Path("several") / "checkpoints" / "round-00000003"
    files = sorted(path.name for path in folder.glob("tensors*"))
    assert len(files) > 8
    assert files[0] == f"tensors-00001-of-{len(files):05d}.safetensors"
    # Of a run that is over, the last file of its last checkpoint is gone: it goes on from the one before.
    (folder / files[-1]).unlink()
    assert cli("resume", "several", "rounds=4").status == 0
    assert f"round-00000003 is incomplete: [Errno 2] No such file or directory: '{folder / files[-1]}'" in caplog.text
    assert "resumed after round 2" in caplog.text
    assert hashes(Path("several")) == hashes(Path("one"))
    assert cli("verify", "several").status == 0
    assert "round 4" in cli("status", "several").out
    for run in ("one", "several"):
        assert cli("export", run, f"{run}.safetensors").status == 0
    assert Path("several.safetensors").read_bytes() == Path("one.safetensors").read_bytes()
