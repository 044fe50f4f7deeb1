"""Workers on this machine: one per GPU slot, or one per share of the CPU cores.

The workers are processes of their own that outlive the launcher: when it is killed they finish the
sweep, and when it is started again it finds them at work.
"""

from __future__ import annotations

import contextlib
import math
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from experiments import claims
from experiments.errors import UserError
from experiments.store import SweepFolder
from experiments.worker import POISONED, STOPPED


@dataclass(frozen=True)
class Slot:
    """A place for one worker: a GPU (as CUDA_VISIBLE_DEVICES names it), or some CPU threads."""

    gpu: str | None
    threads: int

    def describe(self) -> str:
        """In words, for the progress display."""
        if self.gpu is not None:
            return f"GPU {self.gpu}"
        return f"{self.threads} CPU thread{'s' if self.threads > 1 else ''}"


def cores() -> int:
    """CPU cores that this process may use: affinity and the container's quota count."""
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    with contextlib.suppress(OSError, ValueError):
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        if quota != "max":
            count = min(count or 1, math.ceil(int(quota) / int(period)))
    return max(1, count or 1)


def gpus() -> list[str]:
    """The GPUs that CUDA would see, found without importing torch."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return [part.strip() for part in visible.split(",") if part.strip() not in ("", "-1")]
    if not shutil.which("nvidia-smi"):
        return []
    query = ["nvidia-smi", "--query-gpu=index", "--format=csv,noheader"]
    try:
        done = subprocess.run(query, capture_output=True, text=True, check=False, timeout=30)
    except (OSError, subprocess.TimeoutExpired):
        return []
    return done.stdout.split() if done.returncode == 0 else []


@cache
def torch_sees_gpus() -> bool:
    """Can torch use the GPUs?  Asked in a process of its own: the import is slow."""
    question = "import sys, torch; sys.exit(not torch.cuda.is_available())"
    asked = subprocess.run([sys.executable, "-P", "-c", question], capture_output=True, check=False)
    return asked.returncode == 0


def slots(workers: int | None, runs: int, device: str = "auto") -> list[Slot]:
    """Places for the workers of `runs` runs: all GPUs, or all cores, or as many as `workers`.

    device: "auto" takes the GPUs where there are any, "cpu" and "cuda" insist. UserError for
    "cuda" without a GPU, or fewer than one worker.
    """
    if workers is not None and workers < 1:
        raise UserError(f"--workers: got {workers}, expected at least 1")
    found = gpus() if device != "cpu" else []
    if found and not torch_sees_gpus():
        # An old driver, a CPU build of torch: every run would fail on it.
        found = []
    if device == "cuda" and not found:
        raise UserError("--device cuda: no GPU that torch can use here; use --device cpu")
    if found:
        count = min(workers or len(found), runs)
        share = max(1, cores() // (workers or len(found)))
        return [Slot(found[number % len(found)], share) for number in range(count)]
    # One thread per worker is best: runs don't wait for each other, the threads of one run do. The
    # share must not depend on how many runs are missing, because sums over other threads round
    # differently: a continued sweep would not be the same.
    wanted = workers or cores()
    return [Slot(None, max(1, cores() // wanted)) for _ in range(min(wanted, runs))]


@dataclass
class LocalWorkers:
    """The worker processes of one launcher."""

    folder: SweepFolder
    processes: dict[int, tuple[subprocess.Popen[bytes], Slot, Path]] = field(default_factory=dict)
    started: int = 0
    unusable: str | None = None

    def start(self, slot: Slot) -> None:
        """Start a worker in `slot`; what it prints goes to the sweep's `workers` folder."""
        environment = {**os.environ, "OMP_NUM_THREADS": str(slot.threads)}
        device = "cpu"
        if slot.gpu is not None:
            environment["CUDA_VISIBLE_DEVICES"] = slot.gpu
            device = "cuda:0"
        elif "CUDA_VISIBLE_DEVICES" not in environment:
            environment["CUDA_VISIBLE_DEVICES"] = ""
        logs = self.folder.path / "workers"
        logs.mkdir(exist_ok=True)
        self.started += 1
        log = logs / f"{os.uname().nodename}-{os.getpid()}-{self.started}.log"
        command = [
            # -P: an `experiments` folder of the user's must not stand in for ours.
            *(sys.executable, "-P", "-m", "experiments.worker", str(self.folder.path)),
            *("--device", device, "--threads", str(slot.threads)),
        ]
        with log.open("wb") as output:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=environment,
                # A Ctrl-C at the terminal is the launcher's to handle.
                start_new_session=True,
            )
        self.processes[process.pid] = (process, slot, log)

    def poll(self) -> int:
        """Look after the workers; how many are alive.

        A worker that died takes one run with it, which is recorded as failed, and is replaced. One
        that died before it claimed anything would only die again: `unusable` says why.
        """
        for pid, (process, slot, log) in list(self.processes.items()):
            status = process.poll()
            if status is None:
                continue
            del self.processes[pid]
            if status in (0, STOPPED):
                continue
            if self._record_death(pid, status, log) or status == POISONED:
                self.start(slot)
            else:
                self.unusable = f"a worker could not work: {_last_line(log)} ({log})"
        return len(self.processes)

    def stop(self, patience: float = 10.0) -> None:
        """Ask all workers to stop, and end those that don't within `patience` seconds."""
        for process, _, _ in self.processes.values():
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(signal.SIGTERM)
        limit = time.monotonic() + patience
        for process, _, _ in self.processes.values():
            try:
                process.wait(max(0.0, limit - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self.processes.clear()

    def _record_death(self, pid: int, status: int, log: Path) -> bool:
        reason = f"signal {signal.Signals(-status).name}" if status < 0 else f"exit status {status}"
        for planned in self.folder.plan():
            folder = planned.folder
            last = folder.last_claim()
            if not last or last.get("pid") != pid or "released" in last or folder.result():
                continue
            if last.get("host") != claims.this_host():
                continue
            error = f"the worker died: {reason}"
            folder.fail(error, _tail(log), last["number"])
            folder.add_attempt(
                {
                    "attempt": last.get("number"),
                    "worker": last.get("worker"),
                    "started": last.get("started"),
                    "ended": time.time(),
                    "outcome": "died",
                    "error": error,
                }
            )
            return True
        return False


def _tail(log: Path, size: int = 4000) -> str:
    return log.read_bytes()[-size:].decode(errors="replace")


def _last_line(log: Path) -> str:
    lines = _tail(log).strip().splitlines()
    return lines[-1] if lines else "it printed nothing"
