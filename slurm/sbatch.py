"""Options of sbatch: which flags a profile may give, and what their values mean."""

from __future__ import annotations

import re

TIME = "minutes, HH:MM:SS or D-HH:MM"

KEYS_OF_FLAGS = {
    "partition": "partition",
    "account": "account",
    "qos": "qos",
    "gres": "gres",
    "gpus": "gpus",
    "gpus-per-node": "gpus_per_node",
    "cpus-per-task": "cpus",
    "mem": "memory",
    "time": "time",
    "constraint": "constraint",
    "nodes": "nodes",
    "signal": "signal_seconds",
}
"""Flags that have a key of their own in a profile."""
_RESERVED = """
array output error open-mode job-name chdir wrap ntasks ntasks-per-node parsable test-only wait help
version quiet verbose usage input kill-on-invalid-dep export export-file clusters
"""
RESERVED_FLAGS = frozenset(_RESERVED.split())
"""Flags that would break what mixbench does with a job."""


_OPTIONS = """
acctg-freq batch bb bbf begin cluster-constraint comment contiguous core-spec cores-per-socket
cpu-freq cpus-per-gpu deadline delay-boot dependency distribution exclude exclusive
extra-node-info get-user-env gid gpu-bind gpu-freq gpus-per-socket gpus-per-task gres-flags hint
hold ignore-pbs licenses mail-type mail-user mcs-label mem-bind mem-per-cpu mem-per-gpu mincpus
network nice no-kill no-requeue nodefile nodelist ntasks-per-core ntasks-per-gpu
ntasks-per-socket overcommit oversubscribe power prefer priority profile propagate reboot requeue
reservation segment sockets-per-node spread-job stepmgr switches thread-spec threads-per-core
time-min tmp tres-bind tres-per-task uid use-min-nodes wait-all-nodes wckey x11
"""
OPTIONS = frozenset(_OPTIONS.split())
"""The long options of sbatch, up to 24.11, that are neither keys of a profile nor reserved."""


def seconds(time: str) -> int:
    """Return the length of a SLURM time.

    That is "MM", "MM:SS", "HH:MM:SS", "D-HH", "D-HH:MM" or "D-HH:MM:SS".
    ValueError for anything else, UNLIMITED included: a task must know when to save and requeue.
    """
    match = re.fullmatch(r"(?:(\d+)-)?(\d+)(?::(\d+))?(?::(\d+))?", time)
    if not match:
        raise ValueError(f"got {time!r}, expected {TIME}")
    days, *rest = match.groups()
    numbers = [int(part) for part in rest if part is not None]
    if days is not None:
        hours, minutes, left = [*numbers, 0, 0][:3]
        return ((int(days) * 24 + hours) * 60 + minutes) * 60 + left
    if len(numbers) == 3:
        return (numbers[0] * 60 + numbers[1]) * 60 + numbers[2]
    return numbers[0] * 60 + (numbers[1] if len(numbers) == 2 else 0)


def count_gpus(text: str) -> int:
    """Count the GPUs in "2", "a100:2" or "a100"; 0 where it is no number of them."""
    number = re.fullmatch(r"(?:[A-Za-z][\w.-]*:)?(\d+)(?:\(.*\))?", text)
    if number:
        return int(number[1])
    return 1 if re.fullmatch(r"[A-Za-z][\w.-]*", text) else 0
