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
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from mixbench.experiments.errors import UserError
from mixbench.experiments.store.run_folder import PlannedRun, RunFolder
from mixbench.experiments.store.states import RunState
from mixbench.experiments.store.sweep_folder import SweepFolder
from mixbench.experiments.text import first_line
from mixbench.experiments.tracking import local_store, lock
from mixbench.experiments.tracking.changes import Changes, Version, version
from mixbench.experiments.tracking.outages import StoreUnavailable, in_words
from mixbench.experiments.tracking.records import (
    FIGURES,
    Plan,
    Point,
    Record,
    Standing,
    run_record,
    short_hash,
    sweep_record,
    sweep_started,
)

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

Figures = Callable[[RunFolder], dict[str, bytes]]

KIND, SWEEP_ID = "mixbench.kind", "mixbench.sweep_id"
SENT, ARTIFACTS, PROJECTED = "mixbench.sent", "mixbench.artifacts", "mixbench.projected"
PARENT, NOTE = "mlflow.parentRunId", "mlflow.note.content"

MAX_METRICS, MAX_PARAMS_OR_TAGS, PAGE = 800, 100, 1000
TRIES, PAUSE_SECONDS = 3, 1.0
SAY_SECONDS = 20.0


@dataclass
class Summary:
    """What a projection did with each run that has begun.

    `problems` has one line for each figure that could not be drawn; `left` is how many runs were
    not yet dealt with when the time was up.
    """

    experiment: str
    experiment_id: str
    uri: str
    outcomes: dict[str, str] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    left: int = 0

    @property
    def created(self) -> int:
        """Runs that are new in MLflow."""
        return self._count("created")

    @property
    def updated(self) -> int:
        """Runs of which MLflow now knows more."""
        return self._count("updated")

    @property
    def unchanged(self) -> int:
        """Runs of which MLflow knew everything."""
        return self._count("unchanged")

    @property
    def replaced(self) -> int:
        """Runs that were deleted in MLflow and made again."""
        return self._count("replaced")

    def _count(self, outcome: str) -> int:
        return list(self.outcomes.values()).count(outcome)

    def add(self, later: Summary) -> None:
        """What was done after this, by the next call."""
        for key, outcome in later.outcomes.items():
            if outcome != "unchanged" or key not in self.outcomes:
                # What was made in this projection stays new, whatever came on top.
                before = self.outcomes.get(key)
                self.outcomes[key] = before if before in ("created", "replaced") else outcome
        self.problems += later.problems
        self.left = later.left

    def __str__(self) -> str:
        parts = [f"{self.created} new", f"{self.updated} updated", f"{self.unchanged} unchanged"]
        if self.replaced:
            parts.append(f"{self.replaced} made again")
        return (
            f"{len(self.outcomes)} runs in MLflow experiment {self.experiment!r} "
            f"({', '.join(parts)})"
        )


@dataclass
class _Stored:
    """A run as the store has it: as much as is needed to tell what is missing."""

    run_id: str
    name: str
    status: str
    ended: int | None
    tags: dict[str, str]
    params: set[str]


def project(
    sweep: SweepFolder,
    uri: str | None = None,
    figures: Figures | None = None,
    say: Callable[[str], object] | None = None,
) -> Summary:
    """Bring MLflow up to the sweep's folder; twice is the same as once.

    uri: the tracking URI; default `$MLFLOW_TRACKING_URI`, else SQLite next to the sweep's folder.
    figures: draws the PNGs of a finished run, name -> bytes; a run whose figures fail goes without.
    say: gets a line now and then while it takes long.
    UserError when the sweep is being projected already, or the store refuses or does not answer.
    """
    with Projector(sweep, uri, figures) as projector:
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
        self, sweep: SweepFolder, uri: str | None = None, figures: Figures | None = None
    ) -> None:
        self.uri = local_store.resolve(sweep.path.parent, uri)
        self._sweep = sweep
        self._root = sweep.path.parent
        self._sweep_id = sweep_id(sweep)
        self._figures = figures
        self._held = contextlib.ExitStack()
        self._client: MlflowClient | None = None
        self._experiment_id = ""
        self._stored: dict[str, _Stored] | None = None
        self._doubtful: set[str] = set()
        self._changes = Changes()
        self._standing: dict[str, tuple[str, int | None]] = {}
        self._undrawn: dict[str, PlannedRun] = {}
        self._plan: tuple[Version, Plan] | None = None

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
        self._stored = None
        self._changes = Changes()

    def reconnected(self) -> None:
        """The store was away: everything is looked at again unless it is plainly the same."""
        with in_words(self.uri):
            if self._client is None or self._stored is None:
                return
            there = self._client.get_experiment_by_name(self._sweep.name)
            if there is None or str(there.experiment_id) != self._experiment_id:
                self.forget()

    def standing(self) -> Standing:
        """How the runs stand, as of the last update."""
        return Standing.of(self._standing.values())

    @property
    def planned(self) -> int:
        """How many runs the sweep has."""
        return len(self._known_plan().runs)

    def _known_plan(self) -> Plan:
        # Ten thousand configurations are read once.
        place = self._sweep.path / "plan.jsonl"
        stat = place.stat()
        now = (stat.st_mtime_ns, stat.st_size, stat.st_ino)
        if self._plan is None or self._plan[0] != now:
            self._plan = now, Plan(self._sweep.plan())
        return self._plan[1]

    def _update(self, ends: float | None, working: bool) -> Summary:
        client, stored = self._open()
        plan = self._known_plan()
        summary = Summary(self._sweep.name, self._experiment_id, self.uri)
        begun = self._sweep.begun()
        # The parent is there before its children, and is completed after them: a sweep that
        # MLflow shows as finished has all its runs.
        parent_id = self._parent(client, stored)
        child_tags = {KIND: "run", PARENT: parent_id}
        changed = self._changes.of(run for run in plan.runs if run.run_key in begun)
        # Those that go on first: somebody may be watching them.
        changed.sort(key=lambda run: (run.folder.path / "result.json").exists())
        for place, run in enumerate(changed):
            if _is_over(ends) and place:
                summary.left = len(changed) - place
                return summary
            self._project_run(client, stored, plan, run, child_tags, summary)
        for key in self._standing.keys() - summary.outcomes.keys():
            summary.outcomes[key] = "unchanged"
        self._close_vanished(client, stored, begun)
        self._draw(client, stored, plan, summary, ends)
        record = sweep_record(self._sweep, plan, self.standing(), working)
        self._write(client, stored, record, {**self._identity(""), KIND: "sweep"})
        return summary

    def _open(self) -> tuple[MlflowClient, dict[str, _Stored]]:
        if self._client is None or self._stored is None:
            self._client = local_store.connect(self.uri)
            self._experiment_id = _experiment(self._client, self._sweep, self._root, self.uri)
            self._stored = _stored_runs(self._client, self._experiment_id, self._sweep_id)
            self._doubtful.clear()
        return self._client, self._stored

    def _identity(self, key: str) -> dict[str, str]:
        return {SWEEP_ID: self._sweep_id, **({"run_key": key} if key else {})}

    def _parent(self, client: MlflowClient, stored: dict[str, _Stored]) -> str:
        """The id of the sweep's own run, made if there is none."""
        name = self._sweep.name
        parent = Record("", name, "RUNNING", {}, {}, sweep_started(self._sweep), None)
        tags = {**self._identity(""), KIND: "sweep"}
        with self._doubting(""):
            return self._existing(client, stored, parent, tags).run_id

    def _project_run(
        self,
        client: MlflowClient,
        stored: dict[str, _Stored],
        plan: Plan,
        run: PlannedRun,
        child_tags: dict[str, str],
        summary: Summary,
    ) -> None:
        key = run.run_key
        before = version(run.folder.path)
        try:
            record = run_record(plan, run, self._sweep.name)
            if record is None:
                self._standing.pop(key, None)
            else:
                outcome = self._write(client, stored, record, {**self._identity(key), **child_tags})
                summary.outcomes[key] = outcome
                self._standing[key] = record.status, record.ended
        except FileNotFoundError:
            # Taken away while it was read: looked at again the next time.
            return
        if record is not None and self._lacks_figures(stored[key], record):
            self._undrawn[key] = run
        else:
            self._undrawn.pop(key, None)
        self._changes.read(run, before, running=record is not None and record.status == "RUNNING")

    def _write(
        self,
        client: MlflowClient,
        stored: dict[str, _Stored],
        record: Record,
        own_tags: dict[str, str],
    ) -> str:
        """Make the store's run equal to the record; the word that counts it in a `Summary`."""
        with self._doubting(record.key):
            outcome = "updated" if record.key in stored else "created"
            run = self._existing(client, stored, record, own_tags)
            if not _continues(run.tags.get(SENT), record):
                client.delete_run(stored.pop(record.key).run_id)
                run = self._existing(client, stored, record, own_tags)
                outcome = "replaced"
            digest = short_hash([record.digest, own_tags])
            rows, _, known = run.tags.get(PROJECTED, "0 ").partition(" ")
            changed = known != digest or (run.status, run.ended) != (record.status, record.ended)
            done = _log_files(client, run, record)
            if changed:
                # What is sent is on record as soon as may be: with a server that fails at every
                # tenth request one still gets ahead.
                _log(client, run, record, {**own_tags, **done}, first_row=int(rows))
                _set_status(client, run, record)
                done[PROJECTED] = f"{len(record.rows)} {digest}"
            _log_batch(client, run, tags=done)
        return outcome if done or outcome == "created" else "unchanged"

    @contextlib.contextmanager
    def _doubting(self, key: str) -> Iterator[None]:
        """What the store has of the run is unsure when the block fails: an answer may be lost."""
        try:
            yield
        except BaseException:
            self._doubtful.add(key)
            raise

    def _existing(
        self,
        client: MlflowClient,
        stored: dict[str, _Stored],
        record: Record,
        own_tags: dict[str, str],
    ) -> _Stored:
        """The store's run for the record, made if there is none."""
        key = record.key
        if key in self._doubtful:
            stored.pop(key, None)
            which = f"tags.run_key = '{key}'" if key else f"tags.`{KIND}` = 'sweep'"
            found = _stored_runs(client, self._experiment_id, self._sweep_id, f" and {which}")
            if key in found:
                stored[key] = found[key]
            self._doubtful.discard(key)
        if key not in stored:
            tags = {**own_tags, SENT: _sent(record)}
            run = client.create_run(
                self._experiment_id, start_time=record.started, tags=tags, run_name=record.name
            )
            stored[key] = _as_stored(run)
        return stored[key]

    def _lacks_figures(self, run: _Stored, record: Record) -> bool:
        drawn = run.tags.get(ARTIFACTS, "").endswith(f" {FIGURES}")
        return self._figures is not None and record.folder is not None and not drawn

    def _draw(
        self,
        client: MlflowClient,
        stored: dict[str, _Stored],
        plan: Plan,
        summary: Summary,
        ends: float | None,
    ) -> None:
        """Draw and send the figures that are not there."""
        for key, run in list(self._undrawn.items()):
            if self._figures is None:
                return
            if _is_over(ends):
                summary.left = len(self._undrawn)
                return
            try:
                figures = self._figures(run.folder)
            except Exception as error:  # a figure is not worth the other runs
                # Not tried again before the run changes, or by the next process.
                del self._undrawn[key]
                summary.problems.append(
                    f"{plan.name(key)}: no figures, {type(error).__name__}: {error}"
                )
                continue
            with self._doubting(key):
                there = stored[key]
                _send_files(
                    client,
                    there.run_id,
                    {f"{FIGURES}/{name}": data for name, data in figures.items()},
                )
                if figures:
                    files = there.tags.get(ARTIFACTS, "").partition(" ")[0]
                    _log_batch(client, there, tags={ARTIFACTS: f"{files} {FIGURES}"})
            del self._undrawn[key]
            if summary.outcomes.get(key) == "unchanged" and figures:
                summary.outcomes[key] = "updated"

    def _close_vanished(
        self, client: MlflowClient, stored: dict[str, _Stored], begun: set[str]
    ) -> None:
        """A run whose folder was taken away is nobody's any more: it must not stay RUNNING."""
        for key, run in stored.items():
            if key and key not in begun and run.status == "RUNNING":
                with self._doubting(key):
                    client.set_terminated(run.run_id, "KILLED")
                    run.status = "KILLED"
            if key and key not in begun:
                self._standing.pop(key, None)


def sweep_id(sweep: SweepFolder) -> str:
    """Tells this folder from an earlier one of the same name, whose runs in MLflow are not its."""
    return short_hash([sweep.name, sweep.header().get("created")])


def _is_over(ends: float | None) -> bool:
    return ends is not None and time.monotonic() > ends


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
        number, shown = there.experiment_id, local_store.shown(uri)
        raise UserError(
            f"experiment {sweep.name!r} was deleted in MLflow at {shown}; get it back with "
            f"`mlflow experiments restore -x {number}` or remove it for good with "
            f"`mlflow gc --experiment-ids {number}` (MLFLOW_TRACKING_URI={shown})"
        )
    return str(there.experiment_id)


def _stored_runs(
    client: MlflowClient, experiment_id: str, sweep_id: str, more: str = ""
) -> dict[str, _Stored]:
    """run_key -> run of this sweep, "" for the parent, in one paged search."""
    found: dict[str, _Stored] = {}
    twins: list[str] = []
    token = None
    while True:
        page = client.search_runs(
            [experiment_id],
            filter_string=f"tags.`{SWEEP_ID}` = '{sweep_id}'{more}",
            max_results=PAGE,
            order_by=["attributes.start_time ASC"],
            page_token=token,
        )
        for run in page:
            stored = _as_stored(run)
            key = stored.tags.get("run_key", "")
            first = found.setdefault(key, stored)
            if first is not stored:
                # Two for one key: a request that was answered with an error and took effect.
                if PROJECTED in stored.tags and PROJECTED not in first.tags:
                    found[key], stored = stored, first
                twins.append(stored.run_id)
        token = page.token
        if not token:
            break
    # Not before the last page: what is deleted would shift those to come.
    for run_id in twins:
        client.delete_run(run_id)
    return found


def _as_stored(run: Run) -> _Stored:
    return _Stored(
        run_id=run.info.run_id,
        name=run.info.run_name or "",
        status=run.info.status,
        # Zero is the protocol's word for none.
        ended=run.info.end_time or None,
        tags=dict(run.data.tags),
        params=set(run.data.params),
    )


def _sent(record: Record) -> str:
    finals = short_hash(record.finals) if record.finals else "-"
    measured = (short_hash(points) for points in record.measured)
    return " ".join([str(len(record.rows)), short_hash(record.rows), finals, *measured])


def _continues(sent: str | None, record: Record) -> bool:
    """Is all that was sent still what the folder says?"""
    if sent is None:
        return True
    count, rows, finals, *measured = sent.split(" ")
    if int(count) > len(record.rows) or short_hash(record.rows[: int(count)]) != rows:
        return False
    if not {short_hash(points) for points in record.measured}.issuperset(measured):
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
    _log_batch(client, run, tags={**own_tags, SENT: _sent(record)})
    points = record.points[sum(len(row) for row in record.rows[:first_row]) :]
    _log_batch(client, run, record.params, points, record.tags)
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
    if run.tags.get("state") == RunState.FAILED and record.tags.get("state") != RunState.FAILED:
        for key in ("error", NOTE):
            if run.tags.pop(key, None) is not None:
                client.delete_tag(run.run_id, key)


def _set_status(client: MlflowClient, run: _Stored, record: Record) -> None:
    if record.name != run.name:
        client.update_run(run.run_id, name=record.name)
        run.name = record.name
    if record.ended is not None:
        if (run.status, run.ended) != (record.status, record.ended):
            client.set_terminated(run.run_id, record.status, record.ended)
    elif run.ended is not None:
        _reopen(client, run.run_id, record.status)
    elif record.status != run.status:
        client.update_run(run.run_id, record.status)
    run.status, run.ended = record.status, record.ended


def _reopen(client: MlflowClient, run_id: str, status: str) -> None:
    """Give an ended run a status without an end: somebody works on it again."""
    from mlflow.entities import RunStatus

    # The client's own method has no way to take an end back; in the protocol zero means none.
    store = client._tracking_client.store
    store.update_run_info(run_id, RunStatus.from_string(status), end_time=0, run_name=None)


def _log_files(client: MlflowClient, run: _Stored, record: Record) -> dict[str, str]:
    """Send the artifacts that are not there; the tag that says so, if any were sent."""
    digest = short_hash({name: _version(path) for name, path in record.files.items()})
    if run.tags.get(ARTIFACTS, "").partition(" ")[0] == digest:
        return {}
    contents = {name: path.read_bytes() for name, path in record.files.items()}
    _send_files(client, run.run_id, contents)
    return {ARTIFACTS: f"{digest} "}


def _version(path: Path) -> tuple[int, int]:
    stat = path.stat()
    return stat.st_size, stat.st_mtime_ns


def _send_files(client: MlflowClient, run_id: str, contents: dict[str, bytes]) -> None:
    from mlflow.exceptions import MlflowException

    if not contents:
        return
    with tempfile.TemporaryDirectory() as folder:
        for name, data in contents.items():
            path = Path(folder, name)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
        try:
            client.log_artifacts(run_id, folder)
        except Exception as error:
            if isinstance(error, MlflowException | OSError):
                raise
            # Artifacts may be kept elsewhere than runs, and come with a library of their own.
            raise StoreUnavailable(f"MLflow's artifacts: {first_line(error)}") from error


def _chunks(items: Sequence[Any], size: int) -> list[Sequence[Any]]:
    return [items[start : start + size] for start in range(0, len(items), size)]
