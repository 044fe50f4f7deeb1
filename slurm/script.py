"""The batch script of an array of tasks, made by submitit.

No function is pickled: the script runs `mixbench.slurm.task`, which names the sweep's folder, from
a copy of the code.
"""

from __future__ import annotations

import shlex
import sys
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mixbench.experiments.store.sweep_folder import SweepFolder
from mixbench.slurm import queue
from mixbench.slurm.profile import Profile

if TYPE_CHECKING:
    from submitit import SlurmExecutor

_STOP_AT_FAILURE = (
    "trap 'status=$?; if [ ${#BASH_SOURCE[@]} -eq 1 ]; then "
    'echo "setup: exit status $status of the line: $(sed -n "${LINENO}p" "$0")"; '
    "exit 1; fi' ERR"
)


@dataclass(frozen=True)
class TaskScript:
    """What all arrays of one submission have in common.

    code: the snapshot that the tasks run. options: more of `mixbench.slurm.task`'s. measure: the
    order of tasks that measure finished runs.
    """

    sweep: SweepFolder
    profile: Profile
    code: Path
    options: tuple[str, ...] = ()
    measure: str | None = None

    @cached_property
    def job_name(self) -> str:
        """The name of the jobs, the same for all arrays of a submission."""
        return queue.job_name(self.sweep, self.measure)

    def text(self, tasks: int | None, throttle: int | None = None) -> str:
        """Return the script of an array of `tasks` tasks, or of a single job for None.

        throttle: how many tasks may run at a time; default: the profile's.
        """
        executor = self._executor()
        if tasks is not None:
            executor.parameters["map_count"] = tasks
            executor.parameters["array_parallelism"] = throttle or self.profile.throttle or tasks
        command = shlex.join(["exec", *self._command()])
        return str(executor._make_submission_file_text(command, ""))

    def _command(self) -> list[str]:
        """Return what a task runs, outside of the container: SLURM's programs are there."""
        profile = self.profile
        uses_profile_python = profile.python and not profile.container
        python = shlex.split(profile.python or "") if uses_profile_python else [sys.executable]
        return [
            # -P: what lies in the folder of the job must not stand in for the copy of the code.
            *(*python, "-P", "-u", "-m", "mixbench.slurm.task", str(self.sweep.path)),
            *("--time-limit", str(profile.minutes * 60)),
            *("--signal-seconds", str(profile.signal_seconds)),
            *("--device", "cuda" if profile.gpu_count else "cpu"),
            *(["--workers-per-gpu", str(profile.workers_per_gpu)] if profile.gpu_count else []),
            *(["--container", profile.container] if profile.container else []),
            *(["--python", profile.python or "python"] if profile.container else []),
            *self.options,
            *(["--measure", self.measure] if self.measure is not None else []),
        ]

    def _executor(self) -> SlurmExecutor:
        """Return submitit's executor with the profile's parameters."""
        from submitit import SlurmExecutor

        class Executor(SlurmExecutor):
            @classmethod
            def affinity(cls) -> int:
                # Show a script also where there is no srun, which mixbench does not use.
                return 1

        profile = self.profile
        executor = Executor(queue.folder_of(self.sweep))
        executor.update_parameters(
            job_name=self.job_name,
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
            # With srun, its step would get the signals instead of the script.
            use_srun=False,
            stderr_to_stdout=True,
            # submitit's default, which some sites refuse.
            wckey=None,
            setup=[*setup_lines(profile), *_environment(self.code)],
            additional_parameters={**_flags(profile), **profile.flags},
        )
        return executor


def _flags(profile: Profile) -> dict[str, Any]:
    """Return sbatch's flags that submitit has no parameter for."""
    flags: dict[str, Any] = {
        # To the batch script alone, whose process the task is; without B: only srun's steps get it.
        "signal": f"B:USR2@{profile.signal_seconds}",
    }
    if profile.gpus is not None:
        flags["gpus"] = profile.gpus
    if "no-requeue" not in profile.flags:
        flags["requeue"] = True
    return flags


def setup_lines(profile: Profile) -> list[str]:
    """Return the profile's lines of shell, so that the first one that fails ends the script.

    Not by `set -e`, which would also end it inside the files that a line sources, where
    commands may fail and mean nothing.
    """
    if not profile.setup:
        return []
    return [_STOP_AT_FAILURE, *profile.setup, "trap - ERR"]


def _environment(code: Path) -> list[str]:
    """Return shell that has Python take mixbench from the snapshot, before all that modules add."""
    return [
        f"export PYTHONPATH={shlex.quote(str(code))}${{PYTHONPATH:+:$PYTHONPATH}}",
        "export PYTHONSAFEPATH=1",
    ]
