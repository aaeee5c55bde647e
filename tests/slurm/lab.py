"""A real Slurm cluster on one machine, for tests.

Every "node" is a set of Linux namespaces: its own address and host name on a private bridge, its own processes, /tmp
and /dev/shm.  Outside of them nothing listens and nothing changes, and the death of one process ends it all.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PROGRAMS = ("slurmctld", "slurmd", "sbatch", "munged", "ip", "unshare", "nsenter")
_UNSHARE = ("unshare", "--net", "--uts", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc")
_SPACES = ("--net", "--uts", "--mount", "--pid")
# The first process of a PID namespace inherits orphans, and must bury them.
_INIT = ("bash", "-c", "while :; do sleep 3600 & wait $!; done")
_NETWORK = "10.77.0"
_LOGIN = f"{_NETWORK}.254"

SLURM_CONF = """\
ClusterName=lab
SlurmctldHost=login({login})
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
# cred_expire: a requeued job waits so long before it may start again; below 5 s it would be the default of 120 s.
AuthInfo=socket={folder}/munge.sock,cred_expire=5
CredType=cred/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/%n/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/%n/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/%n/slurmd.log
# No cgroups, no accounting, no MPI: what a container has.
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
MpiDefault=none
SwitchType=switch/none
ReturnToService=2
SlurmdTimeout=5
SlurmctldTimeout=8
MessageTimeout=5
KillWait=20
MinJobAge=3600
JobRequeue=1
SchedulerType=sched/backfill
SchedulerParameters=sched_interval=1,bf_interval=1,batch_sched_delay=0
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
# The nodes have more cores than this machine.
SlurmdParameters=config_overrides
DefMemPerCPU=500
GresTypes=gpu
NodeName=node[1-{count}] CPUs=4 SocketsPerBoard=1 CoresPerSocket=4 ThreadsPerCore=1 RealMemory=8000 Gres=gpu:2
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
PartitionName=DEFAULT Nodes=ALL DefaultTime=30 MaxTime=INFINITE State=UP OverSubscribe=NO
PartitionName=main Default=YES PreemptMode=OFF
PartitionName=spot PreemptMode=REQUEUE
PartitionName=graced PreemptMode=REQUEUE GraceTime=20
PartitionName=urgent PriorityTier=10 PreemptMode=OFF
"""


def lacking() -> str | None:
    """Why there can be no lab here, or None."""
    path = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
    if missing := [name for name in PROGRAMS if shutil.which(name, path=path) is None]:
        return f"needs {', '.join(missing)} (Debian: slurm-wlm munge iproute2 util-linux)"
    tried = subprocess.run([*_UNSHARE, "true"], capture_output=True, text=True)
    return f"needs root and Linux namespaces: {tried.stderr.strip()}" if tried.returncode else None


def until(condition: Callable[[], object], seconds: float, what: str | Callable[[], str]) -> None:
    """Wait for something outside of this process.

    Raises:
        TimeoutError: it did not happen in time.
    """
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(what if isinstance(what, str) else what())
        time.sleep(0.25)  # looking costs a jobs' processors time


@dataclass(frozen=True)
class JobState:
    """What ``scontrol show job`` says."""

    state: str
    restarts: int
    exit_code: str
    batch_host: str


class Lab:
    """The cluster: a login node with Slurm's controller, and compute nodes ``node1``, ``node2``...

    Args:
        folder: shared by all nodes, as a cluster's file system is.
        count: compute nodes.
    """

    def __init__(self, folder: Path, count: int = 3) -> None:
        self.folder, self.count = folder, count
        self.nodes = [f"node{i + 1}" for i in range(count)]
        self._inits: dict[str, int] = {}
        self._processes: list[subprocess.Popen[bytes]] = []
        self.env = {
            **{name: value for name, value in os.environ.items() if not name.startswith(("SLURM", "RAY_"))},
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}:/usr/sbin:/sbin",
            "PYTHONPATH": f"{ROOT}:{folder}",
            "SLURM_CONF": str(folder / "slurm.conf"),
        }

    def __enter__(self) -> Lab:
        try:
            self._configure()
            self._start_login()
            for name in self.nodes:
                self.boot(name)
            until(lambda: self.idle() == self.count, 30, lambda: f"the nodes are not up: {self.run('sinfo', '-N')}")
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for process in self._processes:
            process.kill()
            process.wait()

    def idle(self) -> int:
        """How many nodes wait for work."""
        said = self.run("sinfo", "-h", "-o", "%T %D", check=False).split()
        return int(said[1]) if len(said) == 2 and said[0] == "idle" else 0

    def is_down(self, name: str) -> bool:
        """Whether Slurm has noticed that a node is gone."""
        return self.run("sinfo", "-h", "-n", name, "-o", "%T", check=False).strip().startswith("down")

    def _configure(self) -> None:
        names = self.nodes
        (self.folder / "state").mkdir()
        conf = SLURM_CONF.format(login=_LOGIN, folder=self.folder, count=self.count)
        (self.folder / "slurm.conf").write_text(conf)
        # Any character devices do for GPUs that nobody computes on.
        gpus = "".join(f"NodeName={n} Name=gpu File={file}\n" for n in names for file in ("/dev/null", "/dev/zero"))
        (self.folder / "gres.conf").write_text(gpus)
        hosts = [f"127.0.0.1 localhost\n{_LOGIN} login", *(f"{self.address(n)} {n}" for n in names)]
        (self.folder / "hosts").write_text("\n".join(hosts) + "\n")
        key = self.folder / "munge.key"
        key.write_bytes(os.urandom(128))
        key.chmod(0o400)

    def address(self, name: str) -> str:
        """A node's address."""
        return f"{_NETWORK}.{name.removeprefix('node')}"

    def _start_login(self) -> None:
        self._inits["login"] = self._spawn([*_UNSHARE, *_INIT])
        self.on(
            "login",
            f"""
            hostname login; mount --bind {self.folder}/hosts /etc/hosts
            ip link set lo up; ip link add bridge0 type bridge; ip addr add {_LOGIN}/24 dev bridge0
            ip link set bridge0 up
            munged --force --key-file={self.folder}/munge.key --socket={self.folder}/munge.sock \
                --pid-file={self.folder}/munged.pid --log-file={self.folder}/munged.log --seed-file={self.folder}/seed
            slurmctld
            """,
        )

    def boot(self, name: str) -> None:
        """Switch a node on."""
        self._inits[name] = init = self._spawn([*self._enter("login"), *_UNSHARE, *_INIT])
        link = f"to-{name}"
        home = self.folder / name
        for part in ("spool", "tmp"):
            shutil.rmtree(home / part, ignore_errors=True)
            (home / part).mkdir(parents=True)
        (home / "tmp").chmod(0o1777)
        # By network namespace alone, as the process id is one of this machine.
        outside = ["nsenter", "--net", "-t", str(self._inits["login"])]
        subprocess.run([*outside, "ip", "link", "del", link], stderr=subprocess.DEVNULL)
        _checked([*outside, *f"ip link add {link} type veth peer name eth0 netns {init}".split()])
        _checked([*outside, *f"ip link set {link} master bridge0 up".split()])
        self.on(
            name,
            f"""
            hostname {name}; ip link set lo up; ip addr add {self.address(name)}/24 dev eth0; ip link set eth0 up
            mount -t tmpfs -o size=4g tmpfs /dev/shm
            {self._private_tmp(home / "tmp")}
            slurmd -N {name}
            """,
        )

    def _private_tmp(self, tmp: Path) -> str:
        """Commands that give a node a /tmp of its own, in which only what a shared file system has is seen."""
        kept = {self.folder, ROOT, Path(sys.prefix), Path(sys.base_prefix)}
        lines = []
        for path in sorted(path for path in kept if path.is_relative_to("/tmp")):
            inside = tmp / path.relative_to("/tmp")
            lines.append(f"mkdir -p {inside}; mount --bind {path} {inside}")
        return "\n".join([*lines, f"mount --rbind {tmp} /tmp"])

    def _spawn(self, command: Sequence[str]) -> int:
        """Start namespaces; the process id of their first process, as this machine counts."""
        log = (self.folder / "inits.log").open("ab")
        with log:
            process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=self.env)
        self._processes.append(process)
        found: list[int] = []

        def is_up() -> bool:
            pid = process.pid
            while Path(f"/proc/{pid}/comm").read_text().strip() != "bash":
                children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
                if not children:
                    return False
                pid = int(children[0])
            found.append(pid)
            return True

        until(is_up, 10, f"{command[0]} did not start: {(self.folder / 'inits.log').read_text()}")
        return found[0]

    def _enter(self, name: str) -> list[str]:
        return ["nsenter", *_SPACES, "-t", str(self._inits[name]), "env", f"--chdir={self.folder}"]

    def on(self, name: str, script: str, check: bool = True) -> str:
        """Run shell lines on a node; what they print."""
        return _checked([*self._enter(name), "bash", "-ec", script], self.env, check)

    def run(self, *command: object, check: bool = True) -> str:
        """Run a command on the login node, in the shared folder; what it prints."""
        return _checked([*self._enter("login"), *map(str, command)], self.env, check)

    def fedray(self, *arguments: object) -> subprocess.CompletedProcess[str]:
        """Run ``fedray`` on the login node."""
        command = [*self._enter("login"), sys.executable, "-m", "fedray", *map(str, arguments)]
        return subprocess.run(command, env=self.env, capture_output=True, text=True)

    def kill(self, name: str) -> None:
        """Power failure of a node: all its processes die at once."""
        os.kill(self._inits[name], 9)

    def processes(self, name: str, job: int) -> list[str]:
        """Command lines of a job's processes on a node: those that have its id in their environment."""
        of_job = f"grep -qz '^SLURM_JOB_ID={job}$' $p/environ 2>/dev/null"
        show = "tr '\\0' ' ' < $p/cmdline && echo"
        said = self.on(name, f"for p in /proc/[0-9]*; do if {of_job}; then {show} || true; fi; done")
        return [line.strip() for line in said.splitlines() if line.strip()]

    def leftovers(self, name: str) -> str:
        """What lies in a node's /tmp and shared memory, besides what a shared file system has."""
        return self.on(name, "find /tmp /dev/shm -mindepth 1 -maxdepth 1 -name '*fedray*' -o -path '/dev/shm/?*'")

    def job(self, number: int | str) -> JobState:
        """What Slurm says of a job."""
        said = dict(re.findall(r"(\w+)=(\S*)", self.run("scontrol", "show", "job", "-o", number)))
        return JobState(said["JobState"], int(said["Restarts"]), said["ExitCode"], said.get("BatchHost", ""))

    def ended(self, number: int, seconds: float = 120) -> JobState:
        """Wait for a job's end."""
        going = ("PENDING", "RUNNING", "COMPLETING", "REQUEUED", "CONFIGURING")
        until(lambda: self.job(number).state not in going, seconds, lambda: f"job {number} goes on: {self.job(number)}")
        return self.job(number)


def _checked(command: Sequence[str], env: dict[str, str] | None = None, check: bool = True) -> str:
    done = subprocess.run(command, env=env, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    if check and done.returncode != 0:
        raise RuntimeError(f"{' '.join(command)}: {done.stderr.strip()}")
    return done.stdout


def hashes(run_dir: Path) -> dict[int, str]:
    """The model's hash after each round so far, each round there once and in order."""
    lines = (run_dir / "metrics.jsonl").read_text().splitlines()
    records = [json.loads(line) for line in lines]
    assert [record["round"] for record in records] == list(range(1, len(records) + 1))
    return {record["round"]: record["model_sha256"] for record in records}


def rounds_done(run_dir: Path) -> int:
    """Rounds in the run's metrics so far."""
    metrics = run_dir / "metrics.jsonl"
    return len(metrics.read_text().splitlines()) if metrics.exists() else 0


def wait_for_rounds(run_dir: Path, rounds: int) -> None:
    """Until so many are done."""
    until(lambda: rounds_done(run_dir) >= rounds, 120, lambda: log_of(run_dir))


def log_of(run_dir: Path) -> str:
    """The logs of the run's jobs."""
    return "\n".join(path.read_text() for path in sorted(run_dir.glob("slurm-*.log")))


def assert_nothing_left(lab: Lab, job: int, run_dir: Path) -> None:
    """No process and no temporary file of the job on any node, and no token in the run folder."""

    def there() -> list[str]:
        return [f"{name}: {line}" for name in lab.nodes for line in lab.processes(name, job)]

    until(lambda: not there(), 10, lambda: "\n".join(there()))
    for name in lab.nodes:
        assert f"-{job}." not in lab.leftovers(name)
    assert not list(run_dir.glob(".slurm-*"))
