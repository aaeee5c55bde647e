"""Submit a run to Slurm: `python launch/slurm.py configs/digits.yaml --nodes 3 [key=value ...]`.

The same with sbatch's own options: `sbatch --nodes 3 slurm/fedray.sbatch configs/digits.yaml [key=value ...]`.
"""

import sys

from fedray.cli import main

if __name__ == "__main__":
    sys.argv[1:1] = ["slurm"]
    main()
