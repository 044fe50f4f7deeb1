"""Submit tasks of a sweep to SLURM: arrays of `mixbench.slurm.task`."""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from pathlib import Path
from typing import Any

from mixbench.experiments.errors import UserError
from mixbench.experiments.store.files import atomic_write
from mixbench.experiments.store.sweep_folder import SweepFolder
from mixbench.experiments.text import plural
from mixbench.slurm import leave, queue, task_ends
from mixbench.slurm.measuring import Order
from mixbench.slurm.profile import Profile
from mixbench.slurm.programs import Answer, Unavailable, ask
from mixbench.slurm.queue import Submitted
from mixbench.slurm.script import TaskScript

SBATCH_SECONDS = 180.0
"""sbatch itself tries again for up to two minutes when the controller is busy."""

_INHERITED = (
    "MASTER_ADDR",
    "MASTER_PORT",
    "RANK",
    "WORLD_SIZE",
    "LOCAL_RANK",
    "LOCAL_WORLD_SIZE",
    "CUDA_VISIBLE_DEVICES",
    "SUBMITIT_EXECUTOR",
)


def submit(
    folder: SweepFolder,
    profile: Profile,
    *,
    code: Path,
    missing: int,
    workers: int | None = None,
    retries: int = 2,
    hang_seconds: float = 600.0,
    order: Order | None = None,
) -> list[str]:
    """Submit as many tasks as `missing` runs can use, less those that are in the queue already.

    code: the snapshot that the tasks run. workers: how many tasks there are to be; default: one per
    `missing` / workers per task, up to the profile's limit. order: what of finished runs they
    measure, where they don't train; of the tasks in the queue those count that do the same. Returns
    lines for the user. UserError, with nothing left behind, when there is no SLURM or it refuses.
    """
    if workers is not None and workers < 1:
        raise UserError(f"--workers: got {workers}, expected at least 1")
    if "%" in str(folder.path):
        raise UserError(f"{folder.path}: SLURM can't have a % in the path of a log")
    _require_slurm()
    devices = 1
    if order is None:
        devices = max((_devices(planned.config) for planned in folder.plan()), default=1)
    workers_per_task = profile.workers_for(devices)
    script = TaskScript(
        folder,
        profile,
        code,
        _task_options(profile, devices, workers_per_task, retries, hang_seconds),
        None if order is None else order.text(),
    )
    needed = min(-(-missing // workers_per_task), workers or profile.most_tasks)
    with leave.submitting(folder):
        lacking, lines = _lacking_tasks(script, needed)
        if lacking:
            queue.folder_of(folder).mkdir(exist_ok=True)
            try:
                lines += _submit_arrays(script, lacking, workers_per_task)
            except UserError:
                with contextlib.suppress(OSError):
                    # Empty only where nothing was ever submitted.
                    queue.folder_of(folder).rmdir()
                raise
    return lines


def _task_options(
    profile: Profile, devices: int, workers: int, retries: int, hang_seconds: float
) -> tuple[str, ...]:
    """Return the options of `mixbench.slurm.task` that the profile alone does not decide."""
    return (
        *("--retries", str(retries), "--hang", f"{hang_seconds:g}"),
        *(("--devices", str(devices)) if devices > 1 else ()),
        *(("--workers", str(workers)) if not profile.gpu_count else ()),
    )


def _lacking_tasks(script: TaskScript, needed: int) -> tuple[int, list[str]]:
    """Return how many of the `needed` tasks are not in the queue yet, and lines for the user."""
    sweep = script.sweep
    try:
        alike = [
            task
            for task in queue.query_tasks(sweep)
            if task.state != "COMPLETING"
            and task.can_start
            and task.measure == script.measure
            and not task_ends.is_ending(sweep, task.name)
        ]
    except Unavailable as error:
        return needed, [f"{error}; tasks submitted earlier are not taken into account"]
    revision = sweep.newest_revision()
    knowing = {
        job.job
        for job in queue.recorded(sweep)
        if script.measure is not None or job.knows_runs_of(script.code.name, revision)
    }
    queued = [task for task in alike if task.array in knowing]
    lacking = max(0, needed - len(queued))
    lines = []
    if len(queued) < len(alike):
        older = plural(len(alike) - len(queued), "task")
        lines.append(f"{older} of before the sweep has grown, with other code: not counted")
    if not queued:
        return lacking, lines
    waiting = sum(task.waits for task in queued)
    line = (
        f"{plural(len(queued), 'task')} of this sweep in the queue already "
        f"({waiting} waiting); {lacking or 'no'} more needed"
    )
    return lacking, [*lines, line]


def check_possible(profile: Profile, *, devices: int = 1) -> None:
    """Raise UserError where there is no SLURM, or it can never take the profile's jobs.

    devices: the GPUs that one run takes. What only says that the cluster is busy or partly down now
    is no reason to refuse. Nothing is left behind.
    """
    profile.workers_for(devices)
    answer = _test_only(profile)
    message = answer.message().lower()
    if answer.status and ("invalid" in message or "configuration source" in message):
        raise UserError(f"profile {profile.name}: sbatch refuses it: {_why(answer)}")


def check_accepted(profile: Profile) -> str:
    """Return what `sbatch --test-only` says to the profile's script; UserError if it refuses."""
    answer = _test_only(profile)
    if answer.status:
        raise UserError(f"profile {profile.name}: sbatch refuses it: {_why(answer)}")
    return answer.message()


def _test_only(profile: Profile) -> Answer:
    _require_slurm()
    sweep = SweepFolder(Path.cwd() / "SWEEP")
    return _sbatch(TaskScript(sweep, profile, sweep.path / "code").text(1), "--test-only")


def _require_slurm() -> None:
    if not shutil.which("sbatch"):
        raise UserError("no SLURM on this machine (no sbatch on the PATH); use --cluster local")


def array_sizes(tasks: int, max_array_size: int) -> list[int | None]:
    """Return the sizes of the arrays for so many tasks; None is a job that is no array.

    An array's indices begin at 0 and stay below `max_array_size`.
    """
    if max_array_size < 1:
        return [None] * tasks
    whole, rest = divmod(tasks, max_array_size)
    return [*[max_array_size] * whole, *([rest] if rest else [])]


def _submit_arrays(script: TaskScript, lacking: int, workers: int) -> list[str]:
    """Submit arrays of `lacking` tasks in all; return lines for the user."""
    limit = queue.max_array_size()
    sizes = array_sizes(lacking, limit)
    profile = script.profile
    # SLURM counts within an array.
    throttle = max(1, profile.throttle // len(sizes)) if profile.throttle else None
    arrays: list[Submitted] = []
    refusal = None
    now, revision = time.time(), script.sweep.newest_revision()
    try:
        for size in sizes:
            array, refusal = _submit_one(script, size, throttle)
            if array is not None:
                job, tasks = array
                arrays.append(
                    Submitted(
                        job,
                        tasks,
                        profile.name,
                        workers,
                        script.measure,
                        name=script.job_name,
                        time=now,
                        says_end=True,
                        code=script.code.name,
                        revision=revision,
                    )
                )
            if refusal is not None:
                break
        for submitted in arrays:
            queue.record(script.sweep, submitted)
    except BaseException:
        if arrays:
            with contextlib.suppress(Unavailable):
                ask("scancel", *(submitted.job for submitted in arrays))
        raise
    if not arrays:
        raise UserError(f"profile {profile.name}: sbatch refuses it: {refusal}")
    return _describe_arrays(arrays, lacking, limit, refusal)


def _describe_arrays(
    arrays: list[Submitted], lacking: int, limit: int, refusal: str | None
) -> list[str]:
    lines = [
        f"submitted job {array.job}: {plural(array.tasks, 'task')} of "
        f"{plural(array.workers, 'worker')}, profile {array.profile}"
        for array in arrays[:3]
    ]
    if len(arrays) > 3:
        lines.append(f"and {len(arrays) - 3} more like these")
    if len(arrays) > 1:
        lines.append(f"(no index of an array reaches {limit}: MaxArraySize)")
    if refusal is not None:
        done = sum(array.tasks for array in arrays)
        lines.append(
            f"that is {done} of {lacking} tasks: sbatch refuses more ({refusal}); these do all the "
            "runs, and the same command submits more later"
        )
    return lines


def _submit_one(
    script: TaskScript, size: int | None, throttle: int | None
) -> tuple[tuple[str, int] | None, str | None]:
    """Submit an array of at most `size` tasks: its job and size, and why it is less or nothing.

    A limit of submitted jobs is found by halving: the places where sites keep it (association, QOS,
    partition) differ, and not all may be asked.
    """
    refusal = None
    tasks = size or 1
    while tasks:
        text = script.text(None if size is None else tasks, throttle)
        answer = _sbatch(text)
        if answer.status == 0:
            job = _job_id(answer)
            atomic_write(queue.folder_of(script.sweep) / f"{job}_submission.sh", text)
            return (job, tasks), refusal
        refusal = _why(answer)
        if not _is_submit_limit(answer):
            break
        tasks //= 2
    return None, refusal


def _devices(config: dict[str, Any]) -> int:
    """Return how many GPUs one run takes."""
    return int(config.get("training", {}).get("devices") or 1)


def _job_id(answer: Answer) -> str:
    from submitit import SlurmExecutor

    return str(SlurmExecutor._get_job_id_from_submission_command(answer.output))


def _sbatch(text: str, *options: str) -> Answer:
    """Hand a script to sbatch; UserError when it does not answer."""
    environment = {}
    for name, value in os.environ.items():
        # Inside a job these describe that job, and sbatch would take them for this one. Elsewhere
        # SBATCH_... would overrule the profile.
        if name.startswith(("SLURM_", "SLURMD_", "SRUN_", "SBATCH_")) and name != "SLURM_CONF":
            continue
        if name not in _INHERITED:
            environment[name] = value
    try:
        return ask(
            "sbatch",
            *options,
            text=text,
            seconds=SBATCH_SECONDS,
            environment=environment,
        )
    except Unavailable as error:
        raise UserError(f"SLURM: {error}; is its controller up? (sinfo)") from None


def _why(answer: Answer) -> str:
    message = answer.message() or f"exit status {answer.status}"
    if "configuration source" in message:
        return f"{message}; no SLURM cluster is set up on this machine: use --cluster local"
    # sbatch's first line is the cause, the next says that it failed.
    return message.replace("Batch job submission failed: ", "").replace("allocation failure: ", "")


def _is_submit_limit(answer: Answer) -> bool:
    message = answer.message().lower()
    return "submit limit" in message or "maxsubmit" in message
