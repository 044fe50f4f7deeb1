"""Make a sweep's folder again from what MLflow holds of it, so that it can be reported."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mixbench.experiments.errors import UserError, did_you_mean
from mixbench.experiments.store.files import SCHEMA, dump, read_json
from mixbench.experiments.store.states import RunState
from mixbench.experiments.store.sweep_folder import SweepFolder
from mixbench.experiments.text import first_line, plural
from mixbench.experiments.tracking import local_store
from mixbench.experiments.tracking.outages import StoreUnavailable, in_words
from mixbench.experiments.tracking.parameters import ORDER
from mixbench.experiments.tracking.records import PLANS
from mixbench.experiments.tracking.stored_runs import KIND, PAGE, RUN_KEY, SWEEP_ID

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

_HISTORY = ("epoch", "train/", "validation/", "mix/")
"""What of `metrics.jsonl` reports are made of."""


@dataclass(frozen=True)
class Restored:
    """A sweep as MLflow holds it. notes: what is not there."""

    sweep: SweepFolder
    notes: tuple[str, ...]


def restore(uri: str, into: Path, name: str | None = None) -> Restored:
    """Write the folder of a sweep below `into`, from the runs and artifacts of an MLflow store.

    uri: of the store, or the path of its file. name: of the sweep, which is its experiment; not
    needed where the store has one sweep. Runs that MLflow has above those of the sweep (the sweep,
    its cells) hold nothing of their own. UserError for a store that is not there, holds no sweep
    of mixbench, or several where none is named.
    """
    uri = _existing(uri)
    with in_words(uri):
        client = local_store.connect(uri)
        sweeps = _sweeps(client)
        where = local_store.shown(uri)
        if not sweeps:
            raise UserError(f"MLflow at {where} holds no sweep of mixbench (see `mixbench track`)")
        if name is None and len(sweeps) > 1:
            raise UserError(
                f"MLflow at {where} holds {len(sweeps)} sweeps ({', '.join(sorted(sweeps))}); name "
                "one: mixbench report SWEEP --from mlflow:URI --out DIR"
            )
        if name is not None and name not in sweeps:
            guess = did_you_mean(name, sweeps)
            raise UserError(
                f"MLflow at {where} holds no sweep {name!r}{guess} "
                f"(there are: {', '.join(sorted(sweeps))})"
            )
        name = name or next(iter(sweeps))
        parent = sweeps[name]
        runs = _runs_of(client, parent)
        return _restored(client, name, parent, runs, into / name)


def _existing(uri: str) -> str:
    path = Path(uri.removeprefix("file://").removeprefix("file:"))
    if "://" not in uri or uri.startswith("file:"):
        path = path / local_store.DATABASE if path.is_dir() else path
        uri = f"sqlite:///{path.absolute()}"
    uri = local_store.resolve(Path.cwd(), uri)
    database = local_store.sqlite_path(uri)
    if database is not None and not database.is_file():
        raise UserError(f"--from mlflow: there is no store {str(database)!r}")
    return uri


def _sweeps(client: MlflowClient) -> dict[str, Run]:
    """Return name -> run of the sweep itself, the newest of each experiment."""
    names = {each.experiment_id: each.name for each in client.search_experiments(max_results=PAGE)}
    found: dict[str, Run] = {}
    for run in _pages(client, list(names), f"tags.`{KIND}` = 'sweep'"):
        known = found.setdefault(names[run.info.experiment_id], run)
        if run.info.start_time > known.info.start_time:
            found[names[run.info.experiment_id]] = run
    return found


def _runs_of(client: MlflowClient, parent: Run) -> dict[str, Run]:
    """Return run_key -> run, of the runs of a sweep alone, in the order of its plan."""
    own = parent.data.tags.get(SWEEP_ID, "")
    wanted = f"tags.`{KIND}` = 'run' and tags.`{SWEEP_ID}` = '{own}'"
    runs = _pages(client, [parent.info.experiment_id], wanted)
    placed = sorted(runs, key=lambda run: run.data.tags.get(ORDER, ""))
    return {key: run for run in placed if _is_key(key := run.data.tags.get(RUN_KEY, ""))}


def _pages(client: MlflowClient, experiments: list[str], wanted: str) -> Iterator[Run]:
    token = None
    while experiments:
        page = client.search_runs(
            experiments,
            filter_string=wanted,
            max_results=PAGE,
            order_by=["attributes.start_time ASC"],
            page_token=token,
        )
        yield from page
        token = page.token
        if not token:
            return


def _is_key(key: str) -> bool:
    # It becomes the name of a folder.
    return bool(key) and all(character in "0123456789abcdef" for character in key)


def _restored(
    client: MlflowClient, name: str, parent: Run, runs: Mapping[str, Run], folder: Path
) -> Restored:
    (folder / "runs").mkdir(parents=True)
    _download(client, parent, folder)
    header = read_json(folder / "sweep.json") or {"spec": {"name": name}}
    about = {"schema": SCHEMA, "name": name, "created": parent.info.start_time / 1000}
    (folder / "sweep.json").write_text(dump({**about, **header}))
    rows = []
    for key, run in runs.items():
        path = folder / "runs" / key
        path.mkdir()
        _download(client, run, path)
        config = read_json(path / "config.json")
        if config is None or config.get("run_key") != key:
            raise UserError(
                f"MLflow's run {run.info.run_id} of sweep {name!r} has no config.json: the store "
                "was not written by mixbench, or its artifacts are gone"
            )
        pretraining = {"pretraining": True} if run.data.tags.get("pretraining") else {}
        row = {name: config[name] for name in ("run_key", "cell_key", "config")}
        rows.append(json.dumps({**row, **pretraining}))
        _write_history(client, run, path)
        if run.data.tags.get("state") == RunState.FAILED:
            error = run.data.tags.get("error", "")
            failure = {"error": error, "traceback": "", "time": time.time(), "attempt": 1}
            (path / "failure.json").write_text(dump(failure))
    notes = []
    if not any(PLANS.fullmatch(path.name) for path in folder.iterdir()):
        (folder / "plan.jsonl").write_text("".join(f"{row}\n" for row in rows))
        planned = int(parent.data.tags.get("runs") or 0)
        if planned > len(rows):
            notes.append(f"{plural(planned - len(rows), 'planned run')} not in MLflow: not begun")
    return Restored(SweepFolder.at(folder), tuple(notes))


def _download(client: MlflowClient, run: Run, folder: Path) -> None:
    from mlflow.exceptions import MlflowException

    try:
        client.download_artifacts(run.info.run_id, "", str(folder))
    except (OSError, MlflowException) as error:
        where = local_store.shown(run.info.artifact_uri)
        raise StoreUnavailable(
            f"the artifacts of MLflow's run {run.info.run_id} can't be read at {where}: "
            f"{first_line(error)}"
        ) from None


def _write_history(client: MlflowClient, run: Run, folder: Path) -> None:
    """Write `metrics.jsonl` again: one row per step, as far as reports need it."""
    rows: dict[int, dict[str, Any]] = {}
    for key in run.data.metrics:
        if key.startswith(_HISTORY):
            for point in client.get_metric_history(run.info.run_id, key):
                row = rows.setdefault(point.step, {"step": point.step})
                # The first at a step is the epoch's; what comes later is the result's.
                row.setdefault(key, point.value)
                row.setdefault("time", point.timestamp / 1000)
    known = [rows[step] for step in sorted(rows) if "epoch" in rows[step]]
    (folder / "metrics.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in known))
