"""Sources that read the user's tables and folders.

The libraries for it are imported where a table is read: pyarrow alone takes a third of a second.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from fedray.data.columns.holdout import Holdout
from fedray.data.federated import FederatedData
from fedray.data.files.own_tests import files_in, named_files, own_files
from fedray.data.registry import data_sources
from fedray.data.sources.base import Whole, make_partitioner
from fedray.data.sources.tables import EncodedSource, TableSource

if TYPE_CHECKING:
    from fedray.data.files.arrow import ColumnOptions
    from fedray.data.partition import Partitioner


@data_sources.register("csv")
@dataclass(frozen=True, kw_only=True)
class Csv(TableSource):
    """CSV files with a header, one per client; see ``FederatedData.from_csv``.

    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     for name in ("north", "south"):
    ...         _ = Path(folder, f"{name}.csv").write_text("age,sick\\n40,no\\n60,yes\\n")
    ...     data = Csv(train=[f"{folder}/north.csv", f"{folder}/south.csv"], target="sick").load(seed=1)
    >>> data.client_id(0), data.spec.classes
    ('north', ('no', 'yes'))

    Args:
        train: the files, one per client, named after the files; or, with ``partition``, files whose rows are pooled.
        target: name of the target column.
        test: file of the held-out test set; or a list of files, one for each client, or ``{client: file}``: the
            clients' own test sets.
        ids: client ids in place of the files' names.
        partition: a partitioner for the pooled rows, e.g. ``{name: column, column: hospital}``; ``{seed: 1}``
            alone is the seed of held-out rows, and leaves a client to each file.
    """

    train: list[str]
    target: str
    test: Any = None
    ids: list[str] | None = None
    partition: dict[str, Any] | None = None

    @property
    def _partition(self) -> dict[str, Any] | None:
        """The section of a partitioner; None: a client for each file, as where there is a seed alone."""
        return None if self.partition is None or list(self.partition) == ["seed"] else self.partition

    def tests(self) -> list[Path]:
        names = None if self._partition is not None else self.ids or [Path(file).stem for file in self.train]
        own = own_files(self.test, names)
        return super().tests() if own is None else [file for file, _ in own]

    def read(self, seed: int, encoding: Mapping[str, Any] | None = None) -> FederatedData:
        from fedray.data.encoding.saved import load_encoding
        from fedray.data.files.csvs import read_csvs

        rule, read = self.partitioner(), load_encoding(encoding)
        columns = read_csvs(self.train, self.options(), self.test, self.ids, rule, seed, self.holdout, read)
        return columns.of(FederatedData)

    def partitioner(self) -> Partitioner | None:
        return None if self._partition is None else make_partitioner(self._partition)

    def files(self) -> Mapping[str, Path]:
        names = self.train if self._partition is not None else self.ids or [Path(file).stem for file in self.train]
        return {name: Path(file) for name, file in zip(names, self.train, strict=False)}


@data_sources.register("folder")
@dataclass(frozen=True, kw_only=True)
class Folder(Whole, TableSource):
    """A folder with one Parquet or NPZ file per client; see ``FederatedData.from_folder``.

    >>> from tempfile import TemporaryDirectory
    >>> import numpy as np
    >>> with TemporaryDirectory() as folder:
    ...     for name in ("north", "south"):
    ...         np.savez(f"{folder}/{name}.npz", x=np.zeros((5, 3)), y=np.arange(5) % 2)
    ...     data = Folder(path=folder).load(seed=1)
    >>> data.client_id(0), data.sizes, data.spec.shape
    ('north', array([5, 5]), (3,))

    Args:
        path: the folder.
        test: file of the held-out test set; or the clients' own: a folder of files named as theirs, a list with one for
            each, or ``{client: file}``.
        target: name of the target column; for Parquet only, as are the options but ``test`` and ``ragged``.
        ragged: of NPZ files, options of arrays with offsets: ``{x: {length: 128, pad: 0, mask: attention_mask}}``; also
            ``lengths``.
    """

    path: str
    target: str | None = None
    test: Any = None
    ragged: dict[str, Any] = field(default_factory=dict)

    def read(self, seed: int, encoding: Mapping[str, Any] | None = None) -> FederatedData:
        from fedray.data.encoding.saved import load_encoding
        from fedray.data.files.folder import read_folder

        options = None if self.target is None else self.options()
        read = load_encoding(encoding)
        holdout = Holdout(self.holdout, seed)
        return read_folder(Path(self.path), options, self.test, read, self.ragged, holdout).of(FederatedData)

    def tests(self) -> list[Path]:
        from fedray.data.files.folder import KINDS

        held = named_files(self.test)
        return files_in(held[0], KINDS) if len(held) == 1 and held[0].is_dir() else held

    def files(self) -> Mapping[str, Path]:
        return {file.stem: file for file in sorted(Path(self.path).glob("*.parquet"))}


@data_sources.register("leaf")
@dataclass(frozen=True, kw_only=True)
class Leaf(Whole):
    """LEAF JSON, one client per user (Caldas et al., arXiv:1812.01097); see ``leaf.read_users``.

    >>> import json
    >>> from tempfile import TemporaryDirectory
    >>> users = {"users": ["ann"], "user_data": {"ann": {"x": [[0.5, 1.0], [0.0, 2.0]], "y": [0, 1]}}}
    >>> with TemporaryDirectory() as folder:
    ...     file = Path(folder, "all.json")
    ...     _ = file.write_text(json.dumps(users))
    ...     data = Leaf(path=str(file)).load(seed=1)
    >>> data.client_id(0), data.sizes, data.spec.shape
    ('ann', array([2]), (2,))

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
class Femnist(Whole):
    """FEMNIST in LEAF JSON: 62 classes of handwritten characters 1 x 28 x 28, one client per writer.

    >>> import json
    >>> from tempfile import TemporaryDirectory
    >>> users = {"users": ["f0000_14"], "user_data": {"f0000_14": {"x": [[0.5] * 784], "y": [61]}}}
    >>> with TemporaryDirectory() as folder:
    ...     file = Path(folder, "all.json")
    ...     _ = file.write_text(json.dumps(users))
    ...     data = Femnist(path=str(file)).load(seed=1)
    >>> data.client_id(0), data.spec.shape, data.spec.outputs
    ('f0000_14', (1, 28, 28), 62)

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


@data_sources.register("parquet")
@dataclass(frozen=True, kw_only=True)
class Parquet(Whole, EncodedSource):
    """Columns of Parquet or Arrow files: numbers, lists, bytes and pictures as they are, others encoded as a table's.

    Of several columns the model is called with each by its name.  Lists of different lengths are as
    :class:`fedray.Ragged`.  Bytes of PNG, JPEG and the like, also as Hugging Face's ``{bytes, path}``, are decoded to
    ``[C, H, W]``; those of a target are masks of classes.  Columns of ``encode`` may have missing values, dates, and
    categories, and become what those of ``csv`` do, each an input of its own, ``[B, k]``; a run keeps how.  Tables
    without arrays are read by ``csv`` and ``folder``.

    >>> from tempfile import TemporaryDirectory
    >>> import pyarrow.parquet
    >>> rows = {"words": [[3, 1], [2], [5, 5, 5]], "kind": [0, 1, 1], "who": ["ann", "ann", "bob"]}
    >>> with TemporaryDirectory() as folder:
    ...     pyarrow.parquet.write_table(pyarrow.table(rows), f"{folder}/all.parquet")
    ...     data = Parquet(path=f"{folder}/all.parquet", target="kind", client="who").load(seed=1)
    >>> data.client_id(0), data.sizes, data.spec.inputs
    ('ann', array([2, 1]), '3 tokens of 6')

    Args:
        path: a folder with a file for each client, named by it (.parquet, .arrow or .feather); or, with ``client``, one
            file, or a folder of files with rows of whomever.
        target: the column of targets; none: there are no targets.
        client: the column that says whose a row is.
        columns: the columns that are inputs; by default all others.
        ignore: columns that are no inputs, such as the ids of patients.
        encode: the inputs that are encoded as a table's are, ``[age, sex]``: numbers scaled, missing ones filled in,
            dates as days.
        categorical: those of them that are categories, ``[sex]`` or ``{sex: [f, m]}``; of many values
            ``{ward: {top: 20}}`` or ``{hash: 64}``.
        ordinal: ``{column: [low, mid, high]}``: levels as numbers.
        missing: ``{column: [0]}``: values that stand for a missing one.
        missing_values: impute: the federated mean, or indicator: beside it an input that is 1 where one is missing.
        standardize: centre and scale the numbers among them by federated sums.
        unseen: error, or other: take values of no known category for ``other``, else for missing ones.
        shapes: the shape of one value of a column of bytes or lists: ``{image: [28, 28]}``.
        ragged: of columns of lists of different lengths ``{words: {length: 128, mask: attention_mask}}``; also
            ``pad`` and ``lengths``.
        pictures: of columns of encoded pictures, which must have one mode and one size, the ones that they are brought
            to: ``{image: {mode: RGB, size: [64, 64]}}``; mode ``L`` (grey) or ``RGB``, size height and width.
        split: the column that says which rows are the test sets of the clients: ``train`` or ``test``, or booleans,
            true for test.
        test: file of the held-out test set; or the clients' own: with ``client`` a file, or a folder, with that column;
            else a folder of files named as the clients', a list with one for each, or ``{client: file}``.
    """

    path: str
    target: str | None = None
    client: str | None = None
    columns: list[str] | None = None
    ignore: list[str] = field(default_factory=list)
    encode: list[str] = field(default_factory=list)
    categorical: Any = None
    ordinal: dict[str, Any] = field(default_factory=dict)
    missing: dict[str, Any] = field(default_factory=dict)
    missing_values: Literal["impute", "indicator"] = "impute"
    standardize: bool = True
    unseen: Literal["error", "other"] = "error"
    shapes: dict[str, Any] = field(default_factory=dict)
    ragged: dict[str, Any] = field(default_factory=dict)
    pictures: dict[str, Any] = field(default_factory=dict)
    split: str | None = None
    test: Any = None

    def options(self) -> ColumnOptions:
        """Return the columns of its files, and what each is."""
        from fedray.data.files.arrow import ColumnOptions
        from fedray.data.files.beside import ENCODED, encoding_options

        table = encoding_options(self.encode, {key: getattr(self, key) for key in ENCODED})
        said = {one.name: getattr(self, one.name) for one in fields(ColumnOptions) if one.name != "table"}
        return ColumnOptions(**said, table=table)

    def read(self, seed: int, encoding: Mapping[str, Any] | None = None) -> FederatedData:
        from fedray.data.encoding.saved import load_encoding
        from fedray.data.files.arrow import read_arrow

        read, holdout = load_encoding(encoding), Holdout(self.holdout, seed)
        return read_arrow(Path(self.path), self.test, self.options(), read, holdout).of(FederatedData)
