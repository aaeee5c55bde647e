"""What a run would do and cost, and what a config can name: the texts of ``fedray plan`` and ``fedray list``."""

from fedray.planning.catalogue import catalogue
from fedray.planning.describe import describe

__all__ = ["catalogue", "describe"]
