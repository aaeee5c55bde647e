"""The source of text: for language models, or with a class or numbers for each text."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal, Self

from fedray.core.errors import ConfigError
from fedray.data.federated import FederatedData
from fedray.data.registry import data_sources
from fedray.data.sources.base import Source, make_partitioner
from fedray.data.text.options import TextOptions


@data_sources.register("text")
@dataclass(frozen=True, kw_only=True)
class Text(Source):
    """Text for ``task: causal_lm``, or with targets, tokenised once; see ``FederatedData.from_text``.

    >>> import os
    >>> from pathlib import Path
    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     os.environ["FEDRAY_CACHE"] = f"{folder}/cache"  # by default ~/.cache/fedray
    ...     for name in ("ann", "bob"):
    ...         _ = Path(folder, f"{name}.jsonl").write_text('{"prompt": "2 + 2 = ", "completion": "4"}' + chr(10))
    ...     data = Text(train=folder, tokenizer="bytes").load(seed=1)
    ...     del os.environ["FEDRAY_CACHE"]
    >>> data.client_id(0), data.sizes, data.spec.inputs
    ('ann', array([1, 1]), '10 tokens of 257')

    Args:
        train: a file, a folder, a pattern such as ``data/*.jsonl``, or a list of these: .jsonl, .json, .parquet, .arrow
            or .feather.
        test: the same, for a test set; with ``clients: file`` a folder of files named as the clients', a list with one
            for each, or ``{client: file}`` is the clients' own.
        format: the columns: ``{text: body}``, ``{prompt: "### Q: {question}", completion: answer}`` or ``{messages:
            chat}``, with ``chat_template`` and ``completion_only_loss`` (true).  A value is a column, or a template
            with columns in braces.  By default columns called ``text``, ``prompt`` and ``completion``, or
            ``messages``.
        tokenizer: a folder as ``save_pretrained`` writes it, or ``bytes``; by default the model's ``path``.
        max_length: the most tokens of an example, which is cut there; None: none is.
        packing: lay the rows of a client one behind the other, in sequences of ``max_length``: ``wrapped`` (true) cuts
            them where a sequence is full; ``bfd`` keeps each row whole, best-fit decreasing, with ``position_ids`` that
            begin anew and attention that does not reach over its ends, for models of transformers.
        clients: ``file``: each file is a client, named by it; or ``{column: author}``, which says whose a row is.
        partition: a partitioner that splits the rows instead, such as ``{name: iid, clients: 10}``.
        label: the column of classes that a partitioner splits by; by default the target.
        target: the column of a class, or of a number, for each text, for ``task: classification`` and the like; a list
            of columns is several numbers, 0 or 1 for ``task: multilabel``.  By default the text is what is learnt.
        classes: the names of the classes, in the order of their numbers; by default those of the training files.
        task: classification or regression; auto: a column of text, or of at most 20 whole numbers, is classes.
        pairs: a prompt and its completion are two sequences, ``input_ids`` with ``attention_mask`` and ``labels``, each
            of at most ``max_length`` tokens, for models with an encoder and a decoder; ``task: seq2seq_lm`` has it so.
    """

    train: Any
    test: Any = None
    format: Any = None
    tokenizer: str | None = None
    max_length: int | None = None
    packing: bool | str = False
    clients: Any = "file"
    partition: dict[str, Any] | None = None
    label: str | None = None
    target: Any = None
    classes: list[Any] | None = None
    task: Literal["auto", "classification", "regression"] = "auto"
    pairs: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        self.options(0)

    @property
    def _split(self) -> dict[str, Any] | None:
        """The section of a partitioner; None: there is none, as where there is a seed alone."""
        return None if self.partition is None or list(self.partition) == ["seed"] else self.partition

    def beside(self, model: object, task: object = None) -> Self:
        """Return the source with a model's tokenizer, where it names none itself, and with pairs for a task of them."""
        path = getattr(model, "path", None)
        found = replace(self, tokenizer=path) if self.tokenizer is None and isinstance(path, str) else self
        return replace(found, pairs=True) if getattr(task, "pairs", False) else found

    def read(self, seed: int) -> FederatedData:
        from fedray.data.text.reading import read_text

        if self.tokenizer is None:
            raise ConfigError(
                "tokenizer: the model has no folder with one of its own: name a folder as save_pretrained writes it, "
                "or the word bytes"
            )
        return read_text(self.train, self.test, self.options(seed)).of(FederatedData)

    def options(self, seed: int) -> TextOptions:
        """Return how its files are read; ConfigError for options that contradict one another."""
        return TextOptions(
            self.tokenizer or "",
            self.format,
            self.max_length,
            self.packing,
            self.clients,
            None if self._split is None else make_partitioner(self._split),
            self.label,
            seed,
            self.target,
            self.classes,
            self.task,
            self.pairs,
        )
