"""The cluster: a run on Ray, which no other folder imports."""

import logging
import os
import warnings
from contextlib import suppress
from importlib import import_module

from fedray.core.notebooks import in_notebook

SETTINGS = {
    "RAY_worker_niceness": "0",  # Ray's default of 15 starves workers on a shared machine
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_DEDUP_LOGS": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    # The CPUs of a placement group count as taken before anybody uses them, and Ray ends processes that idle beyond the
    # free CPUs after a second: those that it had started ahead for the workers of that very group.
    "RAY_idle_worker_killing_time_threshold_ms": "60000",
    # Prestarted workers import what actors need while the rest comes up.  Undocumented: without it, start is slower.
    "RAY_preload_python_modules": "fedray.cluster.start.preload",
}

# Ray reads some of these when it is imported, so they are set before any module here imports it; the user's win.
for _name, _value in SETTINGS.items():
    os.environ.setdefault(_name, _value)

# Below a cell Ray asks for widgets that nothing here shows, and so does tqdm, which it imports.
if in_notebook():
    logging.getLogger("ray.widgets").setLevel(logging.WARNING)
    with warnings.catch_warnings(action="ignore"), suppress(ImportError):
        import_module("tqdm.auto")
