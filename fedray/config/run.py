"""The section ``run`` of a config."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class RunSection:
    """``run``: the place of the results, and how the run itself is looked at.

    >>> RunSection(profile="3-5").profiled, RunSection(profile=4).profiled, RunSection().profiled
    ((3, 5), (4, 4), None)

    Args:
        dir: the run folder, within no other one and around none; default ``runs/<config name>/<time>``.
        profile: the rounds, ``3-5`` or ``3``, of which torch.profiler writes a trace of the driver and of each worker
            into the folder ``profile``; default: none.
    """

    dir: str | None = None
    profile: Any = None

    def __post_init__(self) -> None:
        found = self.profiled
        if found is not None and not 1 <= found[0] <= found[1]:
            raise ValueError(f"profile={self.profile}: rounds begin with 1, and the first comes before the last")

    @property
    def profiled(self) -> tuple[int, int] | None:
        """The first and the last round to be profiled; None: there is none."""
        if self.profile is None:
            return None
        found = re.fullmatch(r"(\d{1,9})(?:-(\d{1,9}))?", str(self.profile))
        if found is None or isinstance(self.profile, bool):
            raise ValueError(f"profile={self.profile}: rounds are needed, such as 3-5, or 3")
        return int(found[1]), int(found[2] or found[1])
