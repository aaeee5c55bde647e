"""The step of an installation that compiles what is written in C; without a compiler there it makes nothing.

In a checkout that is not installed, ``python hatch_build.py`` does it by hand.
"""

from __future__ import annotations

import importlib.util
import os
import re
import shlex
import subprocess
import sysconfig
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

ROOT = Path(__file__).parent

SOURCE = ROOT / "fedray" / "aggregators" / "exact.c"


class CustomBuildHook(BuildHookInterface[Any]):
    """Hatchling's hook, for wheels and for editable installations."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compile the library into the package, and say that the wheel is one of this platform."""
        if (made := build(SOURCE)) is not None:
            build_data["artifacts"].append(str(made.relative_to(ROOT)))
            build_data["pure_python"] = False
            # The library knows nothing of Python, so that any version of it may have the wheel.
            build_data["tag"] = f"py3-none-{re.sub('[-.]', '_', sysconfig.get_platform())}"


def build(source: Path) -> Path | None:
    """Compile a source by ``$CC``, by default ``cc``, into the library beside it; None if that cannot be done."""
    # By its path: to import the package wants torch, which an installation does not have yet.
    spec = importlib.util.spec_from_file_location("compiled", ROOT / "fedray/aggregators/compiled.py")
    assert spec is not None
    assert spec.loader is not None
    compiled = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(compiled)
    made: Path = compiled.library_path(source)
    new = made.with_name(f"{made.name}.{os.getpid()}")
    command = [*shlex.split(os.environ.get("CC") or "cc"), *compiled.FLAGS, "-o", str(new), str(source), "-lm"]
    try:
        done = subprocess.run(command, capture_output=True, check=False)
    except OSError:
        return None
    if done.returncode:
        new.unlink(missing_ok=True)
        return None
    new.replace(made)
    # Those of other machines that share the folder stay.
    for other in set(made.parent.glob(f"{made.name.rpartition('-')[0]}-*.library")) - {made}:
        other.unlink(missing_ok=True)
    return made


if __name__ == "__main__":
    raise SystemExit(None if build(SOURCE) else "No C compiler here could make the library.")
