"""Start the ranks of one run, on the devices of this machine or of a SLURM job's nodes.

The worker that holds the run is rank 0. The others, processes of `rank_main`, train with it, write
nothing, and end with it.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from mixbench.experiments.errors import UserError
from mixbench.experiments.ranks import ALONE, Group, Ranks
from mixbench.experiments.signals import describe_exit
from mixbench.experiments.store.claims import Claim
from mixbench.experiments.store.sweep_folder import SweepFolder
from mixbench.experiments.text import first_line
from mixbench.experiments.worker.failures import RankFailed
from mixbench.experiments.worker.rank_meeting import (
    LEFT_ALONE,
    LOOPBACK,
    arrival_key,
    import_what_ddp_needs,
    is_lost_connection,
    open_store,
)

if TYPE_CHECKING:
    from torch.distributed.distributed_c10d import Store

START_SECONDS = 600.0
"""How long an assisting rank may take to start; job steps are slow on a busy cluster."""
BLAME_SECONDS = 5.0
"""How long after a broken connection the rank that broke it may take to end."""


def nodes() -> list[str]:
    """The nodes of the SLURM job that this is part of, this one, as "", first; just "" elsewhere.

    RankFailed where SLURM's programs don't name them.
    """
    if int(os.environ.get("SLURM_JOB_NUM_NODES") or 1) == 1:
        return [""]
    command = ["scontrol", "show", "hostnames", os.environ.get("SLURM_JOB_NODELIST", "")]
    try:
        listed = subprocess.run(command, capture_output=True, text=True, check=True, timeout=30)
    except (OSError, subprocess.SubprocessError) as error:
        raise RankFailed(f"the job's nodes are not known: {first_line(error)}") from error
    here = os.environ.get("SLURMD_NODENAME", "")
    return ["", *(name for name in listed.stdout.split() if name != here)]


def available(device: torch.device) -> int:
    """On how many devices a run can be trained from here; a CPU takes any number of ranks."""
    if device.type != "cuda":
        return sys.maxsize
    return torch.cuda.device_count() * len(nodes())


@contextlib.contextmanager
def group(
    folder: SweepFolder, run_key: str, size: int, device: torch.device, claim: Claim
) -> Iterator[Ranks]:
    """The ranks of a run, of which this process is the first; starts and ends the others.

    `claim` is renewed while they start. Of CPU threads, every rank gets an equal share. UserError
    for more ranks than devices; RankFailed when an assisting rank made the group fail.
    """
    if size == 1:
        yield ALONE
        return
    if size > available(device):
        raise UserError(
            f"training.devices: got {size}, expected at most {available(device)}, the GPUs that "
            "this worker may use"
        )
    job_nodes = nodes()
    host = LOOPBACK if job_nodes == [""] else socket.gethostname()
    threads_before = torch.get_num_threads()
    threads = max(1, threads_before // -(-size // len(job_nodes)))
    assistants = _Assistants()
    try:
        torch.set_num_threads(threads)
        with claim.keep_renewing():
            store = open_store(host, size)
            launch = _Launch(folder, run_key, size, job_nodes, f"{host}:{store.port}", threads)
            for rank in range(1, size):
                assistants.members.append(launch.start(rank, device))
            import_what_ddp_needs()
            assistants.await_start(store)
        ranks = Group(store, 0, size, device)
        is_well = False
        try:
            yield ranks
            is_well = True
        finally:
            ranks.close(broken=not is_well)
        assistants.end_and_tidy()
    except Exception as error:
        if not is_lost_connection(error):
            raise
        # Here it is a closed connection; the cause is the rank that failed first.
        cause = assistants.failure(BLAME_SECONDS)
        raise RankFailed(cause or f"the ranks lost each other: {first_line(error)}") from error
    finally:
        assistants.end()
        torch.set_num_threads(threads_before)


@dataclass(frozen=True)
class _Launch:
    """What the assisting ranks of one run have in common. nodes: as `nodes` gives them."""

    folder: SweepFolder
    run_key: str
    size: int
    nodes: list[str]
    address: str
    threads: int

    def start(self, rank: int, device: torch.device) -> _Assistant:
        """Start one rank, on the node that its number falls on."""
        per_node = -(-self.size // len(self.nodes))
        node, index = self.nodes[rank // per_node], rank % per_node
        command = self._command(rank, f"cuda:{index}" if device.type == "cuda" else "cpu")
        environment = {**os.environ, "OMP_NUM_THREADS": str(self.threads)}
        if node:
            command = [*_srun(node), *command]
            # These are the GPUs here; there, SLURM says which they are.
            environment.pop("CUDA_VISIBLE_DEVICES", None)
        output = self.folder.path / "runs" / self.run_key / f"rank{rank}.txt"
        with output.open("wb") as file:
            process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=file,
                stderr=subprocess.STDOUT,
                env=environment,
            )
        return _Assistant(rank, process, output)

    def _command(self, rank: int, device: str) -> list[str]:
        # -P: modules in the user's working folder must not stand in for installed ones.
        python = [sys.executable, "-P", "-m", "mixbench.experiments.worker.rank_main"]
        options = {
            "rank": rank,
            "size": self.size,
            "address": self.address,
            "device": device,
            "threads": self.threads,
        }
        words = [word for name, value in options.items() for word in (f"--{name}", str(value))]
        return [*python, str(self.folder.path), self.run_key, *words]


def _srun(node: str) -> list[str]:
    """What comes before a command that runs on another node of this SLURM job.

    It is a step of the job, which gets this environment, hands on the end of its standard input,
    and ends with the job, or when srun does.
    """
    # Not inherited from the job by every srun. All CPUs of the job there, which the ranks of the
    # node share as they do here, instead of the same few for each of them.
    cpus = os.environ.get("SLURM_CPUS_PER_TASK")
    return [
        *("srun", f"--nodelist={node}", "--nodes=1", "--ntasks=1", "--overlap"),
        *([f"--cpus-per-task={cpus}"] if cpus else []),
        *("--cpu-bind=none", "--export=ALL", "--input=all"),
        *("--kill-on-bad-exit=1", "--unbuffered"),
    ]


@dataclass
class _Assistant:
    """One assisting rank; `output` is the file of what it prints."""

    rank: int
    process: subprocess.Popen[bytes]
    output: Path

    def failure(self) -> str | None:
        """How the rank failed; None while it works, and when it only followed another one."""
        status = self.process.poll()
        if status in (None, 0, LEFT_ALONE):
            return None
        # srun tells of a signal as a shell does.
        number = -status if status < 0 else status - 128
        if number in set(signal.Signals):
            reason = describe_exit(-number)
        else:
            reason = self.last_line() or describe_exit(status)
        return f"rank {self.rank}: {reason}"

    def last_line(self) -> str:
        """The last line of what the rank printed, or of what srun did where it printed nothing."""
        lines = self.output.read_text(errors="replace").strip().splitlines()
        of_rank = [line for line in lines if not line.startswith(("srun:", "slurmstepd"))]
        errors = [line for line in lines if " error: " in line]
        return (of_rank or errors or lines or [""])[-1]


@dataclass
class _Assistants:
    """The assisting ranks of a run."""

    members: list[_Assistant] = field(default_factory=list)

    def failure(self, seconds: float = 0.0) -> str | None:
        """How a rank failed, if one does within `seconds`."""
        limit = time.monotonic() + seconds
        while True:
            for member in self.members:
                reason = member.failure()
                if reason is not None:
                    return reason
            if time.monotonic() >= limit:
                return None
            time.sleep(0.05)

    def await_start(self, store: Store) -> None:
        """Wait until all are there; RankFailed when one is not going to be."""
        limit = time.monotonic() + START_SECONDS
        for member in self.members:
            while not store.check([arrival_key(member.rank)]):
                reason = self.failure(0.1)
                if reason is None and time.monotonic() > limit:
                    reason = f"rank {member.rank}: not there after {START_SECONDS:.0f} s"
                    reason = ": ".join(filter(None, (reason, member.last_line())))
                if reason is not None:
                    raise RankFailed(reason)

    def end(self) -> None:
        """End them; kill those that don't end within 5 s."""
        for member in self.members:
            # Closing their input tells them to end.
            if member.process.stdin is not None:
                member.process.stdin.close()
        for member in self.members:
            try:
                member.process.wait(5)
            except subprocess.TimeoutExpired:
                member.process.kill()
                member.process.wait()

    def end_and_tidy(self) -> None:
        """End them after a successful run, and delete what they printed."""
        self.end()
        for member in self.members:
            member.output.unlink(missing_ok=True)
