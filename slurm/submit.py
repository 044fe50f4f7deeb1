"""Submits tasks of a sweep to SLURM: arrays of `mixbench.slurm.task`, through submitit.

submitit makes the script. No function is pickled: the script runs a command that names the sweep's
folder, from a copy of the code.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mixbench.experiments.errors import UserError
from mixbench.experiments.store.files import atomic_write
from mixbench.experiments.store.sweep_folder import SweepFolder
from mixbench.experiments.text import plural
from mixbench.slurm import queue
from mixbench.slurm.measuring import Order
from mixbench.slurm.profile import Profile
from mixbench.slurm.queue import Answer, Submitted, Unavailable

if TYPE_CHECKING:
    from submitit import SlurmExecutor

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
    per_gpu: int | None = None,
    retries: int = 2,
    hang_seconds: float = 600.0,
    order: Order | None = None,
) -> list[str]:
    """Submit as many tasks as `missing` runs can use, less those that are in the queue already.

    code: the snapshot that the tasks run. workers: how many tasks there are to be; default: one per
    `missing` / workers per task, up to the profile's limit. per_gpu: in the place of the profile's
    workers_per_gpu. order: what of finished runs they measure, where they don't train; of the tasks
    in the queue those count that do the same. What was done, in lines for the user. UserError, with
    nothing left behind, when there is no SLURM or it refuses.
    """
    if workers is not None and workers < 1:
        raise UserError(f"--workers: got {workers}, expected at least 1")
    if "%" in str(folder.path):
        raise UserError(f"{folder.path}: SLURM can't have a % in the path of a log")
    _require_slurm()
    if per_gpu is not None:
        profile = profile.with_workers_per_gpu(per_gpu)
    measure = None if order is None else order.text()
    trained = folder.plan() if order is None else []
    devices = max((_devices(planned.config) for planned in trained), default=1)
    each = profile.workers_for(devices)
    options: tuple[str, ...] = ("--retries", str(retries), "--hang", f"{hang_seconds:g}")
    if devices > 1:
        options += ("--devices", str(devices))
    if not profile.gpu_count:
        options += ("--workers", str(each))
    wanted = min(-(-missing // each), workers or profile.most_tasks)
    said = []
    try:
        there = [
            task
            for task in queue.asked_tasks(folder)
            if task.state != "COMPLETING" and task.measure == measure
        ]
    except Unavailable as error:
        there = []
        said.append(f"{error}; tasks submitted earlier are not taken into account")
    lacking = max(0, wanted - len(there))
    if there:
        waiting = sum(task.state == "PENDING" for task in there)
        said.append(
            f"{plural(len(there), 'task')} of this sweep in the queue already "
            f"({waiting} waiting); {lacking or 'no'} more needed"
        )
    if lacking:
        queue.folder_of(folder).mkdir(exist_ok=True)
        try:
            said += _submit_all(folder, profile, code, lacking, each, options, measure)
        except UserError:
            with contextlib.suppress(OSError):
                # Only where nothing was ever submitted is it empty.
                queue.folder_of(folder).rmdir()
            raise
    return said


def check_possible(profile: Profile, *, per_gpu: int | None = None, devices: int = 1) -> None:
    """UserError where there is no SLURM, or it can never take the profile's jobs; nothing is left.

    per_gpu: see `submit`. devices: the GPUs that one run takes. What only says that the cluster is
    busy or partly down now is no reason to refuse.
    """
    if per_gpu is not None:
        profile = profile.with_workers_per_gpu(per_gpu)
    profile.workers_for(devices)
    answer = _test_only(profile)
    words = answer.words().lower()
    if answer.status and ("invalid" in words or "configuration source" in words):
        raise UserError(f"profile {profile.name}: sbatch refuses it: {_why(answer)}")


def check(profile: Profile) -> str:
    """What `sbatch --test-only` says to the script that the profile makes; UserError if refused."""
    answer = _test_only(profile)
    if answer.status:
        raise UserError(f"profile {profile.name}: sbatch refuses it: {_why(answer)}")
    return answer.words()


def _test_only(profile: Profile) -> Answer:
    _require_slurm()
    sweep = SweepFolder(Path.cwd() / "SWEEP")
    return _sbatch(script(sweep, profile, sweep.path / "code", 1), "--test-only")


def _require_slurm() -> None:
    if not shutil.which("sbatch"):
        raise UserError("no SLURM on this machine (no sbatch on the PATH); use --cluster local")


def script(
    folder: SweepFolder,
    profile: Profile,
    code: Path,
    tasks: int | None,
    options: tuple[str, ...] = (),
    throttle: int | None = None,
    measure: str | None = None,
) -> str:
    """The batch script of an array of `tasks` tasks, or of a single job for None.

    options: more of `mixbench.slurm.task`'s. throttle: how many tasks may run at a time. measure:
    the order
    of tasks that measure.
    """
    executor = _executor(folder, profile, code, queue.job_name(folder, measure))
    if measure is not None:
        options += ("--measure", measure)
    if tasks is not None:
        executor.parameters["map_count"] = tasks
        executor.parameters["array_parallelism"] = throttle or profile.throttle or tasks
    command = shlex.join(["exec", *_command(folder, profile), *options])
    return str(executor._make_submission_file_text(command, ""))


def chunks(tasks: int, max_array_size: int) -> list[int | None]:
    """The sizes of the arrays for so many tasks; None is a job that is no array.

    An array's indices begin at 0 and stay below `max_array_size`.
    """
    if max_array_size < 1:
        return [None] * tasks
    whole, rest = divmod(tasks, max_array_size)
    return [*[max_array_size] * whole, *([rest] if rest else [])]


def _submit_all(
    folder: SweepFolder,
    profile: Profile,
    code: Path,
    lacking: int,
    each: int,
    options: tuple[str, ...],
    measure: str | None,
) -> list[str]:
    """Submit arrays of `lacking` tasks together; what was done, in lines for the user."""
    most = queue.max_array_size()
    sizes = chunks(lacking, most)
    # SLURM counts within an array.
    throttle = max(1, profile.throttle // len(sizes)) if profile.throttle else None
    arrays: list[Submitted] = []
    refusal = None
    try:
        for size in sizes:
            array, refusal = _submit_one(
                folder,
                size,
                lambda fewer: script(folder, profile, code, fewer, options, throttle, measure),
            )
            if array is not None:
                arrays.append(Submitted(*array, profile.name, each, measure))
            if refusal is not None:
                break
        for submitted in arrays:
            queue.record(folder, submitted)
    except BaseException:
        if arrays:
            with contextlib.suppress(Unavailable):
                queue.ask("scancel", *(submitted.job for submitted in arrays))
        raise
    if not arrays:
        raise UserError(f"profile {profile.name}: sbatch refuses it: {refusal}")
    said = [_in_words(submitted) for submitted in arrays[:3]]
    if len(arrays) > 3:
        said.append(f"and {len(arrays) - 3} more like these")
    if len(arrays) > 1:
        said.append(f"(no index of an array reaches {most}: MaxArraySize)")
    done = sum(submitted.tasks for submitted in arrays)
    if refusal is not None:
        said.append(
            f"that is {done} of {lacking} tasks: sbatch refuses more ({refusal}); these do all the "
            "runs, and the same command submits more later"
        )
    return said


def _in_words(submitted: Submitted) -> str:
    workers = plural(submitted.workers, "worker")
    tasks = plural(submitted.tasks, "task")
    return f"submitted job {submitted.job}: {tasks} of {workers}, profile {submitted.profile}"


def _submit_one(
    folder: SweepFolder, size: int | None, text: Callable[[int | None], str]
) -> tuple[tuple[str, int] | None, str | None]:
    """Submit an array of at most `size` tasks: its job and size, and why it is less or nothing.

    A limit of submitted jobs is found by halving: the places where sites keep it (association, QOS,
    partition) differ, and not all may be asked.
    """
    refusal = None
    trial = size or 1
    while trial:
        script_text = text(None if size is None else trial)
        answer = _sbatch(script_text)
        if answer.status == 0:
            job = _job_id(answer)
            atomic_write(queue.folder_of(folder) / f"{job}_submission.sh", script_text)
            return (job, trial), refusal
        refusal = _why(answer)
        if not _is_submit_limit(answer):
            break
        trial //= 2
    return None, refusal


def _devices(config: dict[str, Any]) -> int:
    """How many GPUs one run takes."""
    return int(config.get("training", {}).get("devices") or 1)


def _command(folder: SweepFolder, profile: Profile) -> list[str]:
    """What a task runs, outside of the container: SLURM's programs are there."""
    own = profile.python and not profile.container
    python = shlex.split(profile.python or "") if own else [sys.executable]
    command = [
        # -P: an `experiments` folder of the user's must not stand in for ours.
        *(*python, "-P", "-u", "-m", "mixbench.slurm.task", str(folder.path)),
        *("--time-limit", str(profile.minutes * 60)),
        *("--signal-seconds", str(profile.signal_seconds)),
    ]
    if profile.gpu_count:
        command += ["--device", "cuda", "--workers-per-gpu", str(profile.workers_per_gpu)]
    else:
        command += ["--device", "cpu"]
    if profile.container:
        command += ["--container", profile.container, "--python", profile.python or "python"]
    return command


def _executor(folder: SweepFolder, profile: Profile, code: Path, name: str) -> SlurmExecutor:
    """submitit's executor with the profile's parameters."""
    from submitit import SlurmExecutor

    class Executor(SlurmExecutor):
        @classmethod
        def affinity(cls) -> int:
            # A script can be looked at where there is no srun, which we don't use.
            return 1

    flags: dict[str, Any] = {
        # To the batch script alone, whose process the task is; without B: only srun's steps get it.
        "signal": f"B:USR2@{profile.signal_seconds}",
    }
    if profile.gpus is not None:
        flags["gpus"] = profile.gpus
    if "no-requeue" not in profile.flags:
        flags["requeue"] = True
    executor = Executor(queue.folder_of(folder))
    executor.update_parameters(
        job_name=name,
        partition=profile.partition,
        account=profile.account,
        qos=profile.qos,
        gres=profile.gres,
        gpus_per_node=profile.gpus_per_node,
        cpus_per_task=profile.cpus,
        mem=profile.memory,
        time=profile.time,
        constraint=profile.constraint,
        nodes=profile.nodes,
        # So that `cpus` are those of each node.
        ntasks_per_node=1 if profile.nodes > 1 else None,
        # A step of srun's would get the signals in the script's place.
        use_srun=False,
        stderr_to_stdout=True,
        # submitit's default, which some sites refuse.
        wckey=None,
        setup=[*profile.setup, *_environment(code)],
        additional_parameters={**flags, **profile.flags},
    )
    return executor


def _environment(code: Path) -> list[str]:
    """Shell that has Python take our packages from the snapshot, before all that modules add."""
    return [
        f"export PYTHONPATH={shlex.quote(str(code))}${{PYTHONPATH:+:$PYTHONPATH}}",
        "export PYTHONSAFEPATH=1",
    ]


def _job_id(answer: Answer) -> str:
    from submitit import SlurmExecutor

    return str(SlurmExecutor._get_job_id_from_submission_command(answer.output))


def _sbatch(text: str, *options: str) -> Answer:
    """Hand a script to sbatch; UserError when it does not answer."""
    kept = {}
    for name, value in os.environ.items():
        # Inside a job these describe that job, and sbatch would take them for this one. Elsewhere
        # SBATCH_... would overrule the profile.
        if name.startswith(("SLURM_", "SLURMD_", "SRUN_", "SBATCH_")) and name != "SLURM_CONF":
            continue
        if name not in _INHERITED:
            kept[name] = value
    try:
        return queue.ask("sbatch", *options, text=text, seconds=SBATCH_SECONDS, environment=kept)
    except Unavailable as error:
        raise UserError(f"SLURM: {error}; is its controller up? (sinfo)") from None


def _why(answer: Answer) -> str:
    words = answer.words() or f"exit status {answer.status}"
    if "configuration source" in words:
        return f"{words}; no SLURM cluster is set up on this machine: use --cluster local"
    # What sbatch says first is the cause, then that it failed for it.
    return words.replace("Batch job submission failed: ", "").replace("allocation failure: ", "")


def _is_submit_limit(answer: Answer) -> bool:
    words = answer.words().lower()
    return "submit limit" in words or "maxsubmit" in words
