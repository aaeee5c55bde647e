"""``fedray.FederatedData``: the constructors of every kind of data."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self, Unpack

from fedray.core.messages import Ints
from fedray.data.columns.arrays import by_client, random_items, stack_dataset
from fedray.data.columns.base import ClientData
from fedray.data.columns.checks import as_array, as_examples
from fedray.data.columns.contiguous import ContiguousData
from fedray.data.columns.holdout import Holdout
from fedray.data.columns.lazy import from_function
from fedray.data.columns.rows import Examples
from fedray.data.files.own_tests import TestFiles
from fedray.data.partition import Named, Partitioner, assign_rows, chosen
from fedray.data.spec import DataSpec

if TYPE_CHECKING:
    from torch.utils.data import Dataset

    from fedray.data.encoding.options import TableOptions
    from fedray.data.encoding.saved import Saved


class FederatedData(ContiguousData):
    """The examples of n clients, held contiguously, and an optional test set, central or of the clients' own.

    Usually made by one of the ``from_...`` constructors.  The constructor itself takes rows that are already in
    client order, see :class:`ContiguousData`.  Data of every kind, also lazy data and silos, is an instance.

    >>> data = FederatedData.from_arrays([[0.0], [1.0], [2.0]], [0, 1, 1], clients=["north", "north", "south"])
    >>> len(data), data.sizes, data.spec.outputs
    (2, array([2, 1]), 2)
    >>> data.with_holdout(0.5, seed=1).holdout_sizes
    array([1, 0])
    """

    @classmethod
    def __subclasshook__(cls, other: type) -> bool:
        return True if ClientData in other.__mro__ else NotImplemented

    @classmethod
    def from_arrays(
        cls,
        x: Any,
        y: Any,
        clients: Any,
        *,
        test: Any = None,
        test_clients: Any = None,
        ids: Sequence[str] | None = None,
        spec: DataSpec | None = None,
    ) -> Self:
        """Make data from arrays or tensors with one client label per row.

        Args:
            x: inputs ``[N, ...]``: floats, integer tokens, or uint8 images (handed out as float32 in [0, 1]); used
                without a copy where type and order allow.  Or several columns of them: ``{"ids": ids, "age": age}``, by
                whose names a model is called, or ``(ids, age)``, by place.  An array, a column, and targets that are
                classes, may be sequences of different lengths, :class:`fedray.Ragged`.
            y: targets ``[N, ...]``: integers are class indices, floats numbers for regression.  None: tokens are
                their own targets; other inputs have none, and the model gives a loss of each.
            clients: for each row its client: a number in [0, n), or a name.  Rows need not be in order; the rows of
                a client keep theirs.
            test: a pair ``(x, y)`` or :class:`Examples`.
            test_clients: for each row of ``test`` the client whose own it is, as in ``clients``; -1, or an
                empty name: nobody's.  Then
                each client is evaluated on its own test set, unless rows are held out, see :meth:`with_holdout`.
            ids: names of the clients: for numbers, in their order; for names, the order that clients shall have
                (sorted by default).
            spec: shape and meaning of an example; by default read off the arrays.

        Raises:
            ConfigError: lengths that differ, an empty client, bad ids, values that are not finite, a class in the
                test set that training has not.
        """
        return by_client(x, y, clients, test=test, ids=ids, spec=spec, test_clients=test_clients).of(cls)

    @classmethod
    def from_partition(
        cls,
        x: Any,
        y: Any,
        partitioner: Partitioner | Named,
        *,
        seed: int = 0,
        test: Any = None,
        spec: DataSpec | None = None,
    ) -> Self:
        """Split one data set over clients by a partitioner, a function of labels and ``seed`` (see ``from_arrays``).

        The partitioner may also be named as in a config: ``{"name": "dirichlet", "clients": 20, "alpha": 0.3}``.
        """
        labels = as_examples(x, None)[1] if y is None else as_array(y)
        assigned = assign_rows(chosen(partitioner), labels, {}, seed)
        return cls.from_arrays(x, y, assigned, test=test, spec=spec)

    @classmethod
    def from_dataset(
        cls, dataset: Dataset[Any], partitioner: Partitioner | Named, *, seed: int = 0, test: Any = None
    ) -> Self:
        """Read a map-style ``torch.utils.data.Dataset`` of ``(x, y)`` pairs once, and split it by a partitioner.

        Transforms are applied once, at reading; random ones are noticed, and told in a warning of each run on the data:
        :meth:`with_augment` draws anew for each batch.  ``test`` may be such a data set too.
        """
        x, y = stack_dataset(dataset)
        said = random_items(dataset, x)
        if test is not None and not isinstance(test, (Examples, tuple)):
            test = stack_dataset(test)
        data = cls.from_partition(x, y, partitioner, seed=seed, test=test)
        data.warnings = (*data.warnings, *((said,) if said else ()))
        return data

    @classmethod
    def from_csv(
        cls,
        paths: str | Path | Sequence[str | Path],
        *,
        target: str,
        test: TestFiles = None,
        ids: Sequence[str] | None = None,
        partitioner: Partitioner | Named | None = None,
        seed: int = 0,
        holdout: float = 0.0,
        encoding: Saved | None = None,
        **options: Unpack[TableOptions],
    ) -> Self:
        """Read one table with a header per client (silo), text, Excel or Parquet; columns are matched by name.

        Numeric columns are standardised with means and variances from federated sums (see ``moments.Sums``), a
        missing number (empty, NA, NaN, null) becomes the federated mean; categorical columns become one 0/1 input
        per category, all zeros where missing.  Dates are days since 1970, booleans 0 and 1.

        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     text = "alter;größe;krank\\n40;1,80;nein\\n60;-9;ja\\n"
        ...     _ = Path(folder, "nord.csv").write_text(text, encoding="latin-1")
        ...     data = FederatedData.from_csv(f"{folder}/nord.csv", target="krank", csv={"missing": ["-9"]})
        >>> data.spec.classes, data.encoding["columns"][1]["mean"]
        (('ja', 'nein'), 1.8)

        Args:
            paths: the files, one per client.
            target: name of the target column.
            test: a file with the held-out test set, encoded as the training files are.  Or the clients' own: a list
                of files, one for each client in the order of ``paths``, or ``{client: file}`` for some; together they
                are the central test set.  Of a file that has the column of a ``column`` partitioner, each row is that
                client's own.
            ids: client ids; default: the files' names without suffix.
            partitioner: instead of one client per file, split the rows of all files; a ``column`` partitioner
                takes the clients' names from that column, which is then no input.
            seed: seed of the partitioner, and of held-out rows.
            holdout: the fraction of each client's rows that is held out, see :meth:`with_holdout`; of these no scale,
                no fill and no category is learnt.
            encoding: the ``encoding.json`` of a run, or what it holds, to be used instead of learning one from the
                files: for going on with the run, and for its model.
            options: for reading tables:

                ``task``: ``auto`` means classification if ``classes`` is given, the target is text, or it holds at most
                20 different whole numbers; else regression.

                ``categorical``: columns that hold categories, ``{column: [values]}``; with ``[columns]`` or ``{column:
                None}`` the categories are the sorted union over the training files; with ``{column: {"top": 20}}`` the
                most frequent ones, and ``other`` for the rest; with ``{column: {"hash": 64}}`` inputs by a hash.

                ``ordinal``: ``{column: ["low", "mid", "high"]}``: 0, 1, 2, standardised as numbers are.

                ``classes``: class names in the order of their indices; default: the sorted union over the training
                files.

                ``standardize`` (True): centre numeric columns and scale them to unit (population) variance; a constant
                column is only centred.  Regression targets are never scaled.

                ``columns``: the inputs, in this order; by default all columns of the first file.  ``ignore``: columns
                that are no inputs, such as the ids of patients; a file may lack them.

                ``missing``: ``{column: [0]}``: values that stand for a missing one.  ``missing_columns="impute"`` fills
                in columns that a file lacks, ``missing_values="indicator"`` gives each numeric column that has missing
                values an input of its own, 1 where one is missing, ``missing_target="drop"`` leaves out rows without a
                target, ``unseen="other"`` takes values of no known category for ``other`` where the column has it, else
                for missing ones.

                ``csv``: the way text is written, where it is not found right: ``delimiter``, ``decimal``,
                ``thousands``, ``encoding``, ``quote``, ``dates``, ``missing``, ``sheet``; ``files`` has what differs in
                one: ``{"files": {"nord": {"decimal": ","}}}``.

        Raises:
            ConfigError: with file, line and column, for anything that cannot be read as described.
        """
        from fedray.data.encoding.options import Options
        from fedray.data.encoding.saved import load_encoding
        from fedray.data.files.csvs import read_csvs

        files = [paths] if isinstance(paths, (str, Path)) else paths
        rule = None if partitioner is None else chosen(partitioner)
        said = Options(target, **options)
        return read_csvs(files, said, test, ids, rule, seed, holdout, load_encoding(encoding)).of(cls)

    @classmethod
    def from_folder(
        cls,
        path: str | Path,
        *,
        target: str | None = None,
        test: TestFiles = None,
        seed: int = 0,
        holdout: float = 0.0,
        encoding: Saved | None = None,
        ragged: Mapping[str, Mapping[str, Any]] | None = None,
        **options: Unpack[TableOptions],
    ) -> Self:
        """Read a folder with one Parquet or NPZ file per client, named by the client's id.

        A Parquet file is a table, read as ``from_csv`` reads one.  An NPZ file holds arrays ``x`` and ``y``, or, in the
        place of ``x``, several columns by their names; without ``y`` there are no targets.  An array ``x_offsets``
        beside ``x`` makes sequences of different lengths of it, see :class:`fedray.Ragged`.  Nothing is standardised.
        Clients are in the order of their names.

        Args:
            path: the folder, with files of one of the two kinds.
            target: name of the target column of Parquet files.
            test: file of the same kind, outside the folder or in it, with the held-out test set; or each client's own,
                which together are the central one: a folder of them, named as the clients' are, a list with one for
                each, or ``{client: file}`` for some.
            seed: seed of held-out rows.
            holdout: as for ``from_csv``.
            encoding: for Parquet, as for ``from_csv``.
            ragged: for NPZ, options of :class:`fedray.Ragged` for arrays with offsets: ``{"x": {"length": 128, "mask":
                "attention_mask"}}``.
            options: for Parquet, as for ``from_csv``.

        Raises:
            ConfigError: a missing folder, no file or both kinds in it, files that do not fit together.
        """
        from fedray.core.errors import ConfigError
        from fedray.data.encoding.options import Options
        from fedray.data.encoding.saved import load_encoding
        from fedray.data.files.folder import read_folder

        if target is None and options:
            raise ConfigError(f"target: the name of the target column is needed for {', '.join(options)}")
        read = None if target is None else Options(target, **options)
        held = Holdout(holdout, seed)
        return read_folder(Path(path), read, test, load_encoding(encoding), ragged, held).of(cls)

    @classmethod
    def from_text(
        cls,
        train: Any,
        *,
        tokenizer: str | Path,
        test: TestFiles = None,
        format: str | Mapping[str, Any] | None = None,
        max_length: int | None = None,
        packing: bool | str = False,
        clients: str | Mapping[str, str] = "file",
        partitioner: Partitioner | Named | None = None,
        label: str | None = None,
        seed: int = 0,
        target: str | Sequence[str] | None = None,
        classes: Sequence[Any] | None = None,
        task: Literal["auto", "classification", "regression"] = "auto",
        pairs: bool = False,
    ) -> Self:
        """Read text for ``task: causal_lm``, or with targets, tokenised once and kept on the disk for the next run.

        Targets are the tokens themselves; those of prompts, and of what users say in a chat, count in no loss and no
        metric.  A text, and a completion, end with the tokenizer's end-of-sequence token.  Batches are padded to a
        multiple of 8 tokens behind the longest one of their own.  Rows in which nothing is learnt are left out, and
        the log says how many.

        With ``target`` each text has a class, or numbers, of its own.  Inputs are then two columns, ``input_ids`` and
        ``attention_mask``, which is 0 at padding, and a text that is too long keeps the tokens that end it.

        Args:
            train: a file, a folder, a pattern such as ``data/*.jsonl``, or a list of these: .jsonl, .json, .parquet,
                .arrow or .feather.
            tokenizer: a folder as ``save_pretrained`` writes it, of which nothing is downloaded, or ``bytes``.
            test: as ``train``; with a client for each file a folder of files named as theirs, a list with one for each,
                or ``{client: file}``: the clients' own.
            format: the columns, see :class:`fedray.data.sources.text.Text`.
            max_length: the most tokens of an example; None: none is cut.
            packing: lay rows of a client one behind the other in sequences of ``max_length``: ``wrapped``, or True,
                cuts them where a sequence is full, and attention reaches over the token that ends each; ``bfd`` keeps
                each row whole, best-fit decreasing, as two columns, ``input_ids`` and ``position_ids``, which begin
                anew.
            clients: ``file``, or ``{"column": "author"}``.
            partitioner: splits the rows of all files instead.
            label: the column of classes that a partitioner splits by; by default the target.
            seed: seed of the partitioner.
            target: the column of a class or a number for each text, or several of numbers; None: the text itself.
            classes: the names of the classes, in the order of their numbers; None: those of the training files.
            task: ``classification`` or ``regression``; ``auto``: text, and at most 20 different whole numbers, are
                classes.
            pairs: prompt and completion are two sequences, ``input_ids`` with ``attention_mask`` and ``labels``, for
                ``task: seq2seq_lm``.

        Raises:
            ConfigError: with file and row, for anything that cannot be read as described; no tokenizer, or none that
                fits.
        """
        from fedray.data.text.options import TextOptions
        from fedray.data.text.reading import read_text

        rule = None if partitioner is None else chosen(partitioner)
        options = TextOptions(
            str(tokenizer), format, max_length, packing, clients, rule, label, seed, target, classes, task, pairs
        )
        return read_text(train, test, options).of(cls)

    @classmethod
    def from_leaf(cls, path: str | Path, *, test: str | Path | None = None) -> Self:
        """Read LEAF's JSON (Caldas et al., arXiv:1812.01097), one client per user; see ``leaf.read_users``.

        Raises:
            ConfigError: files that are missing or not LEAF's.
        """
        from fedray.data.files.leaf import read_users

        return read_users(Path(path), None if test is None else Path(test)).of(cls)

    @classmethod
    def from_function(
        cls,
        function: Callable[[Any], tuple[Any, Any]],
        clients: Iterable[Any],
        *,
        sizes: Sequence[int] | Ints | None = None,
        spec: DataSpec | None = None,
        test: Any = None,
        test_sizes: Sequence[int] | Ints | None = None,
    ) -> ClientData:
        """Make lazy data: ``function(client)`` gives a client's ``(x, y)`` when it is needed, and nothing is kept.

        It is called more than once: at the start, whenever the client trains or is evaluated, and again after a resume,
        in several processes; it must give the same rows each time.  At the start every client is asked, unless both
        ``sizes`` and ``spec`` are given; and so is ``test`` without ``test_sizes``.

        Args:
            function: gives inputs and targets as for ``from_arrays``; of a client the same ones each time.
            clients: the values it is called with: ids as strings, or numbers.  ``range(n)`` means unnamed clients.
            sizes: number of examples of each client.
            spec: shape and meaning of an example.
            test: a central test set, as a pair ``(x, y)`` or :class:`Examples`; or a function, ``test(client)``, that
                gives a client's own, which may be empty, when the client is evaluated: then there is no central one.
            test_sizes: number of examples of each client's own test set.

        Raises:
            ConfigError: bad ids, an empty client, values that do not fit; also later, when a client turns out to
                have another size or shape than was said.
        """
        return from_function(function, clients, sizes=sizes, spec=spec, test=test, test_sizes=test_sizes)
