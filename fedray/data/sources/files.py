"""Sources that read the user's tables and folders.

What they read with is imported by those who read: pyarrow alone takes a third of a second.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from fedray.data.federated import FederatedData
from fedray.data.registry import data_sources
from fedray.data.sources.base import Source, make_partitioner


@data_sources.register("csv")
@dataclass(frozen=True, kw_only=True)
class Csv(Source):
    """CSV files with a header, one per client; see ``FederatedData.from_csv``.

    Args:
        train: the files, one per client, named after the files; or, with ``partition``, files whose rows are pooled.
        target: name of the target column.
        test: file of the held-out test set.
        task: auto, classification or regression.
        categorical: ``[columns]`` or ``{column: [values]}``.
        classes: class names in the order of their indices.
        standardize: centre and scale numeric columns by federated sums.
        ids: client ids in place of the files' names.
        partition: a partitioner for the pooled rows, e.g. ``{name: column, column: hospital}``.
    """

    train: list[str]
    target: str
    test: str | None = None
    task: Literal["auto", "classification", "regression"] = "auto"
    categorical: Any = None
    classes: list[str] | None = None
    standardize: bool = True
    ids: list[str] | None = None
    partition: dict[str, Any] | None = None

    def read(self, seed: int) -> FederatedData:
        return FederatedData.from_csv(
            self.train,
            target=self.target,
            test=self.test,
            task=self.task,
            categorical=self.categorical,
            classes=self.classes,
            standardize=self.standardize,
            ids=self.ids,
            partitioner=None if self.partition is None else make_partitioner(self.partition),
            seed=seed,
        )


@data_sources.register("folder")
@dataclass(frozen=True, kw_only=True)
class Folder(Source):
    """A folder with one Parquet or NPZ file per client; see ``FederatedData.from_folder``.

    Args:
        path: the folder.
        target: name of the target column; for Parquet only, as are the options after ``test``.
        test: file of the held-out test set.
        task: auto, classification or regression.
        categorical: ``[columns]`` or ``{column: [values]}``.
        classes: class names in the order of their indices.
        standardize: centre and scale numeric columns by federated sums.
    """

    path: str
    target: str | None = None
    test: str | None = None
    task: Literal["auto", "classification", "regression"] = "auto"
    categorical: Any = None
    classes: list[str] | None = None
    standardize: bool = True

    def read(self, seed: int) -> FederatedData:
        return FederatedData.from_folder(
            self.path,
            target=self.target,
            test=self.test,
            task=self.task,
            categorical=self.categorical,
            classes=self.classes,
            standardize=self.standardize,
        )


@data_sources.register("leaf")
@dataclass(frozen=True, kw_only=True)
class Leaf(Source):
    """LEAF JSON, one client per user (Caldas et al., arXiv:1812.01097); see ``leaf.read_users``.

    Args:
        path: a JSON file, a folder of them, or a folder with ``train`` and ``test``.
        test: file or folder of the test set.
    """

    path: str
    test: str | None = None

    def read(self, seed: int) -> FederatedData:
        from fedray.data.files.leaf import read_users

        return read_users(Path(self.path), None if self.test is None else Path(self.test)).of(FederatedData)


@data_sources.register("femnist")
@dataclass(frozen=True, kw_only=True)
class Femnist(Source):
    """FEMNIST in LEAF JSON: 62 classes of handwritten characters 1 x 28 x 28, one client per writer.

    Args:
        path: LEAF's ``data`` folder with ``train`` and ``test``, or a folder of JSON files.
        test: file or folder of the test set.
    """

    path: str
    test: str | None = None

    def read(self, seed: int) -> FederatedData:
        from fedray.data.files.leaf import read_users

        test = None if self.test is None else Path(self.test)
        return read_users(Path(self.path), test, (1, 28, 28), 62).of(FederatedData)
