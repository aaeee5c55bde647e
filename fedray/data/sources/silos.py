"""The source whose clients' tables stay where they lie."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from fedray.config.registry import bind
from fedray.core.errors import ConfigError
from fedray.data.columns.base import ClientData
from fedray.data.registry import data_sources
from fedray.data.sites import Silo, Sites, here
from fedray.data.sources.base import Source


@data_sources.register("silos")
@dataclass(frozen=True, kw_only=True)
class Silos(Source):
    """Tables that stay on the nodes where they are: a client is trained there, and no row leaves; see docs/data.md.

    Args:
        silos: for each client ``{path: ..., node_label: site=a}``, see ``fedray.data.sites.Silo``.
        target: name of the target column.
        test: file of the held-out test set, read where the run is started.
        task: auto, classification or regression.
        categorical: ``[columns]`` or ``{column: [values]}``.
        classes: class names in the order of their indices.
        standardize: centre and scale numeric columns by federated sums.
    """

    silos: dict[str, Any]
    target: str
    test: str | None = None
    task: Literal["auto", "classification", "regression"] = "auto"
    categorical: Any = None
    classes: list[str] | None = None
    standardize: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.silos:
            raise ConfigError("silos: at least one is needed, as in {hospital_a: {node_label: site=a, path: a.csv}}")
        self._bound()

    def _bound(self) -> dict[str, Silo]:
        return {str(name): bind(Silo, silo, f"silos.{name}") for name, silo in self.silos.items()}

    def load(self, seed: int, sites: Callable[[], Sites] = here) -> ClientData:
        # Here, as importing pyarrow takes a third of a second, and every run looks up its source.
        from fedray.data.encoding.encoding import Options
        from fedray.data.silos.survey import survey

        options = Options(self.target, self.task, self.categorical, self.classes, self.standardize)
        test = None if self.test is None else Path(self.test)
        return survey(self._bound(), test, options, self.holdout, seed, sites())
