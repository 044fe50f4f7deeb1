"""Compare MLflow's store with the run folders, run by run and point by point.

The projection's own tags and caches are not used: the store is read through the MLflow client, the
folders directly, and every difference is reported.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from mixbench.experiments.errors import UserError
from mixbench.experiments.store.sweep_folder import SweepFolder
from mixbench.experiments.tracking import local_store
from mixbench.experiments.tracking.cells import (
    VERDICT,
    CellSummary,
    Statistics,
    cell_record,
    no_summary,
)
from mixbench.experiments.tracking.outages import in_words
from mixbench.experiments.tracking.parameters import Plan
from mixbench.experiments.tracking.records import (
    Record,
    Standing,
    run_record,
    sweep_record,
)
from mixbench.experiments.tracking.stored_points import Histories, Row, row, value_text
from mixbench.experiments.tracking.stored_runs import (
    CELL_KEY,
    KIND,
    NOTE,
    PAGE,
    PARENT,
    SWEEP_ID,
    sweep_id,
)

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

SHOWN = 20


@dataclass
class Verdict:
    """What was compared, and what differs. Only the first lines of `differences` are kept."""

    sweep: str
    uri: str
    runs: int = 0
    metrics: int = 0
    points: int = 0
    params: int = 0
    earlier: int = 0
    different: set[str] = field(default_factory=set)
    count: int = 0
    differences: list[str] = field(default_factory=list)

    @property
    def equal(self) -> bool:
        """Does MLflow hold exactly what the folders hold?"""
        return not self.count

    def differs(self, run: str, what: str) -> None:
        """One more difference, of the run of that name."""
        self.count += 1
        self.different.add(run)
        if len(self.differences) < SHOWN:
            self.differences.append(f"{run}: {what}")

    def __str__(self) -> str:
        compared = (
            f"{self.runs} runs, {self.metrics} metrics with {self.points} points, "
            f"{self.params} parameters"
        )
        where = f"MLflow at {local_store.shown(self.uri)}"
        earlier = ""
        if self.earlier:
            earlier = f" ({self.earlier} runs of an earlier sweep of this name not compared)"
        if self.equal:
            return f"equal: {where} and the folders of {self.sweep}, {compared}{earlier}"
        more = self.count - len(self.differences)
        lines = [*self.differences, *([f"and {more} more"] if more else [])]
        lines.append(
            f"different: {where} and the folders of {self.sweep}, {self.count} differences in "
            f"{len(self.different)} runs; compared: {compared}{earlier}"
        )
        lines.append(
            f"`mixbench track {self.sweep}` sends what is missing; a run that is deleted in "
            "MLflow is made again by it"
        )
        return "\n".join(lines)


def verify(
    sweep: SweepFolder,
    uri: str | None = None,
    say: Callable[[str], object] | None = None,
    statistics: Statistics | None = None,
) -> Verdict:
    """Compare all that MLflow has of the sweep with its folders. Changes nothing.

    Compared are name, status, end, parameters, tags, data sets and every point of every metric of
    each run and of the sweep's own run, and what the tables show of each cell; not the artifacts.
    While the sweep runs, what was written in the last seconds may differ. say: gets a line now and
    then while it takes long. statistics: without it, cells are not compared.
    """
    uri = local_store.resolve(sweep.path.parent, uri)
    with in_words(uri):
        return _Comparison(sweep, uri, say, statistics).verdict()


class _Comparison:
    def __init__(
        self,
        sweep: SweepFolder,
        uri: str,
        say: Callable[[str], object] | None,
        statistics: Statistics | None,
    ) -> None:
        database = local_store.sqlite_path(uri)
        if database is not None and not database.exists():
            raise UserError(f"{database}: no such MLflow store; `mixbench track` makes it")
        self._client = local_store.connect(uri)
        self._sweep = sweep
        self._say = say
        self._statistics = statistics
        self._histories = Histories(self._client, local_store.is_served(uri))
        self._plan = Plan(sweep.plan())
        self._planned = {run.run_key: run for run in self._plan.runs}
        self._dropped = set(sweep.dropped())
        self._standing: list[tuple[str, int | None]] = []
        self._of_cells: dict[str, list[tuple[str, int | None]]] = {}
        self._verdict = Verdict(sweep.name, uri)

    def verdict(self) -> Verdict:
        """The comparison, page by page of what the store has."""
        verdict = self._verdict
        there = self._client.get_experiment_by_name(self._sweep.name)
        if there is None or there.lifecycle_stage != "active":
            verdict.differs(self._sweep.name, "MLflow has no experiment of this name")
            return verdict
        sweep_tag = sweep_id(self._sweep)
        seen: set[str] = set()
        parents: list[Run] = []
        nested: list[tuple[str, str, str | None]] = []
        cells: dict[str, Run] = {}
        for page in _pages(self._client, str(there.experiment_id)):
            fresh: list[tuple[Run, Record]] = []
            for run in page:
                tags = run.data.tags
                key = tags.get("run_key", "")
                if tags.get(SWEEP_ID) != sweep_tag:
                    self._not_ours(run)
                elif tags.get(KIND) == "sweep" and not key:
                    parents.append(run)
                elif tags.get(KIND) == "cell":
                    self._take_cell(run, cells)
                elif key in seen:
                    verdict.differs(_name(run), f"a second run in MLflow, {run.info.run_id}")
                elif (record := self._record(key)) is None:
                    why = "no longer asked for" if key in self._dropped else "in no folder"
                    verdict.differs(_name(run), f"in MLflow, {run.info.run_id}, but {why}")
                else:
                    seen.add(key)
                    fresh.append((run, record))
                    nested.append((_name(run), record.tags[CELL_KEY], tags.get(PARENT)))
            self._compare(fresh)
            if self._say is not None and len(page) == PAGE:
                self._say(f"{len(seen)} of {len(self._planned)} runs compared")
        for key in sorted(self._sweep.begun() & self._planned.keys() - seen):
            record = self._record(key)
            if record is not None:
                verdict.runs += 1
                self._stands(record)
                verdict.differs(record.name, "not in MLflow")
        self._compare_parent(parents)
        if self._statistics is not None:
            self._compare_cells(cells, self._statistics.summaries(self._sweep))
        for name, cell_key, parent in nested:
            own = cells[cell_key] if cell_key in cells else next(iter(parents), None)
            if own is not None and parent != own.info.run_id:
                what = "cell's" if cell_key in cells else "sweep's"
                verdict.differs(name, f"its parent in MLflow is {parent}, not its {what} run")
        return verdict

    def _take_cell(self, run: Run, cells: dict[str, Run]) -> None:
        key = run.data.tags.get(CELL_KEY, "")
        if key in cells:
            self._verdict.differs(_name(run), f"a second run of the cell, {run.info.run_id}")
        elif key not in self._plan.cells:
            self._verdict.differs(
                _name(run), f"in MLflow, {run.info.run_id}, but a cell no longer asked for"
            )
        else:
            cells[key] = run

    def _compare_cells(
        self, cells: Mapping[str, Run], summaries: Mapping[str, CellSummary]
    ) -> None:
        """Compare what MLflow's tables show of each cell; its earlier means are no difference."""
        for key, standing in self._of_cells.items():
            record = cell_record(self._plan, key, standing, working=False)
            run = cells.get(key)
            if run is None:
                self._verdict.differs(record.name, "the cell's own run is not in MLflow")
                continue
            if record.status == "KILLED" and run.info.status == "RUNNING":
                record = cell_record(self._plan, key, standing, working=True)
            summary = summaries.get(key) or no_summary(record.name)
            tags = {**record.tags, VERDICT: summary.verdict}
            self._compare_run(run, dataclasses.replace(record, tags=tags))
            for name in sorted(summary.metrics.keys() | run.data.metrics.keys()):
                stored = value_text(run.data.metrics.get(name, math.nan))
                expected = value_text(summary.metrics.get(name, math.nan))
                if stored != expected:
                    self._verdict.differs(
                        record.name,
                        f"metric {name} is {stored} in MLflow's tables, {expected} of the folders",
                    )

    def _record(self, key: str) -> Record | None:
        planned = self._planned.get(key)
        if planned is None or not planned.folder.path.is_dir():
            return None
        return run_record(self._plan, planned, self._sweep.name)

    def _not_ours(self, run: Run) -> None:
        if SWEEP_ID in run.data.tags:
            self._verdict.earlier += run.data.tags.get(KIND) != "cell"
        else:
            self._verdict.differs(_name(run), f"a run of no sweep in MLflow, {run.info.run_id}")

    def _compare_parent(self, parents: list[Run]) -> None:
        name = self._sweep.name
        if not parents:
            self._verdict.differs(name, "the sweep's own run is not in MLflow")
            return
        for twin in parents[1:]:
            self._verdict.differs(name, f"a second run of the sweep in MLflow, {twin.info.run_id}")
        standing = Standing.of(self._standing)
        record = sweep_record(self._sweep, self._plan, standing)
        if record.status == "KILLED" and parents[0].info.status == "RUNNING":
            # A follower keeps it so between two runs.
            record = sweep_record(self._sweep, self._plan, standing, working=True)
        self._compare([(parents[0], record)])
        self._standing.pop()

    def _compare(self, pairs: list[tuple[Run, Record]]) -> None:
        histories = self._histories.of([run for run, _ in pairs])
        for run, record in pairs:
            self._verdict.runs += bool(record.key)
            self._stands(record)
            self._compare_run(run, record)
            self._compare_metrics(run, record, histories.get(run.info.run_id, {}))

    def _stands(self, record: Record) -> None:
        standing = record.status, record.ended
        self._standing.append(standing)
        if record.key:
            self._of_cells.setdefault(record.tags[CELL_KEY], []).append(standing)

    def _compare_run(self, run: Run, record: Record) -> None:
        differs = self._verdict.differs
        info = run.info
        for what, stored, expected in (
            ("name", info.run_name, record.name),
            ("status", info.status, record.status),
            ("end", info.end_time or None, record.ended),
        ):
            if stored != expected:
                differs(record.name, f"{what} is {stored} in MLflow, {expected} in the folder")
        self._verdict.params += len(record.params)
        # Users may write notes in MLflow.
        tags = {key: value for key, value in record.tags.items() if key != NOTE}
        for kind, there, wanted in (
            ("parameter", run.data.params, record.params),
            ("tag", run.data.tags, tags),
        ):
            for key, value in wanted.items():
                if key not in there:
                    differs(record.name, f"{kind} {key} is not in MLflow")
                elif there[key] != value:
                    differs(
                        record.name,
                        f"{kind} {key} is {there[key]!r} in MLflow, {value!r} in the folder",
                    )
        used = run.inputs.dataset_inputs if run.inputs is not None else []
        stored_sets = {
            (item.tags[0].value if item.tags else "", item.dataset.name, item.dataset.digest)
            for item in used
        }
        expected_sets = {(use.context, use.name, use.digest) for use in record.datasets}
        if stored_sets != expected_sets:
            differs(
                record.name,
                f"data sets are {sorted(stored_sets)} in MLflow, "
                f"{sorted(expected_sets)} in the folder",
            )

    def _compare_metrics(self, run: Run, record: Record, histories: dict[str, list[Row]]) -> None:
        differs = self._verdict.differs
        expected_rows: dict[str, set[Row]] = {}
        for point in record.points:
            expected_rows.setdefault(point.key, set()).add(row(point))
        self._verdict.metrics += len(expected_rows)
        self._verdict.points += sum(len(rows) for rows in expected_rows.values())
        for key in sorted(expected_rows.keys() | run.data.metrics.keys()):
            stored = histories.get(key, [])
            expected = expected_rows.get(key, set())
            for step, when, value in sorted(expected.difference(stored)):
                same = [row[2] for row in stored if row[:2] == (step, when)]
                stored_value = f"is {', '.join(same)} in MLflow" if same else "is not in MLflow"
                differs(
                    record.name, f"metric {key}, step {step}, {value} at {when}, {stored_value}"
                )
            for step, when, value in sorted(set(stored) - expected):
                if not any(row[:2] == (step, when) for row in expected):
                    differs(
                        record.name,
                        f"metric {key}, step {step}, {value} at {when}, is only in MLflow",
                    )
            if len(stored) != len(set(stored)):
                differs(record.name, f"metric {key} has points twice in MLflow")
            self._compare_latest(run, record, key, expected)

    def _compare_latest(self, run: Run, record: Record, key: str, expected: set[Row]) -> None:
        """The value that MLflow's tables show, which it keeps apart from the history."""
        if not expected:
            if key in run.data.metrics:
                self._verdict.differs(
                    record.name, f"metric {key} is in MLflow's tables and not in the folder"
                )
            return
        last = max(row[:2] for row in expected)
        values = {row[2] for row in expected if row[:2] == last}
        shown = run.data.metrics.get(key)
        if shown is None:
            self._verdict.differs(record.name, f"metric {key} has no value in MLflow's tables")
        elif value_text(shown) not in values:
            self._verdict.differs(
                record.name,
                f"metric {key} is {value_text(shown)} in MLflow's tables, "
                f"{', '.join(sorted(values))} in the folder",
            )


def _pages(client: MlflowClient, experiment_id: str) -> Iterator[list[Run]]:
    token = None
    while True:
        page = client.search_runs(
            [experiment_id],
            max_results=PAGE,
            order_by=["attributes.start_time ASC"],
            page_token=token,
        )
        yield list(page)
        token = page.token
        if not token:
            return


def _name(run: Run) -> str:
    return str(run.info.run_name or run.info.run_id)
