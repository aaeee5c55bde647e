"""The command line shows how layers are merged."""

from tests.cli.conftest import cli, small

__all__ = ["cli", "small"]
