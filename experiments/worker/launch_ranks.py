"""Starts the ranks of one run, on the devices of this machine or of a SLURM job's nodes.

    python -m mixbench.experiments.worker.launch_ranks SWEEP RUN_KEY --rank 1 ...

That is one rank that assists.

The worker that holds the run is rank 0. The others train with it, write nothing, and end with it.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import torch

from mixbench.experiments.config import resolve
from mixbench.experiments.errors import UserError
from mixbench.experiments.ranks import ALONE, Group, Ranks
from mixbench.experiments.signals import SIGNALS, Stopped, describe_exit
from mixbench.experiments.store.claims import Claim
from mixbench.experiments.store.run_folder import RunFolder
from mixbench.experiments.store.sweep_folder import SweepFolder
from mixbench.experiments.text import first_line
from mixbench.experiments.training.loop import Diverged
from mixbench.experiments.worker import execute

LOOPBACK = "127.0.0.1"
START_SECONDS = 600.0
"""How long an assisting rank may take to start: a job step on a busy cluster takes its time."""
BLAME_SECONDS = 5.0
"""How long after a broken connection the rank that broke it may take to end."""
LEFT_ALONE = 3
"""The exit status of a rank that ends because another one is gone."""


class RankFailed(Exception):
    """A rank that assisted has failed; the message says how."""


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


@dataclass
class _Assistant:
    rank: int
    process: subprocess.Popen[bytes]
    output: Path

    def failed(self) -> str | None:
        """How the rank failed; None while it works, and when it only followed another one."""
        status = self.process.poll()
        if status in (None, 0, LEFT_ALONE):
            return None
        # srun tells of a signal as a shell does.
        number = -status if status < 0 else status - 128
        if number in set(signal.Signals):
            said = describe_exit(-number)
        else:
            said = self.said() or f"exit status {status}"
        return f"rank {self.rank}: {said}"

    def said(self) -> str:
        """The last line of what the rank printed, or of what srun did where it printed nothing."""
        lines = self.output.read_text(errors="replace").strip().splitlines()
        own = [line for line in lines if not line.startswith(("srun:", "slurmstepd"))]
        errors = [line for line in lines if " error: " in line]
        return (own or errors or lines or [""])[-1]


@dataclass
class _Assistants:
    members: list[_Assistant] = field(default_factory=list)

    def failed(self, seconds: float = 0.0) -> str | None:
        """What the first rank that failed has said, if one does within `seconds`."""
        limit = time.monotonic() + seconds
        while True:
            for member in self.members:
                said = member.failed()
                if said is not None:
                    return said
            if time.monotonic() >= limit:
                return None
            time.sleep(0.05)

    def await_start(self, store: torch.distributed.Store) -> None:
        """Until all are there; RankFailed when one is not going to be."""
        limit = time.monotonic() + START_SECONDS
        for member in self.members:
            while not store.check([_here(member.rank)]):
                said = self.failed(0.1)
                if said is None and time.monotonic() > limit:
                    said = f"rank {member.rank}: not there after {START_SECONDS:.0f} s"
                    said = ": ".join(filter(None, (said, member.said())))
                if said is not None:
                    raise RankFailed(said)

    def end(self) -> None:
        for member in self.members:
            # Their input's end tells them that we are gone.
            if member.process.stdin is not None:
                member.process.stdin.close()
        for member in self.members:
            try:
                member.process.wait(5)
            except subprocess.TimeoutExpired:
                member.process.kill()
                member.process.wait()

    def tidy(self) -> None:
        """End them after a run that went well: what they printed is of no interest."""
        self.end()
        for member in self.members:
            member.output.unlink(missing_ok=True)


@contextlib.contextmanager
def group(
    folder: SweepFolder, run_key: str, size: int, device: torch.device, claim: Claim
) -> Iterator[Ranks]:
    """The ranks of a run, of which this process is the first; the others are started and ended.

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
    places = nodes()
    host = LOOPBACK if places == [""] else socket.gethostname()
    before = torch.get_num_threads()
    threads = max(1, before // -(-size // len(places)))
    assistants = _Assistants()
    try:
        torch.set_num_threads(threads)
        with claim.kept():
            store = _meeting_place(host, size)
            address = f"{host}:{store.port}"
            for rank in range(1, size):
                assistants.members.append(
                    _start(folder, run_key, rank, size, device, places, address, threads)
                )
            _import_what_ddp_needs()
            assistants.await_start(store)
        ranks = Group(store, 0, size, device)
        well = False
        try:
            yield ranks
            well = True
        finally:
            ranks.close(broken=not well)
        assistants.tidy()
    except Exception as error:
        if not _lost(error):
            raise
        # Here it shows as a closed connection; whoever failed first is the cause.
        cause = assistants.failed(BLAME_SECONDS)
        raise RankFailed(cause or f"the ranks lost each other: {first_line(error)}") from error
    finally:
        assistants.end()
        torch.set_num_threads(before)


def _meeting_place(host: str, size: int) -> torch.distributed.TCPStore:
    """Where the ranks find each other; on one machine, not to be reached from another."""
    if host != LOOPBACK:
        return torch.distributed.TCPStore(host, 0, size, is_master=True, wait_for_workers=False)
    _use_loopback(host)
    listener = socket.create_server((host, 0))
    store = torch.distributed.TCPStore(
        *(host, listener.getsockname()[1], size),
        is_master=True,
        wait_for_workers=False,
        master_listen_fd=listener.fileno(),
    )
    listener.detach()  # the store's now
    return store


def _import_what_ddp_needs() -> None:
    """Now, while the claim is renewed: DDP's constructor imports all of torch's compiler."""
    importlib.import_module("torch._dynamo")


def _here(rank: int) -> str:
    return f"rank {rank} is here"


def _lost(error: Exception) -> bool:
    """Is it that another rank is gone?"""
    if isinstance(error, torch.distributed.DistError):
        return True
    words = ("gloo", "NCCL", "Connection closed by peer", "Connection reset by peer")
    return isinstance(error, RuntimeError) and any(word in str(error) for word in words)


def _start(
    folder: SweepFolder,
    run_key: str,
    rank: int,
    size: int,
    device: torch.device,
    places: list[str],
    address: str,
    threads: int,
) -> _Assistant:
    per_node = -(-size // len(places))
    node, index = places[rank // per_node], rank % per_node
    command = [
        *(
            sys.executable,
            "-P",
            "-m",
            "mixbench.experiments.worker.launch_ranks",
            str(folder.path),
            run_key,
        ),
        *("--rank", str(rank), "--size", str(size), "--address", address),
        *("--device", f"cuda:{index}" if device.type == "cuda" else "cpu"),
        *("--threads", str(threads)),
    ]
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
    if node:
        command = [*_on(node), *command]
        # These are the GPUs here; there, SLURM says which they are.
        environment.pop("CUDA_VISIBLE_DEVICES", None)
    output = folder.path / "runs" / run_key / f"rank{rank}.txt"
    with output.open("wb") as file:
        process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=file,
            stderr=subprocess.STDOUT,
            env=environment,
        )
    return _Assistant(rank, process, output)


def _on(node: str) -> list[str]:
    """What comes before a command that is to run on another node of this SLURM job.

    It is a step of the job, which gets this environment, hands on the end of its standard input,
    and ends with the job, or when srun does.
    """
    # Not inherited from the job by every srun. All CPUs of the job there, which the ranks of the
    # node share as they do here, instead of the same few for each of them.
    given = os.environ.get("SLURM_CPUS_PER_TASK")
    return [
        *("srun", f"--nodelist={node}", "--nodes=1", "--ntasks=1", "--overlap"),
        *([f"--cpus-per-task={given}"] if given else []),
        *("--cpu-bind=none", "--export=ALL", "--input=all"),
        *("--kill-on-bad-exit=1", "--unbuffered"),
    ]


def _use_loopback(host: str) -> None:
    if host == LOOPBACK and sys.platform == "linux":
        # Where the host's name leads nowhere, gloo would not find an address by itself.
        os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")


def _end_with_the_leader() -> None:
    """Exit when the standard input ends: the leader holds the other end of it."""

    def wait() -> None:
        # Not through `sys.stdin`: its lock, held here, would be held for ever in a forked process.
        while os.read(0, 4096):
            pass
        os._exit(LEFT_ALONE)

    threading.Thread(target=wait, daemon=True).start()


def main() -> int:
    """One rank that assists."""
    parser = argparse.ArgumentParser(description="Assist in training one run.")
    parser.add_argument("sweep", type=Path)
    parser.add_argument("run_key")
    parser.add_argument("--rank", type=int, required=True)
    parser.add_argument("--size", type=int, required=True)
    parser.add_argument("--address", required=True)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    for known in SIGNALS:
        # What is to stop is decided by rank 0.
        signal.signal(known, signal.SIG_IGN)
    _end_with_the_leader()
    torch.set_num_threads(arguments.threads)
    logging.basicConfig(level=logging.WARNING)
    device = torch.device(arguments.device)
    if device.type == "cuda":
        torch.cuda.set_device(device)
        torch.backends.cudnn.benchmark = True
    host, _, port = arguments.address.rpartition(":")
    _use_loopback(host)
    store = torch.distributed.TCPStore(host, int(port), arguments.size, is_master=False)
    folder = SweepFolder(arguments.sweep.absolute())
    planned = RunFolder(folder.path / "runs" / arguments.run_key)
    wanted = next(one for one in folder.plan() if one.run_key == arguments.run_key)
    _import_what_ddp_needs()
    store.set(_here(arguments.rank), "")
    try:
        ranks = Group(store, arguments.rank, arguments.size, device)
        # What rank 0 finds out as well is for it to tell.
        with contextlib.suppress(Stopped, Diverged):
            execute.assist(resolve.parse(wanted.config), planned, device, ranks)
    except Exception as error:
        traceback.print_exc()
        sys.stderr.flush()
        # At once: taking the group apart could wait for ranks that wait for this one.
        os._exit(LEFT_ALONE if _lost(error) else 1)
    ranks.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
