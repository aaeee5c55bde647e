"""Submit a run to a standing Ray cluster: `python launch/ray_job.py configs/digits.yaml [key=value ...] --address
http://HEAD:8265 [--follow]`.

Needs `pip install "fedray[jobs]"` here, and fedray on the cluster.  The same by hand, which sends the whole folder:
`ray job submit --working-dir . -- python -m fedray run configs/digits.yaml run.dir=/shared/first`.
"""

import sys

from fedray.cli import main

if __name__ == "__main__":
    sys.argv[1:1] = ["submit"]
    main()
