"""Bring a SQLite store that was moved or copied, with its artifacts, to the place where it is now.

MLflow keeps the absolute path of every experiment's and run's artifacts. In another place, figures
would be written into the folder that the store was copied from, or could not be opened.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote, urlsplit

from mixbench.experiments.errors import UserError
from mixbench.experiments.tracking import local_store
from mixbench.experiments.tracking.stored_runs import ARTIFACTS as ARTIFACTS_TAG

WAIT_SECONDS = 30.0
_COLUMNS = (
    ("experiments", "artifact_location"),
    ("runs", "artifact_uri"),
    ("logged_models", "artifact_location"),
    ("model_versions", "source"),
    ("model_versions", "storage_location"),
    ("trace_tags", "value"),
)
"""Where MLflow keeps paths of artifacts, those of what users log into the same store included."""


def settle(uri: str) -> str | None:
    """Have a store's artifacts be where the store is; return a line on what changed, if it did.

    For SQLite alone: other stores do not move with the sweeps. In one transaction, so that it
    happens as a whole or not at all, and once where several processes try. UserError where the
    store can't be written.
    """
    database = local_store.sqlite_path(uri)
    if database is None or not database.is_file():
        return None
    here = (database.parent / local_store.ARTIFACTS).as_uri()
    try:
        # Read first, without a lock: nearly always there is nothing to do.
        with contextlib.closing(_open(database)) as store:
            moved = list(_other_places(store, here))
            if not moved:
                return None
            store.execute("BEGIN IMMEDIATE")
            for there in moved:
                _rewrite(store, there, here)
            _send_again(store, here)
            store.commit()
    except sqlite3.Error as error:
        raise UserError(
            f"{database}: was moved or copied here, and the places of its artifacts can't be "
            f"changed to this folder ({error})"
        ) from None
    places = ", ".join(unquote(urlsplit(there).path) for there in moved)
    now = database.parent / local_store.ARTIFACTS
    return f"MLflow's artifacts are in {now} now, no longer in {places}"


def _open(database: Path) -> sqlite3.Connection:
    return sqlite3.connect(
        f"{database.as_uri()}?mode=rw", uri=True, timeout=WAIT_SECONDS, isolation_level=None
    )


def _other_places(store: sqlite3.Connection, here: str) -> Iterator[str]:
    """Yield the folders of artifacts that sweeps' experiments have, and that are not this one.

    Such an experiment's location ends in its name, as mixbench has it; servers make others.
    """
    seen = {here}
    for name, location in store.execute("SELECT name, artifact_location FROM experiments"):
        place, _, last = str(location).rpartition("/")
        is_ours = place.startswith("file://") and place.endswith(f"/{local_store.ARTIFACTS}")
        if is_ours and unquote(last) == name and place not in seen:
            seen.add(place)
            if not _is_same(place, here):
                yield place


def _is_same(there: str, here: str) -> bool:
    """Are these two paths to one folder, as over a link or another mount?"""
    try:
        return os.path.samefile(*(unquote(urlsplit(uri).path) for uri in (there, here)))
    except OSError:
        return False


def _rewrite(store: sqlite3.Connection, there: str, here: str) -> None:
    tables = {name for (name,) in store.execute("SELECT name FROM sqlite_master")}
    for table, column in _COLUMNS:
        if table in tables:
            store.execute(
                f"UPDATE {table} SET {column} = ? || substr({column}, ?) "
                f"WHERE substr({column}, 1, ?) = ?",
                (f"{here}/", len(there) + 2, len(there) + 1, f"{there}/"),
            )


def _send_again(store: sqlite3.Connection, here: str) -> None:
    """Forget that artifacts were sent which did not come along."""
    gone = [
        (run_id, ARTIFACTS_TAG)
        for run_id, artifacts in store.execute("SELECT run_uuid, artifact_uri FROM runs")
        if str(artifacts).startswith(f"{here}/")
        and not os.path.isdir(unquote(urlsplit(artifacts).path))
    ]
    store.executemany("DELETE FROM tags WHERE run_uuid = ? AND key = ?", gone)
