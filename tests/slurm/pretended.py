"""Slurm's commands as programs that only pretend."""

from __future__ import annotations

from pathlib import Path


class Slurm:
    """Its commands, as programs: numbers for jobs, and what was submitted and cancelled."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()
        (folder / "jobs").write_text("10\n")
        counted = 'n=$(($(cat jobs)+1)); echo $n > jobs; cp "$2" $n.sbatch; env > $n.env; echo PENDING > $n; echo $n'
        shown = 'j=${4%%_*}; [ -e $j ] && echo "JobId=$j JobState=$(cat $j) Reason=None" || exit 1'
        for name, body in {"sbatch": counted, "scontrol": shown, "scancel": "echo CANCELLED > ${1%%_*}"}.items():
            (folder / name).write_text(f"#!/bin/sh\ncd {folder}\n{body}\n")
            (folder / name).chmod(0o755)

    def script(self, job: int) -> str:
        return (self.folder / f"{job}.sbatch").read_text()

    def jobs(self) -> list[int]:
        return sorted(int(path.stem) for path in self.folder.glob("*.sbatch"))

    def end(self, job: int) -> None:
        (self.folder / str(job)).write_text("COMPLETED")
