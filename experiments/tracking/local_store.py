"""Which MLflow store, where it is, and a quiet client of it that cannot hang for ever."""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import re
import sqlite3
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from mixbench.experiments.errors import UserError
from mixbench.experiments.store import lock, rights

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
    # Seconds without a byte from the server, then the request has failed.
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "60",
}
TIMEOUT = "MLFLOW_HTTP_REQUEST_TIMEOUT"
TOKEN, USERNAME, PASSWORD = (
    "MLFLOW_TRACKING_TOKEN",
    "MLFLOW_TRACKING_USERNAME",
    "MLFLOW_TRACKING_PASSWORD",
)
_USER_INFO = re.compile(r"//([^/?#]*)@")


def resolve(root: Path, uri: str | None = None) -> str:
    """The tracking URI: `uri`, else `$MLFLOW_TRACKING_URI`, else the SQLite file in `root`.

    A SQLite path comes back absolute. UserError for anything that is not the URI of a store.
    """
    given = uri or os.environ.get("MLFLOW_TRACKING_URI")
    given = given or f"sqlite:///{root.absolute() / DATABASE}"
    scheme = given.partition(":")[0].partition("+")[0]
    known = scheme in SCHEMES and (scheme == "databricks" or "://" in given)
    if not known or (scheme in ("http", "https") and not _has_host(given)):
        raise UserError(
            f"tracking URI: got {shown(given)!r}, expected sqlite:///path/mlflow.db, "
            "http://host:port or another database's URI"
        )
    database = sqlite_path(given)
    return given if database is None else f"sqlite:///{database}"


def _has_host(uri: str) -> bool:
    try:
        parts = urlsplit(uri)
        return bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False


def shown(uri: str) -> str:
    """The URI as it may be printed and kept: without a user's name, password or query."""
    return _USER_INFO.sub("//***@", uri).partition("?")[0]


def public(uri: str) -> str:
    """The URI as it may be kept and opened by others; the address of a server works as it is."""
    return shown(uri).replace("//***@", "//") if is_served(uri) else shown(uri)


def without_secrets(text: str, uri: str) -> str:
    """`text`, such as an error's, with what is secret in `uri` and the environment struck out."""
    secrets = {os.environ.get(name) or "" for name in (TOKEN, PASSWORD)}
    for info in _USER_INFO.findall(uri):
        secrets |= {info, info.partition(":")[2], unquote(info.partition(":")[2])}
    query = uri.partition("?")[2]
    secrets |= {query, *(part.partition("=")[2] for part in query.split("&"))}
    for secret in sorted(filter(None, secrets), key=len, reverse=True):
        text = text.replace(secret, "***")
    return text


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


def check_writable(root: Path, uri: str) -> None:
    """Raise UserError where the SQLite store of `uri` is there and this user can't write to it."""
    database = sqlite_path(uri)
    if database is None or not database.exists():
        return
    try:
        # SQLite keeps its journal beside the file.
        rights.check_writable(database, database.parent, artifact_root(root, uri))
    except OSError as error:
        if not rights.is_write_refusal(error):
            raise
        raise _refusal(error, database) from None


def _refusal(error: OSError, database: Path) -> UserError:
    return UserError(
        f"MLflow store: {rights.describe(error, database)}; or keep one of your own: "
        "--uri sqlite:////path/mlflow.db"
    )


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
        if rights.is_write_refusal(error):
            raise _refusal(error, database) from None
        raise UserError(f"{database.parent}: {error.strerror}") from None
    lock_file = database.with_name(f"{database.name}.lock")
    with lock.exclusive(lock_file, f"creating {database}", wait=CREATION_SECONDS):
        if not _is_store(database):
            _create(database)


def _is_store(database: Path) -> bool:
    """Is there a store already?  UserError for a file that is something else."""
    if not database.exists() or (database.is_file() and database.stat().st_size == 0):
        return False
    if not os.access(database, os.R_OK):
        raise _refusal(PermissionError(errno.EACCES, "Permission denied", str(database)), database)
    try:
        # MLflow would try a file that it cannot open again and again, for minutes. Writable, so
        # that SQLite can take back what a process that was killed left half written.
        with contextlib.closing(sqlite3.connect(f"{database.as_uri()}?mode=rw", uri=True)) as file:
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
        # SQLite would make it for its user alone to write; this way, folder and umask decide.
        aside.touch()
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

    try:
        return MlflowClient(tracking_uri=uri)
    except ModuleNotFoundError as error:
        raise UserError(
            f"MLflow at {shown(uri)} needs the Python package {error.name!r}: pip install it"
        ) from None


def configure() -> None:
    """Keep MLflow, and what it calls, quiet on the terminal; it is imported after this.

    UserError for a timeout that is none.
    """
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    # MLflow repeats a request whose answer was lost as it stands, and so makes a run twice. What
    # failed is repeated here, after a look at what came of it.
    os.environ["MLFLOW_HTTP_REQUEST_MAX_RETRIES"] = "0"
    timeout = os.environ[TIMEOUT]
    if not timeout.isdecimal() or int(timeout) < 1:
        raise UserError(f"{TIMEOUT}: got {timeout!r}, expected whole seconds, 1 or more")
    for name in ("mlflow", "alembic", "sqlalchemy", "urllib3"):
        logger = logging.getLogger(name)
        # Whatever goes wrong comes as an exception too, and is then said in one line.
        logger.setLevel(max(logger.level, logging.CRITICAL))
