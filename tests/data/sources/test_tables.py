"""Sources of tables read with pyarrow, and no other source waits for it."""

from __future__ import annotations

import subprocess
import sys


def test_a_source_without_tables_does_without_pyarrow() -> None:
    script = """if True:
        import sys
        from fedray.data.registry import data_sources
        data_sources["digits"]().load(1)
        assert list(data_sources) and "pyarrow" not in sys.modules
        import fedray.data.silos.survey
        assert "pyarrow" in sys.modules
    """
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
