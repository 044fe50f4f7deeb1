"""Write one run's record into MLflow, in few requests; every write can be repeated."""

from __future__ import annotations

import itertools
import os
import tempfile
from collections.abc import Container, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from mixbench.experiments.store.states import RunState
from mixbench.experiments.text import first_line
from mixbench.experiments.tracking.hashing import short_hash
from mixbench.experiments.tracking.outages import StoreUnavailable
from mixbench.experiments.tracking.records import Point, Record
from mixbench.experiments.tracking.stored_runs import ARTIFACTS, SENT, StoredRun

if TYPE_CHECKING:
    from mlflow import MlflowClient

MAX_METRICS, MAX_PARAMS_OR_TAGS = 800, 100
"""How many of each a request may carry."""

T = TypeVar("T")


def sent(record: Record) -> str:
    finals = short_hash(record.finals) if record.finals else "-"
    measured = (short_hash(points) for points in record.measured)
    return " ".join([str(len(record.rows)), short_hash(record.rows), finals, *measured])


def continues(sent: str | None, record: Record) -> bool:
    """Does the folder still begin with all that was sent?"""
    if sent is None:
        return True
    count, rows, finals, *measured = sent.split(" ")
    if int(count) > len(record.rows) or short_hash(record.rows[: int(count)]) != rows:
        return False
    if not {short_hash(points) for points in record.measured}.issuperset(measured):
        return False
    return finals == "-" or finals == short_hash(record.finals)


def contradicts(run: StoredRun, record: Record) -> bool:
    """Has the store another value of a parameter? It can't be changed there."""
    return any(record.params.get(key, value) != value for key, value in run.params.items())


def delete_dropped(
    client: MlflowClient, stored: dict[str, StoredRun], planned: Container[str]
) -> None:
    """Delete runs in MLflow, where they can be restored, that are no longer asked for.

    One that is asked for again is made anew from its folder.
    """
    for key in [key for key in stored if key and key not in planned]:
        client.delete_run(stored[key].run_id)
        del stored[key]


def log(
    client: MlflowClient,
    run: StoredRun,
    record: Record,
    tags: dict[str, str],
    first_row: int,
) -> None:
    """Parameters, metrics from row `first_row` on, tags and inputs."""
    _drop_failure(client, run, record)
    # Before the metrics, in a separate write: after a kill in between, the tag claims too much,
    # never too little.
    log_batch(client, run, tags={**tags, SENT: sent(record)})
    points = record.points[sum(len(row) for row in record.rows[:first_row]) :]
    log_batch(client, run, record.params, points, record.tags)
    _log_inputs(client, run, record)


def log_batch(
    client: MlflowClient,
    run: StoredRun,
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


def _log_inputs(client: MlflowClient, run: StoredRun, record: Record) -> None:
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


def _drop_failure(client: MlflowClient, run: StoredRun, record: Record) -> None:
    """Take back what an earlier attempt's failure left, and only that."""
    if run.tags.get("state") == RunState.FAILED and record.tags.get("state") != RunState.FAILED:
        if run.tags.pop("error", None) is not None:
            client.delete_tag(run.run_id, "error")


def set_status(client: MlflowClient, run: StoredRun, record: Record) -> None:
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


def log_files(client: MlflowClient, run: StoredRun, record: Record) -> dict[str, str]:
    """Send the artifacts that are not there; the tag that says so, if any were sent."""
    digest = short_hash({name: _version(path) for name, path in record.files.items()})
    if run.tags.get(ARTIFACTS, "").partition(" ")[0] == digest:
        return {}
    contents = {name: path.read_bytes() for name, path in record.files.items()}
    send_files(client, run.run_id, contents)
    return {ARTIFACTS: f"{digest} "}


def _version(path: Path) -> tuple[int, int]:
    stat = path.stat()
    return stat.st_size, stat.st_mtime_ns


def send_files(client: MlflowClient, run_id: str, contents: dict[str, bytes]) -> None:
    from mlflow.exceptions import MlflowException

    if not contents:
        return
    with tempfile.TemporaryDirectory() as folder:
        for name, data in contents.items():
            path = Path(folder, name)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
        try:
            try:
                client.log_artifacts(run_id, folder)
            except PermissionError:
                # MLflow writes into a file that is there and sets its time, which only its owner
                # may do.
                _remove_files_of_others(client, run_id, contents)
                client.log_artifacts(run_id, folder)
        except Exception as error:
            if isinstance(error, MlflowException | OSError):
                raise
            # Artifacts may be kept elsewhere than runs, and come with a library of their own.
            raise StoreUnavailable(f"MLflow's artifacts: {first_line(error)}") from error


def _remove_files_of_others(client: MlflowClient, run_id: str, names: Iterable[str]) -> None:
    """Remove these artifacts where another user wrote them into a folder on this machine."""
    from mlflow.utils.file_utils import local_file_uri_to_path

    folder = Path(local_file_uri_to_path(client.get_run(run_id).info.artifact_uri))
    for path in (folder / name for name in names):
        if path.is_file() and path.stat().st_uid != os.geteuid():
            path.unlink()


def _chunks(items: Sequence[T], size: int) -> list[Sequence[T]]:
    return [items[start : start + size] for start in range(0, len(items), size)]
