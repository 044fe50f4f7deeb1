"""The runs of a sweep as the MLflow store has them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mixbench.experiments.errors import UserError
from mixbench.experiments.store.sweep_folder import SweepFolder
from mixbench.experiments.tracking import local_store
from mixbench.experiments.tracking.records import short_hash

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

KIND, SWEEP_ID, RUN_KEY = "mixbench.kind", "mixbench.sweep_id", "run_key"
PARENT, NOTE = "mlflow.parentRunId", "mlflow.note.content"
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


def sweep_id(sweep: SweepFolder) -> str:
    """Tells this folder from an earlier one of the same name, whose runs in MLflow are not its."""
    return short_hash([sweep.name, sweep.header().get("created")])


def ensure_experiment(client: MlflowClient, sweep: SweepFolder, root: Path, uri: str) -> str:
    """Return the id of the sweep's experiment; create it if there is none."""
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


def find_runs(
    client: MlflowClient, experiment_id: str, sweep_id: str, more: str = ""
) -> dict[str, StoredRun]:
    """run_key -> run of this sweep, "" for the parent, in one paged search."""
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
            key = stored.tags.get("run_key", "")
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


def as_stored(run: Run) -> StoredRun:
    return StoredRun(
        run_id=run.info.run_id,
        name=run.info.run_name or "",
        status=run.info.status,
        # Zero is the protocol's word for none.
        ended=run.info.end_time or None,
        tags=dict(run.data.tags),
        params=dict(run.data.params),
    )
