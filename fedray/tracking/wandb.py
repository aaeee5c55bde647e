"""Runs as Weights & Biases has them: in files of the run folder, or on its server where that is asked for."""

from __future__ import annotations

import secrets
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

from fedray.core.errors import ConfigError
from fedray.core.record import RoundRecord
from fedray.tracking.base import RunInfo, Tracker, trackers
from fedray.tracking.services import KeptIds, facts, options, require
from fedray.tracking.tensorboard import scalars


def history(record: RoundRecord) -> dict[str, float]:
    """Return the numbers of a record by the names that TensorBoard has too, and ``round`` as an axis for them.

    >>> history(RoundRecord(3, seconds=2.0, train={"loss": 0.5}))
    {'round': 3, 'train/loss': 0.5, 'time/round_seconds': 2.0}
    """
    return {"round": record.round, **scalars(record)}


@trackers.register("wandb")
@dataclass
class WandB(Tracker):
    """The tracker that hands a run to Weights & Biases (needs the extra: ``pip install fedray[wandb]``).

    Its history is :func:`history` with the round as step; its config is that of the run, with ``fedray`` (version,
    config's SHA-256, run folder); its summary has ``fedray/status``.  Nothing leaves the machine unless ``mode`` is
    ``online``: the files lie in ``wandb`` in the run folder, and ``wandb sync`` uploads them.  The run's id stands in
    ``wandb.json`` in the run folder, so a resume goes on under the same id: offline in a folder of its own beside the
    one before.

    >>> WandB(project="diagnosis").hint(Path("runs/first"))
    'upload to W&B: wandb sync runs/first/wandb/offline-run-*'

    Args:
        project: its name.
        entity: user or team; default: that of the account.
        run_name: default: the name of the config.
        mode: ``offline`` or ``online``; the latter needs an account, by ``WANDB_API_KEY`` or ``wandb login``.
    """

    project: str = "fedray"
    entity: str | None = None
    run_name: str | None = None
    mode: Literal["offline", "online"] = "offline"

    background: ClassVar[bool] = True

    def __post_init__(self) -> None:
        self._run: Any = None

    def check(self) -> None:
        """Look if the package is installed and, to be online, if there is an account."""
        require("wandb", "wandb")
        if self.mode == "online":
            import wandb

            if not wandb.login(prompt=False, verify=False):
                raise ConfigError(
                    "tracking: wandb with mode=online needs an account; set WANDB_API_KEY, call `wandb login`, "
                    "or leave mode=offline"
                )

    def hint(self, run_dir: Path) -> str:
        """Return the command that uploads what was written offline."""
        if self.mode == "online":
            return ""
        return f"upload to W&B: wandb sync {shlex.quote(str(run_dir))}/wandb/offline-run-*"

    def hint_of_all(self, folder: Path) -> str:
        """Return the command that uploads what all runs have written offline."""
        if self.mode == "online":
            return ""
        return f"upload to W&B: wandb sync {shlex.quote(str(folder))}/*/wandb/offline-run-*"

    def start(self, run: RunInfo) -> None:
        """Begin a run of W&B, or go on with the one before."""
        import wandb

        self.close()
        place = f"{self.entity or ''}/{self.project}"
        ids = KeptIds(run.run_dir / "wandb.json")
        kept = ids.get(place)
        if kept is None:
            kept = secrets.token_hex(8)
            ids.keep(place, kept)
        self._run = wandb.init(
            project=self.project,
            entity=self.entity,
            name=self.run_name or run.name,
            id=kept,
            resume="allow",
            dir=str(run.run_dir),
            mode=self.mode,
            config={**options(run), "fedray": facts(run)},
            allow_val_change=True,
            reinit="create_new",  # a run that the user has in this process stays the user's
            settings=wandb.Settings(silent=True, console="off"),
        )
        self._run.define_metric("*", step_metric="round")

    def round(self, record: RoundRecord) -> None:
        """Hand on the record's numbers."""
        if self._run is None:
            raise RuntimeError("a record came before start or after close")
        self._run.log(history(record), step=record.round)

    def finish(self, summary: dict[str, Any]) -> None:
        """Mark the run as finished."""
        self._run.summary["fedray/status"] = summary["status"]
        self._end(0)

    def close(self) -> None:
        """Mark a run that did not come to its end as failed."""
        self._end(1)

    def _end(self, status: int) -> None:
        run, self._run = self._run, None
        if run is not None:
            run.finish(exit_code=status)
