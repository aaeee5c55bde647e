"""Outputs of layers that a fit leaves as they are, for the first step of the next fit of the same models."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from fedray.local.batches import Batch
from fedray.local.step import Fit


@dataclass(frozen=True, eq=False)
class KnownOutputs:
    """Outputs of layers for a batch, by models that nobody wrote into since.

    The fit of a body after that of its head, as FedRep's, so begins without a forward of the body, where both take the
    same batch.  They are the same bits as if they were computed again.

    Args:
        batch: the batch of the last step of a fit.
        models: its models.
        version: the number of writes into these until then, as torch counts them.
        outputs: by name of the layer.
    """

    batch: Batch
    models: Tensor
    version: int
    outputs: dict[str, Tensor]

    @classmethod
    def after(cls, fit: Fit, batch: Batch | None, outputs: dict[str, Tensor]) -> KnownOutputs | None:
        """Return those that the last step of a fit leaves; None: it leaves none that can be used."""
        if batch is None or not outputs or fit.orders.places is not None:
            return None
        return cls(batch, fit.models, fit.models._version, outputs)

    def of(self, fit: Fit, batch: Batch) -> dict[str, Tensor]:
        """Return those for the first step of another fit, by its batch; none where something is another."""
        same = batch is self.batch and fit.models is self.models and fit.models._version == self.version
        return self.outputs if same else {}
