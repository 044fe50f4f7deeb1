"""Claim the free runs of a sweep one after the other, until all are done or failed."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Mapping

from mixbench.experiments.errors import UserError
from mixbench.experiments.signals import Stop
from mixbench.experiments.store import choices, claims, dependencies
from mixbench.experiments.store.claims import Claim, Watch
from mixbench.experiments.store.run_folder import PlannedRun
from mixbench.experiments.store.states import Outcome, RunState
from mixbench.experiments.store.sweep_folder import SweepFolder

log = logging.getLogger(__name__)

WAIT_SECONDS = 2.0
"""Seconds between two looks at the sweep while no run is free."""


class ClaimLoop:
    """The runs that one worker claims, one at a time.

    While other workers hold all runs that are left, this waits: it takes over their runs if they
    die. It also waits for runs that the remaining ones need. A run whose needed run failed is
    claimed, and fails.

    A run that this user has no right to write to is left to others, and so are those that need it;
    when nothing else is left, PermissionError says so.

    exit_when_idle: end instead of waiting while living workers hold all runs that are left. Runs
    that wait for a pretraining are unclaimed, so no worker ends while there are any.

    The plan may grow meanwhile: the newest is looked for at every claim, and before this ends.
    Tuning runs come first; whoever ends the last one of a cell chooses its setting, and the runs
    that waited for it join the plan. Where none can be chosen they count as failed.

    knows: can this worker's code do a run that was planned since? If not, it is left to others.
    """

    def __init__(
        self,
        folder: SweepFolder,
        worker: str,
        stop: Stop,
        *,
        exit_when_idle: bool = False,
        knows: Callable[[PlannedRun], bool] = lambda _: True,
    ) -> None:
        self.folder = folder
        self.worker = worker
        self.exit_when_idle = exit_when_idle
        self.held: tuple[Claim, PlannedRun] | None = None
        """The current claim, until the worker is done with it."""
        self.needs: dict[str, PlannedRun] = {}
        """run_key -> the run that it needs."""
        self.refused: dict[str, OSError] = {}
        """run_key -> why this user can't do the run."""
        self._knows = knows
        self._stop = stop
        self._watch = Watch()
        self._plan: dict[str, PlannedRun] = {}
        self._version = (0, 0)
        self._unreadable = (0, 0)
        self._to_choose: list[choices.TunedCell] = []
        self._known: dict[str, bool] = {}

    def __iter__(self) -> Iterator[tuple[Claim, PlannedRun]]:
        self._read_plan()
        self._known = dict.fromkeys(self._plan, True)
        version = (0, 0)
        todo: list[PlannedRun] = []
        failed: list[PlannedRun] = []
        tried_before: set[str] = set()
        while self._read_newer_plan() or self._version != version or todo:
            self._choose()
            if self._version != version:
                version = self._version
                in_order = by_seed(list(self._plan.values()), self.needs)
                todo = [run for run in in_order if run.run_key not in self.refused]
                todo.sort(key=lambda run: run.run_key in tried_before)
                failed = []
            unclaimed: list[PlannedRun] = []
            tried: list[PlannedRun] = []
            needed_states: dict[str, RunState | None] = {}
            blocked = {cell.cell_key for cell in self._to_choose if cell.problem()}
            self._refuse_pending()
            for planned in todo:
                self._stop.check()
                if planned.pending:
                    if planned.run_key not in self.refused:
                        (failed if planned.cell_key in blocked else unclaimed).append(planned)
                    continue
                state = planned.folder.state_on_file()
                if state is not None:
                    if state == RunState.FAILED:
                        failed.append(planned)
                    continue
                if not self._can_do(planned):
                    continue
                try:
                    claim = self._claim(planned, needed_states)
                except PermissionError as error:
                    self.refused[planned.run_key] = error
                    claim = None
                if claim is not None:
                    self._stop.check()
                    yield claim, planned
                    needed_states.clear()
                    tried_before.add(planned.run_key)
                    if planned.part == choices.TUNING:
                        self._choose()
                if planned.run_key not in self.refused:
                    (unclaimed if claim is None else tried).append(planned)
                if self._version != version:
                    break
            if self._version != version:
                continue
            retried, failed = _split_retried(failed)
            # Retried runs come after those that were not tried yet.
            todo = unclaimed + tried + retried
            if todo and not tried:
                if self.exit_when_idle and self._others_work_on(todo):
                    return
                time.sleep(WAIT_SECONDS)
        self._raise_refusal()

    def _raise_refusal(self) -> None:
        """Raise the first refusal of a run that nobody else has done meanwhile."""
        for planned in self._plan.values():
            error = self.refused.get(planned.run_key)
            if error is not None and planned.folder.state_on_file() is None:
                raise error

    def _read_newer_plan(self) -> bool:
        """Read the plan if somebody changed it since, which costs one look at the sweep's folder.

        A plan that this version can't read is left to workers that can.
        """
        version = self.folder.version()
        if version <= max(self._version, self._unreadable):
            return False
        try:
            self._read_plan()
        except UserError as error:
            self._unreadable = version
            log.warning("going on with the plan as it was: %s", error)
            return False
        return True

    def _read_plan(self) -> None:
        # Before the plan: what is chosen meanwhile is then read once more, and not missed.
        version = self.folder.version()
        revision, plan = self.folder.revision()
        self._version = (max(version[0], revision), version[1])
        self._plan = {planned.run_key: planned for planned in plan}
        self.needs = dependencies.needed(plan)
        self._to_choose = choices.still_to_choose(self.folder.path, plan)

    def _choose(self) -> None:
        """Choose the settings whose tuning runs are all done, and read the plan with them."""
        while self._to_choose:
            made = choices.make(self._to_choose)
            for cell_key in made:
                log.info("looked at the tuning runs of the cell %s", cell_key)
            # After a look the next may be due, as the runs may have been there before.
            if not self._read_newer_plan() or not made:
                return

    def _refuse_pending(self) -> None:
        """Leave runs to others that wait for a tuning run which this user can't do."""
        for cell in self._to_choose:
            keys = [run.run_key for run in cell.runs if run.run_key in self.refused]
            for planned in self._plan.values() if keys else ():
                if planned.pending and planned.cell_key == cell.cell_key:
                    self.refused[planned.run_key] = self.refused[keys[0]]

    def _can_do(self, planned: PlannedRun) -> bool:
        """Does this worker's code know the run, and those that it needs?

        Of the first plan it must: a run that it does not know fails, with the reason.
        """
        needed = dependencies.chain(planned.run_key, self.needs)
        return all(self._is_known(run) for run in (planned, *needed))

    def _is_known(self, planned: PlannedRun) -> bool:
        if planned.run_key not in self._known:
            self._known[planned.run_key] = is_known = self._knows(planned)
            if not is_known:
                log.warning("%s: left to workers with newer code", planned.run_key)
        return self._known[planned.run_key]

    def _claim(
        self, planned: PlannedRun, needed_states: dict[str, RunState | None]
    ) -> Claim | None:
        """Claim the run; None if it must wait, if others have it, or if there is nothing to do.

        PermissionError where this user can't write what the run needs.
        """
        if self._must_wait(planned, needed_states):
            needed = self.needs.get(planned.run_key)
            if needed is not None and needed.run_key in self.refused:
                raise self.refused[needed.run_key]
            return None
        # No signal between making the claim and storing it.
        with self._stop.defer_signals():
            claim = claims.acquire(planned.folder.path, self.worker, self._watch)
            if claim is not None:
                self.held = claim, planned
        if claim is None:
            return None
        # After the claim: what is removed as no longer asked for, is claimed before.
        self._read_newer_plan()
        is_planned = planned.run_key in self._plan
        # The holder before us may have finished between the look and the claim. So may somebody
        # have retried the failed run that this one needs.
        is_ended = planned.folder.state_on_file() is not None
        if not is_planned or is_ended or self._must_wait(planned, {}):
            claim.release(Outcome.NOTHING_TO_DO)
            return None
        try:
            planned.folder.check_writable()
        except PermissionError:
            claim.release(Outcome.NOTHING_TO_DO)
            raise
        return claim

    def _must_wait(self, planned: PlannedRun, needed_states: dict[str, RunState | None]) -> bool:
        """Is the run that this one needs neither done nor failed, or a look to come first?

        needed_states: run_key -> state as seen in this round. Of many runs that wait for the same
        one, only the first has to look.
        """
        if isinstance(planned.folder, choices.Halved) and planned.folder.is_paused():
            return True
        other = self.needs.get(planned.run_key)
        if other is None:
            return False
        if other.run_key not in needed_states:
            needed_states[other.run_key] = other.folder.state_on_file()
        return needed_states[other.run_key] is None

    def _others_work_on(self, todo: list[PlannedRun]) -> bool:
        return all(self._watch.somebody_works_on(planned.folder.path) for planned in todo)


def _split_retried(failed: list[PlannedRun]) -> tuple[list[PlannedRun], list[PlannedRun]]:
    """Split failed runs into those retried since, and the others."""
    retried: list[PlannedRun] = []
    still_failed: list[PlannedRun] = []
    for planned in failed:
        is_retried = planned.folder.state_on_file() is None
        (retried if is_retried else still_failed).append(planned)
    return retried, still_failed


def by_seed(
    plan: list[PlannedRun], needs: Mapping[str, PlannedRun] | None = None
) -> list[PlannedRun]:
    """The plan with all cells of a seed before the next seed: half a sweep is a fair comparison.

    Of a seed, runs that others need (`dependencies.needed`) come first. Before all of them come
    tuning runs, and what those need, as others wait for all of them.
    """
    seeds_of_cell: dict[str, int] = {}
    rank = {}
    for planned in plan:
        rank[planned.run_key] = seeds_of_cell.get(planned.cell_key, 0)
        seeds_of_cell[planned.cell_key] = rank[planned.run_key] + 1
    tuning = [planned.run_key for planned in plan if planned.part == choices.TUNING]
    early = {
        *tuning,
        *(run.run_key for key in tuning for run in dependencies.chain(key, needs or {})),
    }
    return sorted(
        dependencies.by_need(plan, needs or {}),
        key=lambda planned: (planned.run_key not in early, rank[planned.run_key]),
    )
