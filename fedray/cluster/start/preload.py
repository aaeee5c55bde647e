"""Imports of Ray's processes while the rest comes up: all that an actor needs, whichever it will be."""

from __future__ import annotations

from fedray.core.collector import collector_off

with collector_off():
    import fedray.cluster.driver  # noqa: F401
