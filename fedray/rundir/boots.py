"""The boot of a machine, by which it shows whether what processes wrote without waiting for the disk is still there."""

from __future__ import annotations

from contextlib import suppress
from functools import cache
from pathlib import Path

import psutil

LOCAL = frozenset({"btrfs", "ext2", "ext3", "ext4", "f2fs", "tmpfs", "xfs", "zfs"})
"""The types of file systems that are the kernel's own, which finds the space for a page before it takes it.

Not those of a network, nor of a process (FUSE), nor ``overlay``, which may lie on either.
"""


@cache
def boot_id() -> str | None:
    """Return the id that the kernel drew when it booted; None: it tells none, and nobody can know its boot again."""
    with suppress(OSError):
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip() or None
    return None


def keeping_boot(folder: Path) -> str | None:
    """Return the id of the boot through which what is written in a folder outlives the process that wrote it.

    A process that is killed loses nothing that the kernel has taken: whoever finds the same boot finds all lines.  On a
    file system of a network that is not so, as a server may refuse later what the kernel has taken; there, and
    where the kernel names no boot, the answer is None, and only what was forced to the disk can be relied on.

    Args:
        folder: it is there.
    """
    return boot_id() if file_system(folder) in LOCAL else None


def file_system(folder: Path) -> str:
    """Return the type of the mount that a folder lies on, and an empty string where nobody knows."""
    best, kind = -1, ""
    with suppress(OSError):
        real = folder.resolve()
        for mount in psutil.disk_partitions(all=True):
            point = Path(mount.mountpoint)
            if real.is_relative_to(point) and len(point.parts) >= best:
                best, kind = len(point.parts), mount.fstype
    return kind
