"""The boot of a machine, and the file systems on which a process that is killed leaves what it wrote."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from fedray.rundir import boots


def test_what_is_written_is_kept_by_a_boot_on_the_file_systems_of_the_kernel_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(boots, "boot_id", lambda: "a boot")
    for kind, kept in [("ext4", True), ("xfs", True), ("nfs4", False), ("fuse.sshfs", False), ("", False)]:
        monkeypatch.setattr(boots, "file_system", lambda folder, kind=kind: kind)
        assert boots.keeping_boot(tmp_path) == ("a boot" if kept else None)


@pytest.mark.skipif(sys.platform != "linux", reason="needs the boot id of Linux")
def test_the_boot_is_the_one_that_the_kernel_names() -> None:
    assert boots.boot_id() == Path("/proc/sys/kernel/random/boot_id").read_text().strip()


@pytest.mark.skipif(sys.platform != "linux", reason="needs the mounts of Linux")
def test_the_file_system_of_a_folder_is_that_of_its_own_mount() -> None:
    assert [boots.file_system(Path(place)) for place in ("/proc", "/proc/self")] == ["proc", "proc"]
