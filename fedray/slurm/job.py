"""The batch process of a job: ``python -m fedray.slurm.job RUN_DIR`` (or ``CONFIG.yaml [key=value ...]``).

It turns the allocation into a Ray cluster, runs the driver beside it, passes Slurm's signals on, stops what it started,
and puts the job back into the queue if there is more to do.
"""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import yaml
from omegaconf import OmegaConf

from fedray.config.registry import bind
from fedray.config.sections import SlurmSection
from fedray.core import unread
from fedray.core.errors import ConfigError, RunFailed, counted
from fedray.rundir import durable, lock
from fedray.rundir.names import CONFIG, LOCK, config_of
from fedray.rundir.tree import check_apart, folder_of
from fedray.slurm.allocation import Allocation
from fedray.slurm.cluster import Nodes, RayCluster
from fedray.slurm.commands import ask, host_names, look_up
from fedray.slurm.network import choose_ports, own_address
from fedray.slurm.private import Shared, shared_path, sweep, temporary_folder
from fedray.slurm.requeue import HISTORY, STOPPED, History, owner, safe_rounds, verdict

_FAILED, _WRONG = 1, 2
_PERIOD = 2.0
_SIGNALS = (signal.SIGUSR1, signal.SIGTERM, signal.SIGINT)
_PASSED_ON = signal.SIGUSR2


class Signals:
    """Slurm's signals: the first asks the run to stop with a checkpoint, a second kills it.

    Preemption with a time of grace signals the nodes' programs alone; a cancelled job's are signalled as well as this
    process.  So what a node passes on asks, and never kills.  After SIGINT, which Slurm itself never sends, the job is
    not requeued.
    """

    def __init__(self) -> None:
        self.asked = self.killed = self.for_good = False
        self._heard = self._told = False
        self._passed_on = 0
        self._driver: subprocess.Popen[bytes] | None = None
        for number in (*_SIGNALS, _PASSED_ON):
            signal.signal(number, self._handle)

    def pass_on(self, number: int) -> None:
        """Handle a signal that a node was sent; callable in any thread."""
        self._passed_on = number
        os.kill(os.getpid(), _PASSED_ON)  # handlers run in the main thread

    def _handle(self, number: int, _: object) -> None:
        passed_on = number == _PASSED_ON
        if passed_on:
            if self.asked:
                return
            number = self._passed_on or number
        self.asked, self.killed = True, self._heard and not passed_on
        self._heard |= not passed_on
        self.for_good |= number == signal.SIGINT
        name = signal.Signals(number).name + " on a node" * passed_on
        say(f"{name}: {'ending at once' if self.killed else 'stopping with a checkpoint'}")
        self._tell()

    def _tell(self) -> None:
        if self._driver is None:
            return
        if self.killed:
            self._driver.kill()
        elif not self._told:
            self._told = True
            self._driver.send_signal(signal.SIGUSR1)

    def run(self, command: Sequence[str], env: dict[str, str], ray_lives: Callable[[], bool]) -> int:
        """Run the driver to its end.

        Args:
            command: the driver.
            env: its environment.
            ray_lives: asked often; without Ray there is nothing left for it to do but to wait.

        Returns:
            Its exit status, as a shell tells it.
        """
        if self.asked:
            return STOPPED
        # Slurm may signal every process of the job.  This one hears us alone, once; a second signal would kill it.
        self._driver = driver = subprocess.Popen(
            command, env=env, stdin=subprocess.DEVNULL, start_new_session=True, preexec_fn=_deaf_to_slurm
        )
        if self.asked:
            self._tell()
        status: int | None = None
        while status is None:
            lives = ray_lives()
            try:
                status = driver.wait(_PERIOD)
            except subprocess.TimeoutExpired:
                if not lives:
                    driver.kill()
        if status == -signal.SIGUSR1:
            return STOPPED  # it came before the driver had begun
        return status if status >= 0 else 128 - status


def _deaf_to_slurm() -> None:
    signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGTERM, signal.SIGINT))


def say(text: str) -> None:
    """Write a line to the job's log; callable in a signal handler, which may have interrupted another one."""
    unread.say(f"{time.strftime('%H:%M:%S')} fedray: {text}\n".encode())


def settle(arguments: Sequence[str], allocation: Allocation) -> Path:
    """Return the run folder: as given, or made for a config with overrides, the same at each start of the job.

    Raises:
        ConfigError: nothing was given, the config is wrong, or its folder holds another run.
    """
    if not arguments:
        raise ConfigError("give a run folder or a config: sbatch slurm/fedray.sbatch CONFIG.yaml [key=value ...]")
    given = Path(arguments[0])
    if given.is_dir():
        return given.resolve()
    shown = subprocess.run([sys.executable, "-m", "fedray", "config", *arguments], stdout=subprocess.PIPE, text=True)
    if shown.returncode != 0:
        raise SystemExit(shown.returncode)  # it has said why
    config = yaml.safe_load(shown.stdout)
    chosen = (config.get("run") or {}).get("dir")
    run_dir = Path(chosen or folder_of(given.stem) / f"slurm-{allocation.job}").resolve()
    if not (run_dir / CONFIG).exists():
        check_apart(run_dir)
        config["cluster"]["name"] = "slurm"
        try:
            (run_dir / "checkpoints").mkdir(parents=True, exist_ok=True)
            # Before there is a run: a start that ends in between must find at the next one that the run is its own.
            if not History(allocation.name).claim(run_dir / HISTORY):
                raise ConfigError(
                    f"run.dir: job {owner(run_dir / HISTORY)} makes a run in {run_dir}; give another run.dir or, if "
                    f"that job has ended, delete {HISTORY} there"
                )
            durable.replace(run_dir / CONFIG, yaml.safe_dump(config, sort_keys=False).encode())
        except OSError as error:
            raise ConfigError(f"run.dir: {run_dir} cannot be written: {error.strerror or error}") from None
    elif owner(run_dir / HISTORY) != allocation.name:
        raise ConfigError(f"run.dir: {run_dir} already holds a run; go on with `fedray slurm {run_dir}`")
    return run_dir


def options(run_dir: Path) -> SlurmSection:
    """Return the ``cluster`` section of a run.

    Raises:
        ConfigError: the folder has no run of Slurm's.
    """
    config: Any = OmegaConf.create(config_of(run_dir))
    section: Any = OmegaConf.to_container(config.get("cluster") or OmegaConf.create(), resolve=True)
    return bind(SlurmSection, section, "cluster")


def release(run_dir: Path) -> None:
    """Take the run folder from a driver whose job has ended, as Slurm alone can know of one on another node.

    Raises:
        ConfigError: another job is doing so now, or the lock is damaged.
    """
    if not (run_dir / LOCK).exists():
        return
    found = lock.owner_of(run_dir)
    if found is None or found.job is None or found.job == os.environ.get("SLURM_JOB_ID"):
        return
    if look_up(found.job).over and lock.release(run_dir, found):
        say(f"the driver of job {found.job} has ended, as Slurm says: going on in its place")


def train(run_dir: Path, section: SlurmSection, allocation: Allocation, signals: Signals) -> tuple[int, list[str]]:
    """Start Ray on all nodes, run the driver, stop Ray.

    Returns:
        The driver's exit status, and the nodes that were lost, or did not come, if it failed.
    """
    names = host_names(allocation.node_list)
    others = [name for name in names if name != allocation.node]
    address = own_address(section.interface, others[0] if others else None)
    ports = choose_ports(allocation.job, address)
    nodes = Nodes(names, allocation.node, f"{address}:{ports.control}")
    python = shlex.split(section.python) if section.python else [sys.executable]
    with Shared(shared_path(run_dir, allocation.job)).made() as shared:
        say(f"starting Ray on {counted(len(names), 'node')}: {allocation.node_list}, head {allocation.node}")
        cluster = RayCluster(nodes, shared, python, section.interface, signals.pass_on)
        try:
            try:
                if not cluster.wait(section.patience, lambda: signals.asked):
                    return STOPPED, []
            except RunFailed as error:
                say(f"the run failed: {error}")
                # A run that has begun has met a bad node; one that has not, a mistake that the next start would meet.
                return _FAILED, cluster.lost() if safe_rounds(run_dir) else []
            say(f"all {counted(len(names), 'node')} joined")
            env = {**cluster.env, "TMPDIR": str(temporary_folder(allocation))}
            status = signals.run([*python, "-m", "fedray", "resume", str(run_dir)], env, cluster.lives)
            failed = status not in (0, _WRONG, STOPPED) and not signals.killed
            return status, cluster.lost() if failed else []
        finally:
            cluster.close()


def requeue(job: int | str, after: History, path: Path) -> None:
    """Put the job back into the queue, after which Slurm ends this process.

    Raises:
        ConfigError: Slurm will not.
    """
    after.write(path)
    for number in (*_SIGNALS, _PASSED_ON):
        signal.signal(number, signal.SIG_IGN)
    ask("scontrol", "requeue", str(job))


def main(arguments: Sequence[str]) -> int:
    """Run the whole job, and return the driver's exit status."""
    signals = Signals()
    try:
        allocation = Allocation.from_env(os.environ)
        run_dir = settle(arguments, allocation)
        section = options(run_dir)
        release(run_dir)
        sweep(run_dir, allocation.job)
        history = History.read(run_dir / HISTORY, allocation.name)
        history.write(run_dir / HISTORY)
        status, lost = train(run_dir, section, allocation, signals)
    except ConfigError as error:
        say(str(error))
        return _WRONG
    if signals.for_good:
        say(f"stopped for good: exit status {status}; go on with: fedray slurm {shlex.quote(str(run_dir))}")
        return status
    rounds = safe_rounds(run_dir)
    decided = verdict(status, lost, history, rounds, section.max_requeues, look_up(allocation.name).state)
    say(f"{decided.reason}: {'requeueing' if decided.requeue else f'exit status {status}'}")
    if decided.requeue:
        try:
            requeue(allocation.name, history.and_now(rounds), run_dir / HISTORY)
        except ConfigError as error:
            say(f"not requeued: {error}")
    if status not in (0, _WRONG) and not decided.by_slurm:
        say(f"go on with: fedray slurm {shlex.quote(str(run_dir))}")
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
