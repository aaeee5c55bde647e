"""The texts of ``fedray plan`` and ``fedray list``: the work and cost of a run, and the parts a config can name."""

from fedray.experiment.estimate.catalogue import catalogue
from fedray.experiment.estimate.describe import describe

__all__ = ["catalogue", "describe"]
