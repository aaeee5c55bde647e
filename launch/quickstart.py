"""Five hospitals train one diagnosis model (what `make quickstart` runs)."""

import sys

from fedray.cli import main

if __name__ == "__main__":
    sys.argv[1:1] = ["quickstart"]
    main()
