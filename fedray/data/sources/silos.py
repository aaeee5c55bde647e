"""The source whose clients' tables stay where they lie."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fedray.config.registry import bind
from fedray.core.errors import ConfigError
from fedray.data.columns.base import ClientData
from fedray.data.columns.holdout import Holdout
from fedray.data.registry import data_sources
from fedray.data.sites import Silo, Sites, here
from fedray.data.sources.base import Whole, split_seed
from fedray.data.sources.tables import TableSource

if TYPE_CHECKING:
    from fedray.data.encoding.fit import Ask


@data_sources.register("silos")
@dataclass(frozen=True, kw_only=True)
class Silos(Whole, TableSource):
    """Tables that stay on the nodes where they are: a client is trained there, and no row leaves; see docs/data.md.

    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     _ = Path(folder, "a.csv").write_text("age,sick\\n40,no\\n60,yes\\n")
    ...     silos = {"hospital_a": {"node_label": "site=a", "path": f"{folder}/a.csv"}}
    ...     data = Silos(silos=silos, target="sick").load(seed=1)  # in this process, as with cluster.name=inline
    >>> data.client_id(0), data.sizes, data.spec.classes
    ('hospital_a', array([2]), ('no', 'yes'))

    Args:
        silos: for each client ``{path: ..., node_label: site=a}``, with ``test: ...`` for a test set of its own; see
            ``fedray.data.sites.Silo``.
        target: name of the target column.
    """

    silos: dict[str, Any]
    target: str

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.silos:
            raise ConfigError("silos: at least one is needed, as in {hospital_a: {node_label: site=a, path: a.csv}}")
        self._bound()

    def _bound(self) -> dict[str, Silo]:
        return {str(name): bind(Silo, silo, f"silos.{name}") for name, silo in self.silos.items()}

    @contextmanager
    def opened(self, seed: int, sites: Callable[[], Sites] = here) -> Iterator[tuple[list[str], Ask]]:
        from fedray.data.silos.survey import opened

        silos = self._bound()
        with opened(silos, self.options(), Holdout(self.holdout, split_seed(self, seed)), sites()) as ask:
            yield list(silos), ask

    def load(
        self, seed: int, sites: Callable[[], Sites] = here, encoding: Mapping[str, Any] | None = None
    ) -> ClientData:
        # Here, as importing pyarrow takes a third of a second, and every run looks up its source.
        from fedray.data.encoding.saved import load_encoding
        from fedray.data.silos.survey import survey

        test = None if self.test is None else Path(self.test)
        own, holdout = load_encoding(encoding), Holdout(self.holdout, split_seed(self, seed))
        return survey(self._bound(), test, self.options(), holdout, sites(), own)
