"""The texts of ``fedray plan`` and ``fedray list``: the work and cost of a run, and the parts a config can name."""

from fedray.experiment.estimate.catalogue import catalogue
from fedray.experiment.estimate.describe import describe, planned
from fedray.experiment.estimate.room import Given, check_room

__all__ = ["Given", "catalogue", "check_room", "describe", "planned"]
