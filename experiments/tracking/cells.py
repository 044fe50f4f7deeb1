"""A run per cell in MLflow, above its runs: their means, what the statistics say, and figures.

Nothing of a cell is kept elsewhere: each value is compared with the store's and sent where it is
another one. MLflow shows the latest value of a metric, so a cell is never deleted for a new one.
"""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from mixbench.experiments.store.run_folder import RunFolder
from mixbench.experiments.store.sweep_folder import SweepFolder
from mixbench.experiments.text import first_line
from mixbench.experiments.tracking import notes, write
from mixbench.experiments.tracking.hashing import short_hash
from mixbench.experiments.tracking.parameters import Plan
from mixbench.experiments.tracking.records import FIGURES, Point, Record, overall_status
from mixbench.experiments.tracking.stored_runs import CELL, CELL_KEY, COLOUR, KIND, StoredRun
from mixbench.experiments.tracking.summary import Summary
from mixbench.experiments.tracking.writer import RunWriter

VERDICT = "verdict"
CELLS, DRAWN = "mixbench.cells", "mixbench.figures"
"""Tags: of what the cells were computed (of the sweep's run), of what their figures were drawn."""
VERSION = 1
"""Raise it where cells are to be written again though no run changed."""
LIVE_SECONDS, LIVE_SHARE = 10.0, 10.0
"""While a sweep runs, compute again after so long, and so many times as long as it took."""


@dataclass(frozen=True)
class CellSummary:
    """What the statistics say of a cell.

    metrics: such as "mean/test/accuracy", "half_width/test/accuracy" and "n". verdict: a word or
    two. note: the description, in Markdown.
    """

    metrics: Mapping[str, float]
    verdict: str
    note: str


@dataclass(frozen=True)
class Statistics:
    """How to summarise cells, which is the work of `mixbench.analysis`.

    summaries: cell_key -> summary of each cell with a finished run. figures: of the finished runs
    of a cell, file name -> PNG.
    """

    summaries: Callable[[SweepFolder], Mapping[str, CellSummary]]
    figures: Callable[[Sequence[RunFolder]], dict[str, bytes]]


@dataclass(frozen=True)
class _Run:
    """A run as far as its cell depends on it."""

    status: str
    ended: int | None
    results: str


@dataclass
class Cells:
    """The cells of a sweep; knows its runs from `saw`."""

    sweep: SweepFolder
    statistics: Statistics
    _runs: dict[str, _Run] = field(default_factory=dict)
    _new: bool = False
    _next: float = 0.0

    def saw(self, record: Record) -> None:
        """Take note of a run as it is now."""
        results = short_hash([record.finals, record.measured]) if record.folder else ""
        self._runs[record.key] = _Run(record.status, record.ended, results)

    def keep(self, run_keys: Iterable[str]) -> None:
        """Forget all other runs."""
        for key in self._runs.keys() - set(run_keys):
            del self._runs[key]

    def parent(self, writer: RunWriter, plan: Plan, cell_key: str, started: int) -> str:
        """Return the id of the cell's run, made if there is none."""
        name, key = plan.cell_name(cell_key), CELL + cell_key
        there, params = writer.stored.get(key), plan.cell_params(cell_key)
        if there and any(params.get(k, v) != v for k, v in there.params.items()):
            with writer.doubting(key):
                writer.client.delete_run(writer.stored.pop(key).run_id)
        record = Record(key, name, "RUNNING", {}, {}, started, None)
        self._new = self._new or key not in writer.stored
        with writer.doubting(key):
            return writer.existing(record, _identity(writer, cell_key)).run_id

    def update(self, writer: RunWriter, plan: Plan, working: bool, summary: Summary) -> None:
        """Write what changed in the cells, once their runs are written."""
        begun = {
            key: [self._runs[run.run_key] for run in runs if run.run_key in self._runs]
            for key, runs in plan.cells.items()
        }
        begun = {key: runs for key, runs in begun.items() if runs}
        records = {
            key: cell_record(plan, key, [(run.status, run.ended) for run in runs], working)
            for key, runs in begun.items()
        }
        digest = short_hash(
            [VERSION, *([r.name, r.status, r.ended, r.params] for r in records.values())]
            + [[run.results for run in runs] for runs in begun.values()]
        )
        sweep_run = writer.stored[""]
        whole = all(CELL + key in writer.stored for key in records)
        if sweep_run.tags.get(CELLS) == digest and whole and not self._new:
            return
        now = time.monotonic()
        if working and now < self._next:
            return
        summaries = self._summaries(summary)
        took = time.monotonic() - now
        self._next = time.monotonic() + max(LIVE_SECONDS, LIVE_SHARE * took)
        for key, record in records.items():
            self._write(writer, key, record, summaries.get(key))
        with writer.doubting(""):
            write.log_batch(writer.client, sweep_run, tags={CELLS: digest})
        self._new = False

    def draw(self, writer: RunWriter, plan: Plan, summary: Summary, ends: float | None) -> None:
        """Draw the figures of the cells whose runs have all ended."""
        waiting = [
            (cell_key, digest)
            for cell_key in plan.cells
            if (digest := self._undrawn(writer, plan, cell_key))
        ]
        for position, (cell_key, digest) in enumerate(waiting):
            if ends is not None and time.monotonic() > ends:
                summary.left = len(waiting) - position
                return
            key = CELL + cell_key
            runs = [run for run in plan.cells[cell_key] if self._runs[run.run_key].results]
            try:
                figures = self.statistics.figures([run.folder for run in runs])
            except Exception as error:  # A figure that fails must not stop the other cells.
                figures = {}
                summary.problems.append(
                    f"{plan.cell_name(cell_key)}: no figures, "
                    f"{type(error).__name__}: {first_line(error)}"
                )
            with writer.doubting(key):
                run = writer.stored[key]
                named = {f"{FIGURES}/{name}": data for name, data in figures.items()}
                write.send_files(writer.client, run.run_id, named)
                write.log_batch(writer.client, run, tags={DRAWN: digest})

    def _undrawn(self, writer: RunWriter, plan: Plan, cell_key: str) -> str | None:
        """Return of what the cell's figures are to be drawn; None where they are, or can't be."""
        runs = [self._runs.get(run.run_key) for run in plan.cells[cell_key]]
        ended = [run for run in runs if run and run.status in ("FINISHED", "FAILED")]
        there = writer.stored.get(CELL + cell_key)
        if there is None or len(ended) < len(runs) or not any(run.results for run in ended):
            return None
        digest = short_hash([VERSION, *(run.results for run in ended)])
        return None if there.tags.get(DRAWN) == digest else digest

    def _summaries(self, summary: Summary) -> Mapping[str, CellSummary]:
        try:
            return self.statistics.summaries(self.sweep)
        except Exception as error:  # The runs are there all the same.
            summary.problems.append(
                f"{self.sweep.name}: no statistics of its cells, "
                f"{type(error).__name__}: {first_line(error)}"
            )
            return {}

    def _write(
        self,
        writer: RunWriter,
        cell_key: str,
        record: Record,
        summary: CellSummary | None,
    ) -> None:
        client = writer.client
        with writer.doubting(record.key):
            run = writer.existing(record, _identity(writer, cell_key))
            found = summary or no_summary(record.name)
            colour = {COLOUR: record.colour} if COLOUR not in run.tags else {}
            note = notes.tags(run, writer.note(found.note))
            tags = {**record.tags, VERDICT: found.verdict, **colour, **note}
            changed = _changed(run, found.metrics)
            when = round(1000 * time.time())
            points = [Point(key, value, when, 0) for key, value in changed.items()]
            write.log_batch(client, run, record.params, points, tags)
            run.metrics.update(changed)
            write.set_status(client, run, record)


def no_summary(name: str) -> CellSummary:
    """Return what is said of a cell that the statistics say nothing about."""
    return CellSummary({"n": 0.0}, "-", f"**{notes.escaped(name)}**: no finished run.")


def cell_record(
    plan: Plan, cell_key: str, runs: Sequence[tuple[str, int | None]], working: bool
) -> Record:
    """Return what MLflow is to hold of a cell, its statistics aside.

    runs: the status and the end of each of its runs that has begun. working: see `sweep_record`.
    """
    statuses = Counter(status for status, _ in runs)
    status = overall_status(statuses, len(plan.cells[cell_key]), working)
    ends = [ended for _, ended in runs if ended is not None]
    return Record(
        key=CELL + cell_key,
        name=plan.cell_name(cell_key),
        status=status,
        params=plan.cell_params(cell_key),
        tags=plan.cell_place(cell_key),
        started=0,
        ended=None if status in ("RUNNING", "SCHEDULED") else max(ends, default=None),
        colour=plan.colour(cell_key),
    )


def _identity(writer: RunWriter, cell_key: str) -> dict[str, str]:
    return {**writer.identity, KIND: "cell", CELL_KEY: cell_key}


def _changed(run: StoredRun, metrics: Mapping[str, float]) -> dict[str, float]:
    """Return the metrics that the store has not, or otherwise; NaN for those that are gone."""
    gone = {
        key: math.nan
        for key, value in run.metrics.items()
        if key not in metrics and not math.isnan(value)
    }
    return gone | {key: value for key, value in metrics.items() if run.metrics.get(key) != value}
