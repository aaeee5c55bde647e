"""What a node's program does to processes."""

from __future__ import annotations

import os
import subprocess
import sys

# A child starts a grandchild that outlives it, as raylets start agents.
ORPHANS = """
import os, subprocess, sys
from fedray.slurm.node import adopt_orphans, end_descendants
adopt_orphans()
shell = "sleep 600 & echo $!; exec sleep 600"
child = subprocess.Popen(["sh", "-c", shell], stdout=subprocess.PIPE, text=True)
orphan = int(child.stdout.readline())
child.kill()
child.wait()
os.kill(orphan, 0)
end_descendants()
print(orphan)
"""


def test_orphans_are_adopted_and_ended() -> None:
    done = subprocess.run([sys.executable, "-c", ORPHANS], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    try:
        os.kill(int(done.stdout), 0)
    except ProcessLookupError:
        return
    raise AssertionError("the orphan is alive")
