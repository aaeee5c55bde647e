"""What a run would do and cost, and what a config can name: the texts of ``fedray plan`` and ``fedray list``."""

from fedray.experiment.estimate.catalogue import catalogue
from fedray.experiment.estimate.describe import describe

__all__ = ["catalogue", "describe"]
