"""Why tasks wait in SLURM's queue: its reason, and what that means, in plain words."""

from __future__ import annotations

from collections.abc import Collection

from mixbench.slurm.programs import Unavailable, output_of
from mixbench.slurm.queue import Task

_MEANINGS = {
    "Resources": "until CPUs, GPUs or memory are free",
    "Priority": "other jobs come first",
    "BeginTime": "not before a set time: a requeued task waits for two minutes",
    "JobArrayTaskLimit": "as many run as the profile's throttle allows",
    "Dependency": "until the jobs that it depends on have ended",
    "DependencyNeverSatisfied": "never starts: a job that it depends on failed, or is gone",
    "JobHeldUser": "held; to let it start: scontrol release JOB",
    "JobHeldAdmin": "held by an administrator",
    "JobLaunchFailure": "SLURM could not start it",
    "launch failed requeued held": "SLURM could not start it; again: scontrol release JOB",
    "PartitionDown": "the partition is closed",
    "PartitionInactive": "the partition is closed",
    "PartitionTimeLimit": "never starts: longer than the partition allows",
    "PartitionNodeLimit": "never starts: more nodes than the partition allows",
    "BadConstraints": "never starts: no node is as it asks for",
    "Licenses": "until a licence is free",
    "Reservation": "until its reservation begins",
}
_NO_NODES = ("Nodes required for job are DOWN", "ReqNodeNotAvail")
_NOT_IN_USE = ("drain", "down", "fail", "maint", "unknown", "power")


def explain(reason: str, tasks: Collection[Task]) -> str:
    """Return SLURM's `reason` for which `tasks` wait, followed by what it means.

    Where nodes are missing, their states and what their administrator wrote is asked for.
    """
    if reason.startswith(_NO_NODES):
        nodes = _unavailable_nodes({task.partition for task in tasks})
        return f"{reason}{f': {nodes}' if nodes else ''}"
    if reason.startswith(("QOS", "Assoc", "MaxJobs", "MaxSubmit")):
        return f"{reason} (a limit of your account or QOS)"
    jobs = ",".join(dict.fromkeys(task.array for task in tasks))
    meaning = _MEANINGS.get(reason, "").replace("JOB", jobs)
    return f"{reason} ({meaning})" if meaning else reason


def _unavailable_nodes(partitions: Collection[str]) -> str:
    """List the nodes of the partitions that take no jobs: "node1 drained (disk full)"."""
    where = ",".join(sorted(filter(None, partitions)))
    try:
        rows = output_of(
            "sinfo",
            *("--noheader", "--Node", *([f"--partition={where}"] if where else [])),
            "--format=%n|%T|%E",
        )
    except Unavailable:
        return ""
    alike: dict[tuple[str, str], dict[str, None]] = {}
    for row in rows.splitlines():
        name, _, rest = row.partition("|")
        state, _, why = rest.partition("|")
        if state.startswith(_NOT_IN_USE) or state.endswith("*"):
            alike.setdefault((state, why.strip()), {})[name.strip()] = None
    return "; ".join(
        f"{_a_few(list(names))} {state}{f' ({why})' if why and why != 'none' else ''}"
        for (state, why), names in alike.items()
    )


def _a_few(names: list[str]) -> str:
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(names[:3]) + more
