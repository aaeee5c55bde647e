"""An exported model: its kind of file, what is beside it, and nothing overwritten unasked."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from fedray.core.errors import ConfigError
from fedray.experiment.export import export_model
from fedray.rundir.folder import RunFolder

EARLIER = Path(__file__).resolve().parents[1] / "rundir" / "earlier"


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunFolder:
    """A run on tables."""
    shutil.copytree(EARLIER, tmp_path / "work")
    monkeypatch.chdir(tmp_path / "work")
    folder = RunFolder(Path("run"))
    folder.keep_encoding({"format": 1, "columns": [{"name": "größe", "mean": 1.5}]})
    return folder


def test_an_export_of_tables_has_their_encoding_beside_it(run: RunFolder) -> None:
    Path("out").mkdir()
    written = export_model(run, Path("out/model.safetensors"))
    assert written == [Path("out/model.safetensors"), Path("out/encoding.json")]
    assert written[1].read_bytes() == Path("run/encoding.json").read_bytes()
    export_model(run, Path("out/again.safetensors"))  # the encoding is the same


def test_nothing_is_overwritten_without_a_word(run: RunFolder) -> None:
    out = Path("model.safetensors")
    out.write_text("mine")
    with pytest.raises(ConfigError, match=r"model\.safetensors: there already, .*--force"):
        export_model(run, out)
    assert out.read_text() == "mine"
    out.unlink()
    Path("encoding.json").write_text("{}")
    with pytest.raises(ConfigError, match=r"encoding\.json: there already"):
        export_model(run, out)
    assert not out.exists()
    export_model(run, out, force=True)
    assert Path("encoding.json").read_bytes() == Path("run/encoding.json").read_bytes()


@pytest.mark.parametrize("name", ["model.pt", "model"])
def test_another_kind_of_file_is_refused(run: RunFolder, name: str) -> None:
    with pytest.raises(ConfigError, match=r"the format is safetensors, so call the file model\.safetensors"):
        export_model(run, Path(name))
    assert not Path(name).exists()


@pytest.mark.parametrize(
    ("out", "message"),
    [
        (".", r"^\. is a folder; name the file to write, as model\.safetensors$"),
        ("run", r"^run is a folder; name the file to write, as run/model\.safetensors$"),
        ("", r"^\. is a folder"),
        ("m.pt", r"^m\.pt: the format is safetensors, so call the file m\.safetensors"),
        ("..", r"^\.\. is a folder"),
    ],
)
def test_an_export_goes_into_a_file_of_its_kind(run: RunFolder, out: str, message: str) -> None:
    before = sorted(Path().rglob("*"))
    with pytest.raises(ConfigError, match=message):
        export_model(run, Path(out))
    assert sorted(Path().rglob("*")) == before
