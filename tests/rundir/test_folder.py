"""A run folder: claimed by one run, given up without a trace, and never taken from a run that has done something."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from fedray.core.errors import ConfigError
from fedray.rundir.configs import keep_config
from fedray.rundir.folder import RunFolder, as_json
from fedray.rundir.lock import driving
from fedray.rundir.names import CONFIG, ENCODING, LABELS, LOG, METRICS, SENT, SUMMARY


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    """A folder that is not there yet."""
    return RunFolder(tmp_path / "deep" / "run")


def test_a_claim_is_undone_whole(folder: RunFolder) -> None:
    folder.claim("rounds: 3\n")
    assert folder.config() == "rounds: 3\n"
    for made in (folder.state, folder.workers, folder.clients):
        made.mkdir()
    for name in (METRICS, SUMMARY, LOG, ENCODING, LABELS, SENT):
        (folder.path / name).touch()
    folder.unclaim()
    assert not folder.path.exists()
    folder.claim("rounds: 4\n")  # and it is free again


@pytest.mark.parametrize("trace", [METRICS, "checkpoints/round-00001"])
def test_who_has_done_a_round_keeps_its_folder(trace: str, folder: RunFolder) -> None:
    folder.claim("rounds: 3\n")
    path = folder.path / trace
    path.parent.mkdir(exist_ok=True)
    path.write_text("{}\n") if trace == METRICS else path.mkdir()
    if trace != METRICS and not list(folder.checkpoints.iterdir()):
        raise AssertionError
    before = sorted(folder.path.rglob("*"))
    folder.unclaim()
    assert sorted(folder.path.rglob("*")) == before


def test_what_another_process_drives_by_now_is_left_alone(folder: RunFolder) -> None:
    folder.claim("rounds: 3\n")
    unclaimed: list[bool] = []

    def give_up() -> None:
        folder.unclaim()
        unclaimed.append(not folder.path.exists())

    with driving(folder.path):
        other = threading.Thread(target=give_up)
        other.start()
        other.join()
        assert folder.config() == "rounds: 3\n"
    assert unclaimed == [False]


@pytest.mark.parametrize("name", [CONFIG, METRICS])
def test_a_used_folder_is_refused_with_what_to_do(name: str, folder: RunFolder) -> None:
    folder.path.mkdir(parents=True)
    (folder.path / name).write_text("rounds: 3\n")
    with pytest.raises(ConfigError, match=r"already holds a run; go on with `fedray resume .*run` or choose another"):
        folder.claim("rounds: 9\n")
    assert (folder.path / name).read_text() == "rounds: 3\n"


def test_of_two_that_claim_at_once_one_is_refused(folder: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    """The other was there between the look and the claim."""
    look = RunFolder.check_new
    looks: list[int] = []

    def look_and_be_late(self: RunFolder) -> None:
        look(self)
        if not looks:
            looks.append(1)
            RunFolder(self.path).claim("seed: 1\n")

    monkeypatch.setattr(RunFolder, "check_new", look_and_be_late)
    with pytest.raises(ConfigError, match="already holds a run"):
        folder.claim("seed: 2\n")
    assert folder.config() == "seed: 1\n"


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match=r"^run\.dir: .*file/run cannot be written: Not a directory"):
        RunFolder(tmp_path / "file" / "run").claim("")


def test_an_encoding_is_read_back_and_a_torn_one_is_said(folder: RunFolder) -> None:
    folder.claim("")
    assert folder.encoding() is None
    folder.keep_encoding(None)
    assert not (folder.path / ENCODING).exists()
    encoding = {"target": "Größe", "columns": [{"name": "a", "mean": 0.1}]}
    folder.keep_encoding(encoding)
    assert folder.encoding() == encoding
    assert "Größe".encode() in as_json(encoding), "for people to read"
    (folder.path / ENCODING).write_text('{"target"')
    with pytest.raises(ConfigError, match=r"encoding\.json cannot be read"):
        folder.encoding()


def test_a_config_that_changes_is_kept_from_its_first_round_on(folder: RunFolder) -> None:
    folder.claim("seed: 1\n")
    (folder.path / METRICS).touch()
    keep_config(folder.path, "seed: 1\n", 1)
    folder.keep_config("seed: 2\n", first=4)
    assert folder.config() == "seed: 2\n"
    assert (folder.path / CONFIG).read_text() == "seed: 1\n"


def test_what_has_not_ended_has_an_empty_summary(folder: RunFolder) -> None:
    folder.claim("")
    assert folder.summary() == {}
    (folder.path / SUMMARY).write_text('{"status": "finished"}')
    assert folder.summary() == {"status": "finished"}


def test_a_name_that_no_file_system_takes_is_refused(tmp_path: Path) -> None:
    for name, words in (
        ("a\0b", r"no file system takes the sign \\0"),
        ("a" * 300, "cannot be written: File name too long"),
    ):
        with pytest.raises(ConfigError, match=rf"^run\.dir: .*{words}"):
            RunFolder(tmp_path / name).check(resume=False)
