"""``python -m fedray`` is ``fedray``."""

from fedray.cli import main

main()
