"""Run folders into MLflow: every write can be repeated, and none depends on local state.

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
import itertools
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from experiments.errors import UserError
from experiments.store import RunFolder, SweepFolder
from experiments.tracking import local_store, lock
from experiments.tracking.records import (
    FIGURES,
    Plan,
    Point,
    Record,
    header,
    run_record,
    short_hash,
    sweep_record,
)

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

Figures = Callable[[RunFolder], dict[str, bytes]]

KIND, SWEEP_ID = "mixbench.kind", "mixbench.sweep_id"
SENT, ARTIFACTS, PROJECTED = "mixbench.sent", "mixbench.artifacts", "mixbench.projected"
PARENT, NOTE = "mlflow.parentRunId", "mlflow.note.content"

MAX_METRICS, MAX_PARAMS_OR_TAGS, PAGE = 800, 100, 1000


@dataclass
class Summary:
    """What a projection did. `problems` has one line for each figure that could not be drawn."""

    experiment: str
    experiment_id: str
    uri: str
    created: int = 0
    updated: int = 0
    unchanged: int = 0
    replaced: int = 0
    problems: list[str] = field(default_factory=list)

    def count(self, outcome: str) -> None:
        """One more run that was `outcome`, the name of a field."""
        setattr(self, outcome, getattr(self, outcome) + 1)

    def __str__(self) -> str:
        runs = self.created + self.updated + self.unchanged + self.replaced
        parts = [f"{self.created} new", f"{self.updated} updated", f"{self.unchanged} unchanged"]
        if self.replaced:
            parts.append(f"{self.replaced} made again")
        return f"{runs} runs in MLflow experiment {self.experiment!r} ({', '.join(parts)})"


@dataclass
class _Stored:
    """A run as the store has it: as much as is needed to tell what is missing."""

    run_id: str
    name: str
    status: str
    tags: dict[str, str]
    params: set[str]


def project(sweep: SweepFolder, uri: str | None = None, figures: Figures | None = None) -> Summary:
    """Bring MLflow up to the sweep's folder; twice is the same as once.

    uri: the tracking URI; default `$MLFLOW_TRACKING_URI`, else SQLite next to the sweep's folder.
    figures: draws the PNGs of a finished run, name -> bytes; a run whose figures fail goes without.
    UserError when the sweep is being projected already, or the store refuses or does not answer.
    """
    with Projector(sweep, uri, figures) as projector:
        return projector.update()


class Projector:
    """Holds the sweep's projection for a while: `update` as often as the folders change.

    A context manager; within it, no other process projects this sweep.
    """

    def __init__(
        self, sweep: SweepFolder, uri: str | None = None, figures: Figures | None = None
    ) -> None:
        self._sweep = sweep
        self._root = sweep.path.parent
        # Tells this folder from an earlier one of the same name, whose runs stay as they were.
        self._sweep_id = short_hash([sweep.name, header(sweep).get("created")])
        self._uri = local_store.resolve(self._root, uri)
        self._figures = figures
        self._held = contextlib.ExitStack()
        self._client: MlflowClient | None = None
        self._experiment_id = ""
        self._stored: dict[str, _Stored] | None = None

    def __enter__(self) -> Projector:
        place = self._sweep.path / "projection.lock"
        self._held.enter_context(
            lock.exclusive(place, f"projecting the sweep {self._sweep.name!r} into MLflow")
        )
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._held.close()

    def update(self) -> Summary:
        """Project all that changed since the last time. UserError when the store refuses."""
        with self._in_words():
            return self._update()

    def _update(self) -> Summary:
        client, stored = self._open()
        plan = Plan(self._sweep.plan())
        summary = Summary(self._sweep.name, self._experiment_id, self._uri)
        records = [
            record
            for run in plan.runs
            if (record := run_record(plan, run, self._sweep.name)) is not None
        ]
        parent = sweep_record(self._sweep, plan, records)
        parent_tags = {**self._identity(parent), KIND: "sweep"}
        # The parent is there before its children, and is completed after them: a sweep that
        # MLflow shows as finished has all its runs.
        parent_id = self._existing(client, stored, parent, parent_tags).run_id
        child_tags = {KIND: "run", PARENT: parent_id}
        for record in records:
            tags = {**self._identity(record), **child_tags}
            summary.count(self._write(client, stored, record, tags, summary))
        self._write(client, stored, parent, parent_tags, summary)
        return summary

    def _open(self) -> tuple[MlflowClient, dict[str, _Stored]]:
        if self._client is None or self._stored is None:
            self._client = local_store.connect(self._uri)
            self._experiment_id = _experiment(self._client, self._sweep, self._root, self._uri)
            self._stored = _stored_runs(self._client, self._experiment_id, self._sweep_id)
        return self._client, self._stored

    def _identity(self, record: Record) -> dict[str, str]:
        return {SWEEP_ID: self._sweep_id, **({"run_key": record.key} if record.key else {})}

    def _write(
        self,
        client: MlflowClient,
        stored: dict[str, _Stored],
        record: Record,
        own_tags: dict[str, str],
        summary: Summary,
    ) -> str:
        """Make the store's run equal to the record; the field of `Summary` that counts it."""
        outcome = "updated" if record.key in stored else "created"
        if record.key in stored and not _continues(stored[record.key].tags.get(SENT), record):
            client.delete_run(stored.pop(record.key).run_id)
            outcome = "replaced"
        run = self._existing(client, stored, record, own_tags)
        digest = short_hash([record.digest, own_tags])
        rows, _, known = run.tags.get(PROJECTED, "0 ").partition(" ")
        changed = known != digest
        if changed:
            _log(client, run, record, own_tags, first_row=int(rows))
        done = self._log_files(client, run, record, summary)
        if changed:
            _set_status(client, run, record)
            done[PROJECTED] = f"{len(record.rows)} {digest}"
        _log_batch(client, run, tags=done)
        return outcome if done else "unchanged"

    def _existing(
        self,
        client: MlflowClient,
        stored: dict[str, _Stored],
        record: Record,
        own_tags: dict[str, str],
    ) -> _Stored:
        """The store's run for the record, made if there is none."""
        if record.key not in stored:
            tags = {**own_tags, SENT: _sent(record)}
            run = client.create_run(
                self._experiment_id, start_time=record.started, tags=tags, run_name=record.name
            )
            stored[record.key] = _as_stored(run)
        return stored[record.key]

    def _log_files(
        self, client: MlflowClient, run: _Stored, record: Record, summary: Summary
    ) -> dict[str, str]:
        """Send the artifacts that are not there; the tag that says so, if any were sent."""
        digest = short_hash({name: _version(path) for name, path in record.files.items()})
        known, _, drawn = run.tags.get(ARTIFACTS, "").partition(" ")
        missing = self._figures is not None and record.folder is not None and drawn != FIGURES
        figures = self._draw(record, summary) if missing or known != digest else {}
        if known == digest and not figures:
            return {}
        contents = {name: path.read_bytes() for name, path in record.files.items()}
        contents.update({f"{FIGURES}/{name}": data for name, data in figures.items()})
        _send_files(client, run.run_id, contents)
        return {ARTIFACTS: f"{digest} {FIGURES if figures else ''}"}

    def _draw(self, record: Record, summary: Summary) -> dict[str, bytes]:
        """The figures of a finished run; none where they cannot be drawn, until the next time."""
        if self._figures is None or record.folder is None:
            return {}
        try:
            return self._figures(record.folder)
        except Exception as error:  # a figure is not worth the other runs
            summary.problems.append(f"{record.name}: no figures, {type(error).__name__}: {error}")
            return {}

    @contextlib.contextmanager
    def _in_words(self) -> Iterator[None]:
        """MLflow's errors as one line that says which store."""
        local_store.configure()
        from mlflow.exceptions import MlflowException

        try:
            yield
        except MlflowException as error:
            # What is known of the store may be wrong now: someone may have deleted a run in it.
            self._stored = None
            reason = str(error).strip().partition("\n")[0]
            raise UserError(f"MLflow at {self._uri}: {reason}") from error


def _experiment(client: MlflowClient, sweep: SweepFolder, root: Path, uri: str) -> str:
    """The id of the sweep's experiment, made if there is none."""
    there = client.get_experiment_by_name(sweep.name)
    if there is None:
        location = None
        if not local_store.is_served(uri):
            location = (local_store.artifact_root(root, uri) / sweep.name).as_uri()
        # Without its kind, MLflow's page asks for it, or takes the experiment for a chat bot's.
        tags = {"mlflow.experimentKind": "custom_model_development"}
        if sweep.description:
            tags[NOTE] = sweep.description
        return str(client.create_experiment(sweep.name, artifact_location=location, tags=tags))
    if there.lifecycle_stage != "active":
        number = there.experiment_id
        raise UserError(
            f"experiment {sweep.name!r} was deleted in MLflow at {uri}; get it back with "
            f"`mlflow experiments restore -x {number}` or remove it for good with "
            f"`mlflow gc --experiment-ids {number}` (MLFLOW_TRACKING_URI={uri})"
        )
    return str(there.experiment_id)


def _stored_runs(client: MlflowClient, experiment_id: str, sweep_id: str) -> dict[str, _Stored]:
    """run_key -> run of this sweep, "" for the parent, in one paged search."""
    found: dict[str, _Stored] = {}
    token = None
    while True:
        page = client.search_runs(
            [experiment_id],
            filter_string=f"tags.`{SWEEP_ID}` = '{sweep_id}'",
            max_results=PAGE,
            order_by=["attributes.start_time ASC"],
            page_token=token,
        )
        for run in page:
            stored = _as_stored(run)
            first = found.setdefault(stored.tags.get("run_key", ""), stored)
            if first is not stored:
                # Two for one key: a request that was answered with an error and took effect.
                client.delete_run(stored.run_id)
        token = page.token
        if not token:
            return found


def _as_stored(run: Run) -> _Stored:
    return _Stored(
        run_id=run.info.run_id,
        name=run.info.run_name or "",
        status=run.info.status,
        tags=dict(run.data.tags),
        params=set(run.data.params),
    )


def _sent(record: Record) -> str:
    finals = short_hash(record.finals) if record.finals else "-"
    return f"{len(record.rows)} {short_hash(record.rows)} {finals}"


def _continues(sent: str | None, record: Record) -> bool:
    """Is all that was sent still what the folder says?"""
    if sent is None:
        return True
    count, rows, finals = sent.split(" ")
    if int(count) > len(record.rows) or short_hash(record.rows[: int(count)]) != rows:
        return False
    return finals == "-" or finals == short_hash(record.finals)


def _log(
    client: MlflowClient,
    run: _Stored,
    record: Record,
    own_tags: dict[str, str],
    first_row: int,
) -> None:
    """Parameters, metrics from row `first_row` on, tags and inputs."""
    _drop_failure(client, run, record)
    # Ahead of the metrics and in a write of its own: after a kill in between, it says too much,
    # never too little.
    _log_batch(client, run, tags={SENT: _sent(record)})
    points = [point for row in record.rows[first_row:] for point in row] + record.finals
    _log_batch(client, run, record.params, points, {**record.tags, **own_tags})
    _log_inputs(client, run, record)


def _log_batch(
    client: MlflowClient,
    run: _Stored,
    params: dict[str, str] | None = None,
    points: Sequence[Point] = (),
    tags: dict[str, str] | None = None,
) -> None:
    """All that is new of these, in as few requests as MLflow's limits allow."""
    from mlflow.entities import Metric, Param, RunTag

    params = {key: value for key, value in (params or {}).items() if key not in run.params}
    tags = {key: value for key, value in (tags or {}).items() if run.tags.get(key) != value}
    for some_params, some_points, some_tags in itertools.zip_longest(
        _chunks(sorted(params.items()), MAX_PARAMS_OR_TAGS),
        _chunks(points, MAX_METRICS),
        _chunks(sorted(tags.items()), MAX_PARAMS_OR_TAGS),
        fillvalue=(),
    ):
        client.log_batch(
            run.run_id,
            params=[Param(key, value) for key, value in some_params],
            metrics=[Metric(*point) for point in some_points],
            tags=[RunTag(key, value) for key, value in some_tags],
        )
    run.params.update(params)
    run.tags.update(tags)


def _log_inputs(client: MlflowClient, run: _Stored, record: Record) -> None:
    from mlflow.entities import Dataset, DatasetInput, InputTag

    inputs = [
        DatasetInput(
            Dataset(
                name=use.name,
                digest=use.digest,
                source_type="local",
                source=use.source,
                profile=use.profile,
            ),
            tags=[InputTag("mlflow.data.context", use.context)],
        )
        for use in record.datasets
    ]
    if inputs:
        client.log_inputs(run.run_id, datasets=inputs)


def _drop_failure(client: MlflowClient, run: _Stored, record: Record) -> None:
    """Take back what an earlier attempt's failure left, and only that."""
    if run.tags.get("state") == "failed" and record.tags.get("state") != "failed":
        for key in ("error", NOTE):
            if run.tags.pop(key, None) is not None:
                client.delete_tag(run.run_id, key)


def _set_status(client: MlflowClient, run: _Stored, record: Record) -> None:
    if record.name != run.name:
        client.update_run(run.run_id, name=record.name)
        run.name = record.name
    if record.ended is not None:
        client.set_terminated(run.run_id, record.status, record.ended)
    elif record.status != run.status:
        client.update_run(run.run_id, record.status)
    run.status = record.status


def _version(path: Path) -> tuple[int, int]:
    stat = path.stat()
    return stat.st_size, stat.st_mtime_ns


def _send_files(client: MlflowClient, run_id: str, contents: dict[str, bytes]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        for name, data in contents.items():
            path = Path(folder, name)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
        client.log_artifacts(run_id, folder)


def _chunks(items: Sequence[Any], size: int) -> list[Sequence[Any]]:
    return [items[start : start + size] for start in range(0, len(items), size)]
