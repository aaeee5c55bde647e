"""The modules that Ray's processes import while the rest comes up: all that any of the actors needs."""

from __future__ import annotations

from fedray.core.collector import collector_off

with collector_off():
    import fedray.cluster.driver  # noqa: F401
