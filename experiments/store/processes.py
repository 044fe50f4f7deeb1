"""Name processes so that workers elsewhere can tell whether one is still alive."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import time
from functools import cache
from pathlib import Path
from typing import Any


@cache
def this_host() -> str:
    """Names the machine, its boot and the process namespace: where a process id means something."""
    parts = [socket.gethostname()]
    for source in ("/proc/sys/kernel/random/boot_id", "/proc/self/ns/pid"):
        with contextlib.suppress(OSError):
            parts.append(
                os.readlink(source) if source.endswith("pid") else Path(source).read_text().strip()
            )
    return " ".join(parts)


def this_job() -> dict[str, Any] | None:
    """The SLURM job that this is part of: cluster, id, array, task, restart; None outside SLURM."""
    job = os.environ.get("SLURM_JOB_ID")
    if not job:
        return None
    return {
        "cluster": os.environ.get("SLURM_CLUSTER_NAME"),
        "id": job,
        "array": os.environ.get("SLURM_ARRAY_JOB_ID"),
        "task": os.environ.get("SLURM_ARRAY_TASK_ID"),
        "restart": int(os.environ.get("SLURM_RESTART_COUNT") or 0),
    }


def this_process() -> dict[str, Any]:
    """Identifies this process in a file: `host`, `pid` and `process_start`."""
    pid = os.getpid()
    return {"host": this_host(), "pid": pid, "process_start": process_start(pid)}


@cache
def _has_proc() -> bool:
    return os.path.exists("/proc/self/stat")


def process_start(pid: int) -> str | None:
    """When the process started, as the kernel counts it; None where it is dead or unknown."""
    if not _has_proc():
        listed = subprocess.run(
            ["ps", "-o", "lstart=", "-p", str(pid)], capture_output=True, text=True, check=False
        )
        return listed.stdout.strip() or None
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
            stat = file.read()
    except OSError:
        return None
    state, *rest = stat.rpartition(")")[2].split()
    return None if state == "Z" else rest[18]


def began() -> float:
    """When this process started, in seconds since the epoch; now, where that is not known."""
    start = process_start(os.getpid()) if _has_proc() else None
    if start is None:
        return time.time()
    # The kernel counts from the boot.
    since_boot = int(start) / os.sysconf("SC_CLK_TCK")
    return time.time() - max(0.0, time.clock_gettime(time.CLOCK_BOOTTIME) - since_boot)


def is_dead(body: dict[str, Any]) -> bool:
    """Is the process that wrote itself into `body` known to be gone?

    Known of processes of this host, and of this SLURM job before it was requeued.
    """
    job, this = body.get("job"), this_job()
    if job and this and job["restart"] < this["restart"]:
        if (job["id"], job.get("cluster")) == (this["id"], this["cluster"]):
            return True
    if body.get("host") != this_host() or not body.get("process_start"):
        return False
    start: str = body["process_start"]
    return process_start(body["pid"]) != start and not is_hidden(body["pid"])


def is_hidden(pid: int) -> bool:
    """Is there such a process, of another user, that /proc hides (it is mounted so on clusters)?"""
    if not _has_proc() or os.access(f"/proc/{pid}/stat", os.R_OK):
        return False
    try:
        os.kill(pid, 0)
    except OSError as error:
        return isinstance(error, PermissionError)
    return False
