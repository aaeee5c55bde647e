"""Train on this machine: `python launch/local.py configs/digits.yaml [key=value ...]`."""

import sys

from fedray.cli import main

if __name__ == "__main__":
    sys.argv[1:1] = ["run"]
    main()
