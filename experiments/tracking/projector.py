"""Project run folders into MLflow: every write can be repeated, none depends on local state.

What a run in the store holds is kept in its own tags, so a projection can stop anywhere and be
made again by any process:

- `mixbench.sent` is written before metrics are: how many rows of metrics.jsonl, their digest, and
  the digest of the final metrics. MLflow cannot take a metric back, so a run whose folder no longer
  begins with them (it was started afresh) is deleted in MLflow and made again.
- `mixbench.artifacts` and `mixbench.projected` are written last: which artifacts are there, how
  many rows, and the digest of all else.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from types import TracebackType

from mixbench.experiments.store import lock, tracked
from mixbench.experiments.store.run_folder import PlannedRun, RunFolder
from mixbench.experiments.store.sweep_folder import SweepFolder
from mixbench.experiments.text import plural
from mixbench.experiments.tracking import local_store, moved_store, write
from mixbench.experiments.tracking.cells import Cells, Statistics
from mixbench.experiments.tracking.changes import Changes, version
from mixbench.experiments.tracking.outages import StoreUnavailable, in_words
from mixbench.experiments.tracking.parameters import Plan
from mixbench.experiments.tracking.records import (
    FIGURES,
    Record,
    Standing,
    run_record,
    sweep_record,
    sweep_started,
)
from mixbench.experiments.tracking.stored_runs import (
    ARTIFACTS,
    CELL,
    KIND,
    PARENT,
    RUN_KEY,
    StoredRun,
    ensure_experiment,
    find_runs,
    sweep_id,
)
from mixbench.experiments.tracking.summary import Summary
from mixbench.experiments.tracking.view import metric_of, write_views
from mixbench.experiments.tracking.writer import RunWriter

Figures = Callable[[RunFolder], dict[str, bytes]]
"""Draws the figures of a finished run: file name -> PNG."""

TRIES, PAUSE_SECONDS = 3, 1.0
SAY_SECONDS = 20.0
MOST_DRAWN = 200


def project(
    sweep: SweepFolder,
    uri: str | None = None,
    figures: Figures | None = None,
    say: Callable[[str], object] | None = None,
    statistics: Statistics | None = None,
) -> Summary:
    """Bring MLflow up to the sweep's folder; twice is the same as once.

    uri: the tracking URI; default `$MLFLOW_TRACKING_URI`, else SQLite next to the sweep's folder.
    figures: draws the PNGs of a finished run, name -> bytes; a run whose figures fail goes without.
    say: gets a line now and then while it takes long.
    statistics: summarises the cells; without it, cells get no runs of their own.
    UserError when the sweep is being projected already, or the store refuses or does not answer.
    """
    with Projector(sweep, uri, figures, statistics) as projector:
        total: Summary | None = None
        failures = 0
        while total is None or total.left:
            try:
                done = projector.update(seconds=SAY_SECONDS)
            except StoreUnavailable:
                failures += 1
                if failures >= TRIES:
                    raise
                time.sleep(PAUSE_SECONDS * 2 ** (failures - 1))
                continue
            failures = 0
            if total is None:
                total = done
            else:
                total.add(done)
            if done.left and say is not None:
                say(f"{done.left} runs or their figures are still to be sent to MLflow")
        return total


class Projector:
    """Holds the sweep's projection for a while: `update` as often as the folders change.

    A context manager; within it, no other process projects this sweep. What it knows of the store
    and of the folders it keeps, so that an update costs what changed and not what is there.
    """

    def __init__(
        self,
        sweep: SweepFolder,
        uri: str | None = None,
        figures: Figures | None = None,
        statistics: Statistics | None = None,
    ) -> None:
        self.uri = local_store.resolve(sweep.path.parent, uri)
        self._sweep = sweep
        self._root = sweep.path.parent
        self._sweep_id = sweep_id(sweep)
        self._figures = figures
        self._held = contextlib.ExitStack()
        self._writer: RunWriter | None = None
        self._cells = Cells(sweep, statistics) if statistics is not None else None
        self._experiment_tags: dict[str, str] = {}
        self._changes = Changes()
        self._standing: dict[str, tuple[str, int | None]] = {}
        self._undrawn: dict[str, PlannedRun] = {}
        self._plan: tuple[tuple[int, int], Plan] | None = None
        self._moved: str | None = None

    def __enter__(self) -> Projector:
        local_store.check_writable(self._root, self.uri)
        path = self._sweep.path / "projection.lock"
        self._held.enter_context(
            lock.exclusive(path, f"projecting the sweep {self._sweep.name!r} into MLflow")
        )
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._held.close()

    def update(self, seconds: float | None = None, working: bool = False) -> Summary:
        """Project what changed since the last time.

        seconds: stop when they are over; `Summary.left` then says how much is left. Figures, which
        take the longest, come last.
        working: somebody works on the sweep, even if no run is held at this moment.
        StoreUnavailable when waiting may help; UserError when the store refuses.
        """
        ends = None if seconds is None else time.monotonic() + seconds
        with in_words(self.uri):
            return self._update(ends, working)

    def forget(self) -> None:
        """Look at everything again in the next update: the store, and all folders."""
        self._writer = None
        self._changes = Changes()

    def reconnected(self) -> None:
        """The store was away: everything is looked at again unless it is plainly the same."""
        with in_words(self.uri):
            if self._writer is None:
                return
            there = self._writer.client.get_experiment_by_name(self._sweep.name)
            if there is None or str(there.experiment_id) != self._writer.experiment_id:
                self.forget()

    def standing(self) -> Standing:
        """How the runs stand, as of the last update."""
        return Standing.of(self._standing.values())

    @property
    def planned(self) -> int:
        """How many runs the sweep has."""
        return len(self._known_plan().runs)

    def _known_plan(self) -> Plan:
        # Read once: there may be ten thousand configurations.
        version = self._sweep.version()
        if self._plan is None or self._plan[0] != version:
            runs = self._sweep.plan()
            self._plan = version, Plan(runs)
            # Names, and what all runs have in common, are those of the new plan.
            self._changes = Changes()
            planned = {run.run_key for run in runs}
            for known in (self._standing, self._undrawn):
                for key in known.keys() - planned:
                    del known[key]
            if self._cells is not None:
                self._cells.keep(planned)
        return self._plan[1]

    def _update(self, ends: float | None, working: bool) -> Summary:
        writer, plan = self._open(), self._known_plan()
        summary = Summary(self._sweep.name, writer.experiment_id, self.uri)
        if self._moved is not None:
            summary.problems.append(self._moved)
            self._moved = None
        begun = self._sweep.begun()
        # The sweep's own run is there before the others, and is completed after them: a sweep that
        # MLflow shows as finished has all its runs.
        self._sweep_run(writer, plan)
        try:
            wanted = {run.run_key for run in plan.runs} | {CELL + key for key in plan.cells}
            write.delete_dropped(writer.client, writer.stored, wanted)
        except BaseException:
            # The answer may be lost, and not the request.
            self.forget()
            raise
        changed = self._changes.of(run for run in plan.runs if run.run_key in begun)
        # Running ones first: somebody may be watching them.
        changed.sort(key=lambda run: (run.folder.path / "result.json").exists())
        for position, run in enumerate(changed):
            if _is_over(ends) and position:
                summary.left = len(changed) - position
                return summary
            self._project_run(writer, plan, run, summary)
        for key in self._standing.keys() - summary.outcomes.keys():
            summary.outcomes[key] = "unchanged"
        self._close_vanished(writer, begun)
        if self._cells is not None:
            self._cells.keep(self._standing)
            self._cells.update(writer, plan, working, summary)
            metric, tags = metric_of(self._sweep.spec, plan), self._experiment_tags
            write_views(writer.client, writer.experiment_id, tags, plan, metric)
        self._draw(writer, plan, summary, ends)
        if self._cells is not None and not summary.left:
            self._cells.draw(writer, plan, summary, ends)
        record = sweep_record(self._sweep, plan, self.standing(), working)
        writer.write(record, {**writer.identity, KIND: "sweep"})
        self._note_where(writer)
        return summary

    def _note_where(self, writer: RunWriter) -> None:
        """Write into the sweep's folder what MLflow calls its runs, for the links of the report."""
        of_cells, of_runs = {}, {}
        for key, run in writer.stored.items():
            if key.startswith(CELL):
                of_cells[key.removeprefix(CELL)] = run.run_id
            elif key:
                of_runs[key] = run.run_id
        uri, number = local_store.public(self.uri), writer.experiment_id
        record = tracked.Tracked(uri, self._sweep.name, number, of_runs, of_cells)
        tracked.write(self._sweep.path, record)

    def _open(self) -> RunWriter:
        if self._writer is None:
            self._moved = moved_store.settle(self.uri)
            client = local_store.connect(self.uri)
            experiment = ensure_experiment(client, self._sweep, self._root, self.uri)
            self._experiment_tags = dict(experiment.tags)
            number = str(experiment.experiment_id)
            stored = find_runs(client, number, self._sweep_id)
            self._writer = RunWriter(client, number, self._sweep_id, stored)
        return self._writer

    def _sweep_run(self, writer: RunWriter, plan: Plan) -> str:
        """The id of the sweep's own run, made if there is none.

        Made anew when a change of the plan changed what all runs have in common: MLflow can't take
        a parameter back.
        """
        there = writer.stored.get("")
        if there is not None and not there.params.items() <= plan.fixed.items():
            with writer.doubting(""):
                writer.client.delete_run(writer.stored.pop("").run_id)
        record = Record("", self._sweep.name, "RUNNING", {}, {}, sweep_started(self._sweep), None)
        with writer.doubting(""):
            return writer.existing(record, {**writer.identity, KIND: "sweep"}).run_id

    def _project_run(
        self, writer: RunWriter, plan: Plan, run: PlannedRun, summary: Summary
    ) -> None:
        key = run.run_key
        before = version(run.folder.path)
        try:
            record = run_record(plan, run, self._sweep.name)
            if record is None:
                self._standing.pop(key, None)
            else:
                cell = writer.stored.get(CELL + run.cell_key, writer.stored[""])
                parent = cell.run_id
                if self._cells is not None:
                    parent = self._cells.parent(writer, plan, run.cell_key, record.started)
                    self._cells.saw(record)
                tags = {**writer.identity, RUN_KEY: key, KIND: "run", PARENT: parent}
                summary.outcomes[key] = writer.write(record, tags)
                self._standing[key] = record.status, record.ended
        except FileNotFoundError:
            # Removed while it was read: look once more the next time.
            return
        if record is not None and self._lacks_figures(writer.stored[key], record):
            self._undrawn[key] = run
        else:
            self._undrawn.pop(key, None)
        self._changes.read(run, before, running=record is not None and record.status == "RUNNING")

    def _lacks_figures(self, run: StoredRun, record: Record) -> bool:
        drawn = run.tags.get(ARTIFACTS, "").endswith(f" {FIGURES}")
        return self._figures is not None and record.folder is not None and not drawn

    def _draw(self, writer: RunWriter, plan: Plan, summary: Summary, ends: float | None) -> None:
        """Draw and send the figures that are not there.

        They take half a second a run: where cells have theirs, runs of large sweeps have none.
        """
        if self._cells is not None and len(plan.runs) > MOST_DRAWN:
            if self._undrawn:
                summary.problems.append(
                    f"{plural(len(self._undrawn), 'run')} without figures of their own, which "
                    f"sweeps of up to {MOST_DRAWN} runs have; those of the cells are there"
                )
            self._undrawn.clear()
            return
        for key, run in list(self._undrawn.items()):
            if self._figures is None:
                return
            if _is_over(ends):
                summary.left = len(self._undrawn)
                return
            try:
                figures = self._figures(run.folder)
            except Exception as error:  # A figure that fails must not stop the other runs.
                # Not tried again before the run changes, or by the next process.
                del self._undrawn[key]
                summary.problems.append(
                    f"{plan.name(key)}: no figures, {type(error).__name__}: {error}"
                )
                continue
            with writer.doubting(key):
                there = writer.stored[key]
                named = {f"{FIGURES}/{name}": data for name, data in figures.items()}
                write.send_files(writer.client, there.run_id, named)
                if figures:
                    files = there.tags.get(ARTIFACTS, "").partition(" ")[0]
                    write.log_batch(writer.client, there, tags={ARTIFACTS: f"{files} {FIGURES}"})
            del self._undrawn[key]
            if summary.outcomes.get(key) == "unchanged" and figures:
                summary.outcomes[key] = "updated"

    def _close_vanished(self, writer: RunWriter, begun: set[str]) -> None:
        """End a run whose folder was removed: it must not stay RUNNING."""
        for key, run in writer.stored.items():
            if not key or key.startswith(CELL):
                continue
            if key not in begun and run.status == "RUNNING":
                with writer.doubting(key):
                    writer.client.set_terminated(run.run_id, "KILLED")
                    run.status = "KILLED"
            if key not in begun:
                self._standing.pop(key, None)


def _is_over(ends: float | None) -> bool:
    return ends is not None and time.monotonic() > ends
