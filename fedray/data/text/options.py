"""The options of text, as a config and Python say them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from fedray.config.binding import check_words
from fedray.core.errors import ConfigError, listed, quoted
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
        label: the column of classes that a partitioner splits by; None: the target, if there is one.
        seed: of the partitioner.
        target: the column of classes or numbers, one for each text, or several of numbers; None: the text itself, for a
            language model.
        classes: the names of the classes, in the order of their numbers; None: those of the training files.
        task: ``classification`` or ``regression``; ``auto``: as the column of targets looks.
        pairs: prompt and completion are two sequences, for models with an encoder and a decoder.

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
    target: str | Sequence[str] | None = None
    classes: Sequence[Any] | None = None
    task: Literal["auto", "classification", "regression"] = "auto"
    pairs: bool = False

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
        if self.pairs and self.packing:
            raise ConfigError("packing: a completion answers its own prompt; leave packing out, or pairs")
        if self.pairs and self.target is not None:
            raise ConfigError("target: with pairs the completion is what is learnt; leave one of the two out")
        self._check_targets()

    def _check_targets(self) -> None:
        """Raise ConfigError for a target that contradicts other options."""
        if self.target is None:
            for key in ("classes", "task"):
                if getattr(self, key) not in (None, "auto"):
                    raise ConfigError(f"{key}: it is of the column of targets; name that: target: mood")
            return
        names = self.targets
        if not names or not all(isinstance(name, str) for name in names) or len(set(names)) != len(names):
            raise ConfigError(f"target: the name of a column is needed, or a list of some, got {self.target!r}")
        if self.packing:
            raise ConfigError("packing: a text that has a target is an example by itself; leave packing out")
        if self.task not in ("auto", "classification", "regression"):
            raise ConfigError(f"task: {self.task!r} is unknown; known: auto, classification, regression")
        if len(names) > 1 and (self.classes is not None or self.task == "classification"):
            raise ConfigError(
                "target: several columns are numbers, each 0 or 1 for the top-level task: multilabel; for one of "
                "several classes name one column"
            )
        if self.classes is None:
            return
        if self.task == "regression":
            raise ConfigError("classes: a regression target has none; leave them out, or task: regression")
        check_words("classes", self.classes)
        if isinstance(self.classes, str):
            raise ConfigError(f"classes: expected a list of names, got {quoted(self.classes)}")
        if len(set(map(str, self.classes))) != len(self.classes):
            raise ConfigError(f"classes: a name is given twice: {listed(self.classes)}")

    @property
    def targets(self) -> tuple[str, ...]:
        """The columns of targets; none: the text is its own."""
        if self.target is None:
            return ()
        return (self.target,) if isinstance(self.target, str) else tuple(self.target)

    @property
    def splits_by(self) -> str | None:
        """The column of classes that a partitioner splits by; None: there is none."""
        return self.label or (self.targets[0] if len(self.targets) == 1 else None)

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
