"""Keep MLflow up to date while a sweep runs, through outages of the server.

The followed folder is only read. An unreachable store is retried after growing pauses; what
happened meanwhile is sent with the times at which it happened.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from mixbench.experiments.errors import UserError
from mixbench.experiments.signals import Interrupts, interruptible
from mixbench.experiments.store import workers
from mixbench.experiments.store.sweep_folder import SweepFolder
from mixbench.experiments.tracking import local_store
from mixbench.experiments.tracking.cells import Statistics
from mixbench.experiments.tracking.outages import StoreRefused, StoreUnavailable
from mixbench.experiments.tracking.projector import Figures, Projector
from mixbench.experiments.tracking.records import Standing

POLL_SECONDS = 2.0
PASS_SECONDS = 5.0
LONGEST_PAUSE_SECONDS = 30.0
SAY_SECONDS = 60.0
IDLE_SECONDS = 60.0
"""Seconds without a worker after which a sweep counts as over: a worker takes a while to start."""
IDLE_SECONDS_SLURM = 900.0
"""The same where jobs may wait in SLURM's queue, which is not asked."""
REFUSALS = 3


def _print(line: str) -> None:
    # Flush: it runs for days, often with its output in a file.
    print(line, flush=True)


def follow(
    sweep: SweepFolder,
    uri: str | None = None,
    figures: Figures | None = None,
    say: Callable[[str], object] = _print,
    statistics: Statistics | None = None,
) -> None:
    """Project the sweep repeatedly until every run is done or failed, or nobody works on it.

    say: gets a line when it begins, when the store goes away and comes back, and when it ends.
    Ends with one line on Ctrl-C or SIGTERM too. UserError when the store refuses, or the sweep is
    being projected already.
    """
    with Projector(sweep, uri, figures, statistics) as projector, interruptible() as interrupts:
        follower = _Follower(sweep, projector, say, interrupts)
        try:
            say(
                f"following {sweep.name} into MLflow at {local_store.shown(projector.uri)} "
                "(Ctrl-C ends it)"
            )
            follower.run()
        except KeyboardInterrupt:
            say(f"stopped following {sweep.name}; `mixbench track {sweep.name} --follow` goes on")


class _Follower:
    def __init__(
        self,
        sweep: SweepFolder,
        projector: Projector,
        say: Callable[[str], object],
        interrupts: Interrupts,
    ) -> None:
        self._interrupts = interrupts
        self._sweep = sweep
        self._projector = projector
        self._say = say
        self._activity = _Activity(sweep)
        self._outages = 0
        self._away: float | None = None
        self._pause = 0.0
        self._refused = 0
        self._reported_at = -SAY_SECONDS
        self._progress = ""

    def run(self) -> None:
        """Until the sweep is over and MLflow knows all of it."""
        while True:
            self._interrupts.check()
            began = time.monotonic()
            over = None
            try:
                if self._away is not None:
                    self._projector.reconnected()
                summary = self._projector.update(seconds=PASS_SECONDS, working=True)
            except StoreRefused:
                raise
            except PermissionError:
                # Waiting does not help.
                raise
            except (StoreUnavailable, OSError) as error:
                self._goes_away(error)
            except UserError:
                # It may be about a run that somebody deleted in MLflow just now; if it stays, not.
                self._refused += 1
                if self._refused >= REFUSALS:
                    raise
                self._outages += 1
                self._pause = POLL_SECONDS
            else:
                self._refused = 0
                self._is_back()
                for problem in summary.problems:
                    self._say(problem)
                standing = self._projector.standing()
                self._show(standing, summary.left)
                if not summary.left:
                    over = self._activity.over(standing, self._projector.planned)
                    self._pause = POLL_SECONDS
                    if summary.unchanged == len(summary.outcomes):
                        # On a slow file system, don't spend all the time looking.
                        looking = 4 * (time.monotonic() - began)
                        self._pause = max(POLL_SECONDS, min(looking, LONGEST_PAUSE_SECONDS))
                else:
                    self._pause = 0.0
            if over is not None and self._close():
                self._say(over)
                return
            time.sleep(self._pause)

    def _close(self) -> bool:
        """The last update, after which nothing is left to be sent; False if it did not come off."""
        try:
            if self._outages:
                # A request that timed out may have been carried out late.
                self._projector.forget()
                self._outages = 0
            summary = self._projector.update()
        except (StoreUnavailable, OSError) as error:
            self._goes_away(error)
            return False
        self._say(str(summary))
        return True

    def _goes_away(self, error: Exception) -> None:
        self._outages += 1
        if self._away is None:
            self._away = time.monotonic()
            self._pause = POLL_SECONDS / 4
            reason = " ".join(str(error).split())
            self._say(f"{reason}; the runs go on, MLflow gets what it misses when it is back")
        else:
            self._pause = min(2 * self._pause, LONGEST_PAUSE_SECONDS)

    def _is_back(self) -> None:
        if self._away is not None:
            seconds = time.monotonic() - self._away
            self._say(f"MLflow is back after {seconds:.0f} s")
            self._away = None

    def _show(self, standing: Standing, left: int) -> None:
        line = _in_short(standing, self._projector.planned)
        if left:
            line += f"; {left} runs or their figures are still to be sent"
        now = time.monotonic()
        if line != self._progress and now - self._reported_at >= SAY_SECONDS:
            self._reported_at = now
            self._progress = line
            self._say(line)


class _Activity:
    """Tells from the sweep's folder whether anybody works on it, or may soon."""

    def __init__(self, sweep: SweepFolder) -> None:
        self._sweep = sweep
        self._busy = time.monotonic()

    def over(self, standing: Standing, planned: int) -> str | None:
        """Why there is nothing more to follow; None while there is, or may be."""
        counts = standing.counts
        name = self._sweep.name
        if counts["FINISHED"] + counts["FAILED"] == planned:
            hint = f"; `mixbench retry {name} --failed` tries them again"
            hint = hint if counts["FAILED"] else ""
            return f"every run is done or failed: {_in_short(standing, planned)}{hint}"
        if counts["RUNNING"] or any(worker.alive for worker in workers.workers(self._sweep)):
            self._busy = time.monotonic()
            return None
        stopped = self._sweep.stop_reason()
        queued = (self._sweep.path / "slurm").is_dir()
        idle = time.monotonic() - self._busy
        # A sweep that nobody has begun may be about to begin, whenever that is.
        waiting = not counts or idle < (IDLE_SECONDS_SLURM if queued else IDLE_SECONDS)
        if stopped is None and waiting:
            return None
        why = f" ({stopped})" if stopped else ""
        jobs = "" if stopped or not queued else ", unless jobs of it wait in SLURM's queue"
        return (
            f"nobody works on {name} any more{why}{jobs}: {_in_short(standing, planned)}; "
            f"the same `mixbench sweep` continues it, `mixbench track {name} --follow` follows it"
        )


def _in_short(standing: Standing, planned: int) -> str:
    counts = standing.counts
    begun = sum(counts.values())
    parts = [f"{counts['FINISHED']} of {planned} runs done"]
    for status, word in (("FAILED", "failed"), ("RUNNING", "running"), ("KILLED", "interrupted")):
        if counts[status]:
            parts.append(f"{counts[status]} {word}")
    if planned > begun:
        parts.append(f"{planned - begun} not begun")
    return ", ".join(parts)
