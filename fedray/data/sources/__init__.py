"""Data sources: what a config's ``data`` section can name; importing this package registers them."""

from fedray.data.sources import files, images, shipped, silos, text
from fedray.data.sources.base import Source

__all__ = ["Source", "files", "images", "shipped", "silos", "text"]
