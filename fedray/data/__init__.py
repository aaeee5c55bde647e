"""Federated data: a contiguous store with client offsets, its sources, and partitioners."""

from fedray.data.federated import FederatedData
from fedray.data.registry import data_sources, partitioners
from fedray.data.spec import DataSpec
from fedray.data.store import Examples, Rows

__all__ = ["DataSpec", "Examples", "FederatedData", "Rows", "data_sources", "partitioners"]
