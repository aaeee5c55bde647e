"""Settings every test shares: one torch thread, repeatable draws, and reasons for what cannot run here."""

from __future__ import annotations

import os
import shutil
import signal
import warnings
from collections import Counter
from collections.abc import Iterator
from functools import cache
from importlib.util import find_spec
from typing import Any

import pytest
import torch
import typer.main
from hypothesis import settings

# Flower, the oracle of server optimizers, reports its use to a server unless told otherwise before its import.
os.environ["FLWR_TELEMETRY_ENABLED"] = "0"

# A shell lets jobs in its background ignore Ctrl-C, and so would every process that a test starts.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# The thread count changes bits (matmul, sums), and two threads on a shared machine are slower than one.
torch.set_num_threads(1)

# Typer makes every command anew for each call of the command line, an eighth of a small run; a process calls it once.
typer.main.get_command = cache(typer.main.get_command)

settings.register_profile("fedray", derandomize=True, deadline=None, max_examples=25, database=None, print_blob=True)
settings.load_profile("fedray")

# Where node ids of tests that bring up Ray begin.
_RAY = (
    "tests/benchmarks/test_run.py::test_everything_for_real",
    "tests/cli/test_ending.py::test_a_run_under_way_stops_with_its_checkpoint[ray]",
    "tests/cli/test_jobs.py",
    "tests/cli/test_many.py::test_several_at_once_give_the_same_table",
    "tests/cli/test_quickstart.py::test_it_trains_and_compares",
    "tests/cli/test_study.py::test_its_tests_pass_and_it_runs_on_ray",
    "tests/cluster/",
    "tests/doctor/test_visit.py",
    "tests/faults/",
    "tests/rundir/test_worker_log.py::test_a_run_keeps_what_its_clients_say[ray]",
    "tests/test_docs.py::test_the_python_of_the_readme_on_ray",
)
_LAWS = ("tests/laws/test_runs.py", "tests/laws/test_limits.py")


def _no_gpu() -> str | None:
    with warnings.catch_warnings():
        # A CUDA build without a driver warns here; the skip says as much.
        warnings.simplefilter("ignore")
        available = torch.cuda.is_available()
    return None if available else f"needs a CUDA device; torch {torch.__version__} sees none"


def _no_browser() -> str | None:
    missing = [name for name in ("chromium", "chromedriver") if shutil.which(name) is None]
    return f"needs {' and '.join(missing)} on the PATH" if missing else None


def _no_trackers() -> str | None:
    missing = [name for name in ("mlflow", "wandb") if find_spec(name) is None]
    return f"needs {' and '.join(missing)}, which make test-trackers has" if missing else None


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Tests run side by side, file by file, and laws by algorithm.

    Those that bring up Ray follow one another, as each fills the machine.
    """
    from xdist.scheduler import LoadScopeScheduling

    class Files(LoadScopeScheduling):  # type: ignore[misc]
        def _split_scope(self, nodeid: str) -> str:
            file, _, case = nodeid.partition("::")
            # A run of an algorithm is made once for its laws.
            return "ray" if nodeid.startswith(_RAY) else case.partition("[")[2] if file in _LAWS else file

    return Files(config, log)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark those that bring up Ray, and cases that are slow for their number, before it is decided which are run."""
    cases: Counter[str] = Counter()
    for item in items:
        if item.nodeid.startswith(_RAY):
            item.add_marker("ray")
        if (some := item.get_closest_marker("one_in")) is not None:
            test = item.nodeid.partition("[")[0]
            if cases[test] % some.args[0]:
                item.add_marker("slow")
            cases[test] += 1


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip a test whose marker names a device or program that is not here, with the reason."""
    for marker, lacks in (("gpu", _no_gpu), ("browser", _no_browser), ("trackers", _no_trackers)):
        if item.get_closest_marker(marker) is not None and (reason := lacks()) is not None:
            pytest.skip(reason)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Any:
    """Send no words of a test that passed from a worker to the process that counts: nobody reads them."""
    report = yield
    if report.passed and hasattr(item.config, "workerinput"):
        report.sections.clear()
    return report


@pytest.fixture(autouse=True)
def _same_initial_weights() -> None:
    """Layers that a test builds draw from torch's global generator: start it alike whatever ran before."""
    torch.default_generator.manual_seed(0)


@pytest.fixture(scope="session", autouse=True)
def _nothing_kept_at_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Tokens that tests make lie where tests' files do."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FEDRAY_CACHE", str(tmp_path_factory.getbasetemp() / "kept"))
        yield
