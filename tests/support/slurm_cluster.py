"""A real SLURM on this machine, in a folder of its own: munged, slurmctld, a slurmd per node.

Its ports, its key and its socket are its own, so it meets no SLURM that the machine may have.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

# Debian keeps the daemons where an ordinary user's PATH does not look.
PATH = f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin"
PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "squeue", "scontrol", "scancel", "sinfo")

CONFIGURATION = """\
ClusterName=tests
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller}
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CredType=cred/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool.%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.%n.log
SlurmctldDebug=verbose
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
MpiDefault=none
ReturnToService=2
SlurmdParameters=config_overrides
# As on many small clusters: nobody keeps accounts, and sacct has nothing to say.
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SchedulerType=sched/backfill
SchedulerParameters=batch_sched_delay=0,sched_interval=1,sched_min_interval=0,bf_interval=1
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
# Small, so that what is larger than an array is quickly had.
MaxArraySize=4
MaxJobCount=1000
KillWait=15
CompleteWait=0
InactiveLimit=0
UnkillableStepTimeout=30
GresTypes=gpu
JobSubmitPlugins=lua
NodeName=DEFAULT CPUs={cpus} RealMemory={memory} Gres=gpu:2 State=UNKNOWN
{nodes}
PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE State=UP PriorityTier=1
PartitionName=free Nodes=ALL MaxTime=INFINITE State=UP PriorityTier=0
PartitionName=gone Nodes=ALL MaxTime=INFINITE State=UP PriorityTier=0 PreemptMode=CANCEL
PartitionName=urgent Nodes=ALL MaxTime=INFINITE State=UP PriorityTier=10
"""

# The devices are not GPUs; what SLURM says about them to a job is the same.
DEVICES = "Name=gpu File=/dev/tty[1-2]\n"

# What a QOS's limit of submitted jobs does, which needs an accounting database elsewhere: the same
# error, so sbatch says the same.
POLICY = """\
function slurm_job_submit(job, partitions, user)
  local comment = job.comment or ""
  local most = tonumber(string.match(comment, "at most (%d+)"))
  local last = tonumber(string.match(job.array_inx or "0-0", "-(%d+)")) or 0
  if most ~= nil and last + 1 > most then
    return 2050
  end
  return slurm.SUCCESS
end
function slurm_job_modify(job, request, partitions, user)
  return slurm.SUCCESS
end
return slurm.SUCCESS
"""


def missing() -> str | None:
    """Why there can be no SLURM here; None when there can."""
    without = [program for program in PROGRAMS if not _path_of(program)]
    if without:
        return f"no {', '.join(without)} (apt-get install slurm-wlm munge)"
    return None if os.geteuid() == 0 else "SLURM's daemons need root here"


@dataclass(frozen=True)
class Cluster:
    """A SLURM that runs; its programs find it by `SLURM_CONF`."""

    folder: Path
    cpus: int

    @property
    def configuration(self) -> Path:
        """What `SLURM_CONF` must name."""
        return self.folder / "slurm.conf"

    def ask(self, *command: str, seconds: float = 30) -> str:
        """The output of one of SLURM's programs."""
        done = subprocess.run(
            [_path_of(command[0]), *command[1:]],
            capture_output=True,
            text=True,
            check=True,
            timeout=seconds,
            env={"SLURM_CONF": str(self.configuration), "PATH": PATH},
        )
        return done.stdout.strip()

    def empty(self) -> None:
        """Cancel everything, and wait until it is gone."""
        self.ask("scancel", "--user=root")
        limit = time.monotonic() + 300
        while jobs := self.ask("squeue", "-h"):
            if time.monotonic() > limit:
                raise TimeoutError(f"jobs that don't end: {jobs}")
            time.sleep(0.2)


@contextlib.contextmanager
def running(folder: Path, cpus: int = 8, nodes: int = 1) -> Iterator[Cluster]:
    """A SLURM, from here to the end of the block.

    cpus: how many CPUs a node says it has, more than there are. nodes: how many there are, all on
    this machine; one has its name, several are node1, node2, ...
    """
    host = socket.gethostname().split(".")[0]
    names = [host] if nodes == 1 else [f"node{number + 1}" for number in range(nodes)]
    for name in ("state", *(f"spool.{name}" for name in names)):
        (folder / name).mkdir(parents=True)
    os.chmod(folder, 0o755)
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2**20
    values = {
        "host": host,
        "folder": folder,
        "cpus": cpus,
        "memory": memory,
        "controller": _free_port(),
        "nodes": "\n".join(
            f"NodeName={name} NodeAddr=127.0.0.1 Port={_free_port()}" for name in names
        ),
    }
    cluster = Cluster(folder, cpus)
    cluster.configuration.write_text(CONFIGURATION.format(**values))
    (folder / "gres.conf").write_text(DEVICES)
    (folder / "job_submit.lua").write_text(POLICY)
    key = folder / "munge.key"
    key.write_bytes(os.urandom(1024))
    key.chmod(0o600)
    environment = {**os.environ, "SLURM_CONF": str(cluster.configuration)}
    for name in list(environment):
        if name.startswith(("SLURM_", "SBATCH_")) and name != "SLURM_CONF":
            del environment[name]
    munged = [
        _path_of("munged"),
        "--foreground",
        "--force",
        f"--key-file={key}",
        f"--socket={folder}/munge.socket",
        f"--pid-file={folder}/munged.pid",
        f"--log-file={folder}/munged.log",
        f"--seed-file={folder}/munge.seed",
    ]
    daemons: list[subprocess.Popen[bytes]] = []
    try:
        for command in (
            munged,
            [_path_of("slurmctld"), "-D", "-i"],
            *([_path_of("slurmd"), "-D", "-N", name] for name in names),
        ):
            with (folder / f"{len(daemons)}.{Path(command[0]).name}.out").open("wb") as log:
                daemon = subprocess.Popen(
                    command,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    env=environment,
                    start_new_session=True,
                )
            daemons.append(daemon)
            if command is munged:
                _until((folder / "munge.socket").exists, daemons, folder)
        _until(lambda: _idle(cluster), daemons, folder)
        yield cluster
    finally:
        with contextlib.suppress(subprocess.SubprocessError, TimeoutError):
            cluster.empty()
        for daemon in reversed(daemons):
            daemon.terminate()
            try:
                daemon.wait(15)
            except subprocess.TimeoutExpired:
                daemon.kill()
                daemon.wait()


def _idle(cluster: Cluster) -> bool:
    try:
        return set(cluster.ask("sinfo", "-h", "-o", "%T").split()) == {"idle"}
    except subprocess.SubprocessError:
        return False


def _until(true: object, daemons: list[subprocess.Popen[bytes]], folder: Path) -> None:
    limit = time.monotonic() + 300
    while not true():  # type: ignore[operator]
        ended = [daemon.args for daemon in daemons if daemon.poll() is not None]
        if ended or time.monotonic() > limit:
            logs = [path.read_text()[-2000:] for path in sorted(folder.glob("*.out"))]
            raise RuntimeError(f"SLURM did not start ({ended}):\n" + "\n".join(logs))
        time.sleep(0.1)


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def _path_of(program: str) -> str:
    return shutil.which(program, path=PATH) or ""
