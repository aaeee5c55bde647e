"""The places of data, and questions to them: what is opened at a site stays there, and only answers come back."""

from __future__ import annotations

import inspect
import pickle
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, fields, is_dataclass
from functools import partial
from typing import Any, Generic, Protocol, TypeVar

import numpy as np

from fedray.config.sections import WorkerSection

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)
A = TypeVar("A")

MOST_NOTED = 10_000
"""The number of sites up to which the size of each one's answer is noted."""


@dataclass(frozen=True, kw_only=True)
class Silo:
    """The place of a client's table, and the resources of its worker.

    Args:
        path: CSV, Excel or Parquet file; environment variables in it (``$NAME``) are those of the silo's node.
        node_label: ``label=value`` of the Ray nodes that have the file.
        node_resource: or a custom resource of theirs.
        cpus: CPUs of a worker of its own.
        gpus: GPUs of a worker of its own; a fraction shares one.
        ranks: processes of a worker of its own that train it together, as by ``worker.ranks``, each with these CPUs and
            GPUs.  With none of the three, the node's workers train it.
        test: file there with the client's own test set, on which it is evaluated; like its table, it stays there.
        csv: the way its tables are written, where that differs from what the data section says.
    """

    path: str
    node_label: str | None = None
    node_resource: str | None = None
    cpus: float | None = None
    gpus: float | None = None
    ranks: int | None = None
    test: str | None = None
    csv: dict[str, Any] | None = None

    def __post_init__(self) -> None:
        for key, path in (("path", self.path), ("test", self.test)):
            if path == "" or (key == "path" and not path):
                raise ValueError(f"{key}: the name of a file is needed")
        if (self.node_label is None) == (self.node_resource is None):
            raise ValueError("say where it is: either node_label, as in site=a, or node_resource")
        label, equals, value = (self.node_label or "").partition("=")
        if self.node_label is not None and not (label and equals and value):
            raise ValueError(f"node_label={self.node_label}: expected label=value, as in site=a")
        if self.node_resource is not None and (not self.node_resource or "=" in self.node_resource):
            raise ValueError(f"node_resource={self.node_resource}: expected the name of a custom resource")
        _ = self.own  # refuses what no worker could have

    @property
    def where(self) -> str:
        """``label=value`` or a custom resource."""
        return str(self.node_label or self.node_resource)

    @property
    def own(self) -> WorkerSection | None:
        """The resources of a worker of its own; None: it has none."""
        if self.cpus is None and self.gpus is None and self.ranks is None:
            return None
        return WorkerSection(
            cpus=1.0 if self.cpus is None else self.cpus,
            gpus=self.gpus or 0.0,
            ranks=1 if self.ranks is None else self.ranks,
        )

    def __str__(self) -> str:
        own = {"CPUs": self.cpus, "GPUs": self.gpus, "ranks": self.ranks}
        return ", ".join([self.where, *(f"{amount:g} {name}" for name, amount in own.items() if amount is not None)])


@dataclass(frozen=True)
class SiteData(Generic[T]):
    """The data at a site: where they lie, and how they are opened there.

    Args:
        name: of the data in errors.
        where: ``label=value`` or a custom resource of the node.
        open: opens them, at the place.
    """

    name: str
    where: str
    open: Callable[[], T]


class OpenSiteData(Protocol[T_co]):
    """The opened data of some sites, there for as long as they are asked about."""

    def ask(self, questions: Sequence[Callable[[T_co], A]]) -> list[A]:
        """Put one question to each site, all at the same time, and return the answers in order.

        Raises:
            ConfigError: as the question raised it there.
        """
        ...


class Noted(Generic[T]):
    """Opened data of some sites, and a note of each question to them.

    >>> noted = Noted(Opened(["abc", "de"]))
    >>> noted.ask([len, len]), noted.asked[0]["question"], noted.asked[0]["values"], len(noted.asked[0]["bytes"])
    ([3, 2], 'len', [1, 1], 2)

    Args:
        opened: the data.

    Attributes:
        asked: the notes, see :func:`note`.
    """

    def __init__(self, opened: OpenSiteData[T]) -> None:
        self._opened = opened
        self.asked: list[dict[str, Any]] = []

    def ask(self, questions: Sequence[Callable[[T], A]]) -> list[A]:
        """Put the questions, and note them."""
        answers = self._opened.ask(questions)
        if questions:
            self.asked.append(note(questions[0], answers))
        return answers


class NotedHere(Noted[T]):
    """Data of some sites that are all this process, as where silos are simulated, and a note of each question to them.

    >>> noted = NotedHere(["abc", "de"])
    >>> noted.each(len), noted.asked[0]["question"]
    ([3, 2], 'len')

    Args:
        things: the data of each site.
    """

    def __init__(self, things: Sequence[T]) -> None:
        super().__init__(Opened(things))
        self._count = len(things)

    def each(self, question: Callable[[T], A]) -> list[A]:
        """Put one question to all, and note it."""
        return self.ask([question] * self._count)


def note(question: Callable[..., Any], answers: Sequence[Any]) -> dict[str, Any]:
    """Return what is kept of a question that sites have answered.

    Its name (``question``), what it returns (``answer``), the columns that it names (``columns``), and of each site's
    answer the number of its values (``values``) and its bytes, pickled (``bytes``): of very many sites the largest.

    >>> note(len, [3, ["a", "b"], {"age": np.zeros(3)}, {"ward": {"north": 7, "south": 9}}])["values"]
    [1, 2, 3, 4]
    """
    function, options = _innermost(question)
    named = options.get("columns") or [options[key] for key in ("target",) if key in options]
    words = (inspect.getdoc(function) or "").partition("\n")[0]
    return {
        "question": getattr(function, "__name__", str(function)),
        "answer": words.removeprefix("Return ").rstrip("."),
        "columns": list(named),
        "values": _few([_values(answer) for answer in answers]),
        "bytes": _few([len(pickle.dumps(answer)) for answer in answers]),
    }


def _few(sizes: list[int]) -> list[int]:
    return sizes if len(sizes) <= MOST_NOTED else [max(sizes)]


def _values(answer: Any, keys: int = 0) -> int:
    """Count the numbers and words of an answer.

    Args:
        answer: of a site.
        keys: the count of a key of a mapping: 0 on the outside, where keys are those that the question names.
    """
    if answer is None:
        return 0
    if isinstance(answer, np.ndarray):
        return answer.size
    if is_dataclass(answer):
        return sum(_values(getattr(answer, field.name), 1) for field in fields(answer))
    if isinstance(answer, Mapping):
        return sum(keys + _values(value, 1) for value in answer.values())
    if isinstance(answer, Sequence) and not isinstance(answer, str | bytes):
        return sum(_values(value, 1) for value in answer)
    return 1


def _innermost(question: Any) -> tuple[Any, dict[str, Any]]:
    """Return the function that a question comes down to, through those that it is handed to, and its options."""
    options: dict[str, Any] = {}
    while isinstance(question, partial):
        options |= question.keywords
        inner = next((one for one in reversed(question.args) if callable(one)), None)
        question = question.func if inner is None else inner
    return question, options


class Sites(Protocol):
    """The sites that can be reached."""

    def opened(self, sources: Sequence[SiteData[T]]) -> AbstractContextManager[OpenSiteData[T]]:
        """Open data at their sites.

        Raises:
            ConfigError: there is no such site, or as raised there.
        """
        ...


class LocalSites:
    """The sites of a single process: every site is this one."""

    @contextmanager
    def opened(self, sources: Sequence[SiteData[T]]) -> Iterator[OpenSiteData[T]]:
        """See :class:`Sites`."""
        yield Opened([source.open() for source in sources])


class Opened(Generic[T]):
    """The opened data of sites that are all this process.

    Args:
        things: the data of each site.
    """

    def __init__(self, things: Sequence[T]) -> None:
        self._things = things

    def ask(self, questions: Sequence[Callable[[T], A]]) -> list[A]:
        """See :class:`OpenSiteData`."""
        return [question(thing) for question, thing in zip(questions, self._things, strict=True)]


def here() -> Sites:
    """Return this process as the only site."""
    return LocalSites()
