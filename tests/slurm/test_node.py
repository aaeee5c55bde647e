"""What a node's program does to processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

from fedray.slurm.node import PASSED_ON

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


# What a node's program starts is signalled as well as itself, and must not end.
SIGNALLED = """
import os, signal, subprocess, sys
from fedray.slurm.node import outlive_signals
outlive_signals()
subprocess.run(["sh", "-c", "kill -TERM $$; kill -INT $$; echo lives"], check=True)
os.kill(os.getpid(), signal.SIGTERM)
sys.stdin.read()
"""


def test_signals_are_outlived_and_passed_on() -> None:
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, "-c", SIGNALLED], stdin=pipe, stdout=pipe, text=True) as node:
        assert node.stdout is not None
        assert node.stdout.readline() == "lives\n"
        assert node.stdout.readline() == f"{PASSED_ON}{signal.SIGTERM:d}\n"
    assert node.returncode == 0


def test_orphans_are_adopted_and_ended() -> None:
    done = subprocess.run([sys.executable, "-c", ORPHANS], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    try:
        os.kill(int(done.stdout), 0)
    except ProcessLookupError:
        return
    raise AssertionError("the orphan is alive")
