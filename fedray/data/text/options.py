"""The options of text, as a config and Python say them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fedray.core.errors import ConfigError
from fedray.data.partition import Partitioner


@dataclass(frozen=True)
class TextOptions:
    """Options for reading files of text.

    Args:
        tokenizer: folder of a tokenizer, or ``bytes``.
        format: see :class:`Format`; None: by the columns.
        max_length: the most tokens of an example; None: none is cut.
        packing: rows of a client are laid one behind the other, up to ``max_length``: ``wrapped``, or True: a row may
            go on in the next sequence; ``bfd``: each stays whole, and attention within it.
        clients: ``file``: each file is a client; ``{column: NAME}``: a column says whose a row is.
        partitioner: splits the rows instead.
        label: the column of classes that a partitioner splits by.
        seed: of the partitioner.

    Raises:
        ConfigError: options that contradict one another.
    """

    tokenizer: str
    format: Any = None
    max_length: int | None = None
    packing: bool | str = False
    clients: str | Mapping[str, str] = "file"
    partitioner: Partitioner | None = None
    label: str | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        own = self.clients == "file"
        if not own and not (isinstance(self.clients, Mapping) and list(self.clients) == ["column"]):
            raise ConfigError(f"clients: file, or {{column: NAME}} is needed, got {self.clients!r}")
        if self.partitioner is not None and not own:
            raise ConfigError("clients: the partitioner says whose a row is; leave one of the two out")
        if self.label is not None and self.partitioner is None:
            raise ConfigError("label: it is for a partitioner, such as {name: dirichlet, clients: 10}")
        if self.max_length is not None and self.max_length < 2:
            raise ConfigError(f"max_length: at least 2, a token and the next one, got {self.max_length}")
        if self.packing not in (False, True, "wrapped", "bfd"):
            raise ConfigError(f"packing={self.packing}: it must be wrapped (or true), bfd, or false")
        if self.packing and self.max_length is None:
            raise ConfigError("packing: it needs max_length, the tokens of a sequence")

    @property
    def whole(self) -> bool:
        """True where rows are packed whole."""
        return self.packing == "bfd"

    @property
    def by_file(self) -> bool:
        """True where each file is a client."""
        return self.partitioner is None and isinstance(self.clients, str)

    @property
    def column(self) -> str | None:
        """The column that says whose a row is; None: none does."""
        if self.partitioner is not None:
            found: str | None = getattr(self.partitioner, "column", None)
            return found
        return None if isinstance(self.clients, str) else self.clients["column"]
