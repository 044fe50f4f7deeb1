"""Which MLflow store, where it is, and a quiet client of it."""

from __future__ import annotations

import contextlib
import logging
import os
import sqlite3
from pathlib import Path
from typing import TYPE_CHECKING

from experiments.errors import UserError
from experiments.tracking import lock

if TYPE_CHECKING:
    from mlflow import MlflowClient

DATABASE = "mlflow.db"
ARTIFACTS = "mlartifacts"
SCHEMES = ("sqlite", "http", "https", "postgresql", "mysql", "mssql", "databricks")
CREATION_SECONDS = 180.0

# MLflow's own settings; what the user has set stays.
ENVIRONMENT = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_LOGGING_LEVEL": "WARNING",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    # Minutes of silent retries by default; the projection can be repeated at any time instead.
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "3",
}


def resolve(root: Path, uri: str | None = None) -> str:
    """The tracking URI: `uri`, else `$MLFLOW_TRACKING_URI`, else the SQLite file in `root`.

    A SQLite path comes back absolute. UserError for anything that is not the URI of a store.
    """
    given = uri or os.environ.get("MLFLOW_TRACKING_URI")
    given = given or f"sqlite:///{root.absolute() / DATABASE}"
    scheme = given.partition(":")[0].partition("+")[0]
    if scheme not in SCHEMES or (scheme != "databricks" and "://" not in given):
        raise UserError(
            f"tracking URI: got {given!r}, expected sqlite:///path/mlflow.db, "
            "http://host:port or another database's URI"
        )
    database = sqlite_path(given)
    return given if database is None else f"sqlite:///{database}"


def sqlite_path(uri: str) -> Path | None:
    """The file of a SQLite URI, absolute; None for other stores."""
    if not uri.startswith("sqlite"):
        return None
    path = uri.partition(":///")[2]
    if not path or ":memory:" in path:
        raise UserError(f"tracking URI: got {uri!r}, expected sqlite:/// and the path of a file")
    if "%" in path or "?" in path:
        # MLflow and SQLAlchemy read them differently, and would open two different files.
        raise UserError(f"tracking URI: got {uri!r}, expected a path without % and ?")
    return Path(path).absolute()


def is_served(uri: str) -> bool:
    """Is the store behind a server, which then decides where artifacts are kept?"""
    return uri.startswith(("http://", "https://", "databricks"))


def artifact_root(root: Path, uri: str) -> Path:
    """Where the artifacts of a store without a server are kept: next to it, or else in `root`."""
    database = sqlite_path(uri)
    return (database.parent if database else root.absolute()) / ARTIFACTS


def ensure_store(uri: str) -> None:
    """Create the SQLite store of `uri` where there is none; other stores are left alone.

    Several processes may call this at once. The file appears complete or not at all: processes
    that open a new SQLite store together would make its tables together, and crash.
    """
    database = sqlite_path(uri)
    if database is None or _is_store(database):
        return
    try:
        database.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{database.parent}: {error.strerror}") from None
    place = database.with_name(f"{database.name}.lock")
    with lock.exclusive(place, f"creating {database}", wait=CREATION_SECONDS):
        if not _is_store(database):
            _create(database)


def _is_store(database: Path) -> bool:
    """Is there a store already?  UserError for a file that is something else."""
    if not database.exists() or (database.is_file() and database.stat().st_size == 0):
        return False
    try:
        # MLflow would try a file that it cannot open again and again, for minutes.
        with contextlib.closing(sqlite3.connect(f"{database.as_uri()}?mode=ro", uri=True)) as file:
            file.execute("SELECT version_num FROM alembic_version")
    except sqlite3.Error as error:
        raise UserError(f"{database}: not an MLflow store ({error})") from None
    return True


def _create(database: Path) -> None:
    configure()
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    # Of this name only under the lock: what is there was left by a process that was killed.
    for leftover in database.parent.glob(f".{database.name}.new*"):
        leftover.unlink()
    aside = database.with_name(f".{database.name}.new")
    try:
        # The root given here is that of MLflow's "Default" experiment; sweeps set their own.
        store = SqlAlchemyStore(f"sqlite:///{aside}", (database.parent / ARTIFACTS).as_uri())
        store.engine.dispose()
        os.rename(aside, database)
    finally:
        aside.unlink(missing_ok=True)


def connect(uri: str) -> MlflowClient:
    """A client of the store at `uri`, which is created first where that is needed."""
    ensure_store(uri)
    configure()
    from mlflow import MlflowClient

    return MlflowClient(tracking_uri=uri)


def configure() -> None:
    """Keep MLflow, and what it calls, quiet on the terminal; it is imported after this."""
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    for name in ("mlflow", "alembic"):
        logger = logging.getLogger(name)
        logger.setLevel(max(logger.level, logging.WARNING))
