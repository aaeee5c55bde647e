"""Federated data: a contiguous store with client offsets, its sources, and partitioners."""

from fedray.data.columns.base import ClientData
from fedray.data.columns.rows import Examples, Rows
from fedray.data.federated import FederatedData
from fedray.data.registry import data_sources, partitioners
from fedray.data.spec import DataSpec

__all__ = ["ClientData", "DataSpec", "Examples", "FederatedData", "Rows", "data_sources", "partitioners"]
