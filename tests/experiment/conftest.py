"""What a command shows is what these modules make."""

from tests.cli.conftest import cli, small

__all__ = ["cli", "small"]
