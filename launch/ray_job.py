"""Submit a run to a standing Ray cluster: `python launch/ray_job.py http://HEAD:8265 configs/digits.yaml [key=value
...]`.

Needs `pip install "fedray[jobs]"` here, and fedray on the cluster.  The same by hand:
`ray job submit --working-dir . -- python -m fedray run configs/digits.yaml`.
"""

import shlex
import sys

from ray.job_submission import JobSubmissionClient

if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    command = "python -m fedray run " + shlex.join(sys.argv[2:])
    job = JobSubmissionClient(sys.argv[1]).submit_job(entrypoint=command, runtime_env={"working_dir": "."})
    print(f"submitted {job}; follow it with: ray job logs --address {sys.argv[1]} --follow {job}")
