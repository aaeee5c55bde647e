"""The registries of data sources and partitioners."""

from __future__ import annotations

from fedray.config.registry import Registry

data_sources = Registry("data source", package="fedray.data.sources")
partitioners = Registry("partitioner", package="fedray.data.partition")
