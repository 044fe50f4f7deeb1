"""The runs of a sweep as the MLflow store has them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mixbench.experiments.errors import UserError
from mixbench.experiments.store.sweep_folder import SweepFolder
from mixbench.experiments.tracking import local_store
from mixbench.experiments.tracking.hashing import short_hash

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Experiment, Run

KIND, SWEEP_ID, RUN_KEY = "mixbench.kind", "mixbench.sweep_id", "run_key"
CELL_KEY, CELL = "cell_key", "cell:"
"""The tag of the cell's key, which its runs have too; and what sets it apart from a run's key."""
PARENT, NOTE = "mlflow.parentRunId", "mlflow.note.content"
NOTE_HASH, COLOUR = "mixbench.note", "mlflow.runColor"
SENT, ARTIFACTS, PROJECTED = "mixbench.sent", "mixbench.artifacts", "mixbench.projected"
"""Tags in which a run says what of it was sent; `projector` explains them."""
PAGE = 1000


@dataclass
class StoredRun:
    """A run as the store has it: as much as is needed to tell what is missing."""

    run_id: str
    name: str
    status: str
    ended: int | None
    tags: dict[str, str]
    params: dict[str, str]
    metrics: dict[str, float]
    """Of a cell's run alone; empty for the others."""


def sweep_id(sweep: SweepFolder) -> str:
    """Tells this folder from an earlier one of the same name, whose runs in MLflow are not its."""
    return short_hash([sweep.name, sweep.header().get("created")])


def ensure_experiment(client: MlflowClient, sweep: SweepFolder, root: Path, uri: str) -> Experiment:
    """Return the sweep's experiment; create it if there is none."""
    there = client.get_experiment_by_name(sweep.name)
    if there is None:
        location = None
        if not local_store.is_served(uri):
            location = (local_store.artifact_root(root, uri) / sweep.name).as_uri()
        # Without its kind, MLflow's page asks for it, or takes the experiment for a chat bot's.
        tags = {"mlflow.experimentKind": "custom_model_development"}
        if sweep.description:
            tags[NOTE] = sweep.description
        number = client.create_experiment(sweep.name, artifact_location=location, tags=tags)
        return client.get_experiment(number)
    if there.lifecycle_stage != "active":
        number, shown = there.experiment_id, local_store.shown(uri)
        raise UserError(
            f"experiment {sweep.name!r} was deleted in MLflow at {shown}; get it back with "
            f"`mlflow experiments restore -x {number}` or remove it for good with "
            f"`mlflow gc --experiment-ids {number}` (MLFLOW_TRACKING_URI={shown})"
        )
    return there


def find_runs(
    client: MlflowClient, experiment_id: str, sweep_id: str, more: str = ""
) -> dict[str, StoredRun]:
    """run_key -> run of this sweep, "" for its own, "cell:KEY" for a cell's; one paged search."""
    runs: dict[str, StoredRun] = {}
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
            stored = as_stored(run)
            key = key_of(stored.tags)
            first = runs.setdefault(key, stored)
            if first is not stored:
                # Two for one key: a request that took effect and was answered with an error.
                if PROJECTED in stored.tags and PROJECTED not in first.tags:
                    runs[key], stored = stored, first
                twins.append(stored.run_id)
        token = page.token
        if not token:
            break
    # Not before the last page: what is deleted would shift those to come.
    for run_id in twins:
        client.delete_run(run_id)
    return runs


def key_of(tags: Mapping[str, str]) -> str:
    """Return the key of a run of this sweep by its tags, as `find_runs` has it."""
    if tags.get(KIND) == "cell":
        return CELL + tags.get(CELL_KEY, "")
    return tags.get(RUN_KEY, "")


def as_stored(run: Run) -> StoredRun:
    tags = dict(run.data.tags)
    return StoredRun(
        run_id=run.info.run_id,
        name=run.info.run_name or "",
        status=run.info.status,
        # Zero is the protocol's word for none.
        ended=run.info.end_time or None,
        tags=tags,
        params=dict(run.data.params),
        metrics=dict(run.data.metrics) if tags.get(KIND) == "cell" else {},
    )
