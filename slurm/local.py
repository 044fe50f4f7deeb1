"""Slots for workers on this machine: GPUs, or shares of the CPU cores."""

from __future__ import annotations

import contextlib
import math
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from mixbench.experiments.errors import UserError
from mixbench.experiments.text import plural


@dataclass(frozen=True)
class Slot:
    """What one worker gets: GPUs (as CUDA_VISIBLE_DEVICES names them), or some CPU threads."""

    gpu: str | None
    threads: int

    def describe(self) -> str:
        """Say what it is, for the progress display."""
        if self.gpu is not None:
            return f"GPU{'s' if ',' in self.gpu else ''} {self.gpu}"
        return plural(self.threads, "CPU thread")

    def environment(self) -> dict[str, str]:
        """Return the environment variables of a process in this slot."""
        variables = {"OMP_NUM_THREADS": str(self.threads)}
        if self.gpu is not None:
            variables["CUDA_VISIBLE_DEVICES"] = self.gpu
        elif "CUDA_VISIBLE_DEVICES" not in os.environ:
            variables["CUDA_VISIBLE_DEVICES"] = ""
        return variables


def cores() -> int:
    """Count the CPU cores that this process may use, by affinity and the container's quota."""
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    with contextlib.suppress(OSError, ValueError):
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        if quota != "max":
            count = min(count or 1, math.ceil(int(quota) / int(period)))
    return max(1, count or 1)


def gpus() -> list[str]:
    """Return the GPUs that CUDA would see, without importing torch."""
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
    """Can torch use the GPUs? Asked in a process of its own: the import is slow."""
    question = "import sys, torch; sys.exit(not torch.cuda.is_available())"
    asked = subprocess.run([sys.executable, "-P", "-c", question], capture_output=True, check=False)
    return asked.returncode == 0


def slots(
    workers: int | None, runs: int, device: str = "auto", *, per_gpu: int = 1, devices: int = 1
) -> list[Slot]:
    """Return slots for the workers of `runs` runs: all GPUs, or all cores, or as many as `workers`.

    device: "auto" takes the GPUs where there are any, "cpu" and "cuda" insist. per_gpu: workers
    that share a GPU. devices: GPUs (or CPU processes) that one run takes. UserError for "cuda"
    without a GPU, for fewer GPUs than a run takes, or fewer than one worker.
    """
    for option, number in (("--workers", workers), ("--workers-per-gpu", per_gpu)):
        if number is not None and number < 1:
            raise UserError(f"{option}: got {number}, expected at least 1")
    if per_gpu > 1 and devices > 1:
        raise UserError(
            f"--workers-per-gpu: got {per_gpu}, expected 1 where a run takes {devices} GPUs "
            "(training.devices)"
        )
    usable = gpus() if device != "cpu" else []
    if usable and not torch_sees_gpus():
        # With an old driver or a CPU build of torch every run would fail.
        usable = []
    if device == "cuda" and not usable:
        raise UserError("--device cuda: no GPU that torch can use here; use --device cpu")
    if usable:
        if len(usable) < devices:
            raise UserError(
                f"training.devices: got {devices}, expected at most {len(usable)}, the GPUs of "
                "this machine"
            )
        sets = gpu_sets(usable, devices)
        wanted = workers or len(sets) * per_gpu
        share = max(1, cores() // wanted)
        return [Slot(sets[number % len(sets)], share) for number in range(min(wanted, runs))]
    # One thread per worker is best: runs don't wait for each other, the threads of one run do. The
    # share must not depend on how many runs are missing, because sums over other threads round
    # differently: a continued sweep would not be the same.
    wanted = workers or max(1, cores() // devices)
    return [Slot(None, max(1, cores() // wanted)) for _ in range(min(wanted, runs))]


def gpu_sets(available: Sequence[str], size: int) -> list[str]:
    """Split GPUs into sets of `size`, each as CUDA_VISIBLE_DEVICES names it; drop the rest."""
    starts = range(0, len(available) - size + 1, size)
    return [",".join(available[start : start + size]) for start in starts]
