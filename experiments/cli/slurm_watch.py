"""Watch a sweep on SLURM until it is done, or until nothing more will happen."""

from __future__ import annotations

import re
import sys
import time
from typing import TYPE_CHECKING

from mixbench.experiments.cli import names, slurm_queue

if TYPE_CHECKING:
    from mixbench.experiments.manage.status import Status
    from mixbench.experiments.store.sweep_folder import SweepFolder
    from mixbench.slurm.overview import Overview

WATCH_SECONDS = 1.0
FIRST_ASK_SECONDS = 5.0
"""After how long SLURM is asked for the second time: a task that can't work ends within seconds."""
CONFIRM_SECONDS = 5.0
"""How long after a look that found no task another one has to find none."""


class Watching:
    """Shows a sweep until every run is done or failed, somebody stops it, or no task is left.

    A queue that can't be asked is no empty queue. One empty answer is not enough, because the last
    task may have ended after the folder was read. While others than SLURM's tasks work on the
    sweep, it goes on.
    """

    def __init__(self, folder: SweepFolder) -> None:
        from mixbench.experiments.manage.observe import Observer

        self.folder = folder
        self.tasks: Overview | None = None
        """What SLURM said last; None where it did not answer."""
        self._observer = Observer(folder)
        self._asked = float("-inf")
        self._pause = min(FIRST_ASK_SECONDS, slurm_queue.ASK_SECONDS)
        self._was_empty = False
        self._told = ""

    def run(self) -> Status:
        """Watch to the end; return the last status."""
        from mixbench.experiments.manage.render import Display

        with Display(names.follow_cell_names(self._observer)) as display:
            while True:
                now = self._observer.snapshot()
                is_over = now.settled or now.stopped is not None or self._nobody_is_left(now)
                notes = []
                if self.tasks is not None:
                    notes = slurm_queue.describe(self.tasks, settled=now.settled)
                display.show(now, notes)
                if is_over:
                    return now
                self._tell()
                time.sleep(WATCH_SECONDS)

    def _nobody_is_left(self, now: Status) -> bool:
        """Ask SLURM now and then; has it twice in a row said that no task is left?"""
        moment = time.monotonic()
        pause = CONFIRM_SECONDS if self._was_empty else self._pause
        if moment - self._asked < min(pause, slurm_queue.ASK_SECONDS):
            return False
        if self._asked > 0 and not self._was_empty:
            self._pause = min(2 * self._pause, slurm_queue.ASK_SECONDS)
        self._asked = moment
        self.tasks = slurm_queue.look(self.folder, now.workers)
        is_empty = self.tasks is not None and not (
            any(task.measure is None and task.can_start for task in self.tasks.queued)
            or others_work(now, self.tasks)
        )
        was_empty, self._was_empty = self._was_empty, is_empty
        return is_empty and was_empty

    def _tell(self) -> None:
        """Say why tasks wait or ended, where the display is no terminal and that has changed."""
        if self.tasks is None or sys.stdout.isatty():
            return
        lines = [*self.tasks.why_waiting(), *self.tasks.why_ended(measuring=False)]
        # How many they are changes all the time.
        text = re.sub(r"\d+( tasks?)?", "0", "\n".join(lines))
        if text != self._told:
            for line in lines:
                print(f"  {line}", flush=True)
        self._told = text


def others_work(now: Status, tasks: Overview) -> bool:
    """Does a worker hold a run that is of no SLURM task of this sweep?"""
    jobs = {job.job for job in tasks.jobs}
    return any(not run.job or run.job.partition("_")[0] not in jobs for run in now.running)
