"""Serve MLflow's own page over the local store until Ctrl-C."""

from __future__ import annotations

import contextlib
import importlib.metadata
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from mixbench.experiments.errors import UserError
from mixbench.experiments.signals import interruptible
from mixbench.experiments.store.sweep_folder import SweepFolder
from mixbench.experiments.tracking import local_store, moved_store, view
from mixbench.experiments.tracking.outages import in_words
from mixbench.experiments.tracking.stored_runs import SWEEP_ID, sweep_id

HOST = "127.0.0.1"
START_SECONDS = 90.0
STOP_SECONDS = 10.0
# MLflow opens on its pages for language models unless it is told otherwise.
PAGE = "#/experiments?workflowType=machine_learning"


def _print(line: str) -> None:
    # Flush: the process only waits from here on.
    print(line, flush=True)


def dashboard(
    root: Path,
    port: int = 5000,
    uri: str | None = None,
    say: Callable[[str], object] = _print,
    sweep: SweepFolder | None = None,
) -> None:
    """Serve the store of `root` (or `uri`) on this machine until Ctrl-C; `say` gets the address.

    sweep: give the address of its prepared view. UserError when the port is not free, MLflow does
    not start, or the store does not have the sweep. A store that is a server is its own dashboard:
    its address is said, and nothing is started.
    """
    uri = local_store.resolve(root, uri)
    if local_store.is_served(uri):
        pages = _pages(sweep, uri)
        address = local_store.public(uri).rstrip("/")
        say(f"MLflow dashboard: {address}/{pages.first} (served there already)")
        for line in pages.more:
            say(line.format(address=address))
        return
    _check_port(port)
    local_store.ensure_store(uri)
    moved = moved_store.settle(uri)
    if moved is not None:
        say(moved)
    artifacts = local_store.artifact_root(root, uri)
    pages = _pages(sweep, uri)
    address = f"http://{HOST}:{port}"
    with (
        tempfile.TemporaryFile() as log,
        interruptible() as interrupts,
        _server(uri, artifacts, port, log) as server,
    ):
        try:
            _wait_until_up(server, address, log)
            say(f"MLflow dashboard: {address}/{pages.first} (Ctrl-C ends it)")
            for line in pages.more:
                say(line.format(address=address))
            while server.poll() is None:
                interrupts.check()
                time.sleep(0.2)
        except KeyboardInterrupt:
            return
        raise UserError(f"the MLflow server ended by itself: {_last_line(log)}")


@dataclass(frozen=True)
class _Pages:
    """What to open: the first page, and lines on what else there is, with `{address}` in them."""

    first: str
    more: tuple[str, ...] = ()


def _pages(sweep: SweepFolder | None, uri: str) -> _Pages:
    """Return the pages of a sweep; UserError where the store does not have it."""
    if sweep is None:
        return _Pages(PAGE)
    with in_words(uri):
        return _pages_of(sweep, uri)


def _pages_of(sweep: SweepFolder, uri: str) -> _Pages:
    client = local_store.connect(uri)
    there = client.get_experiment_by_name(sweep.name)
    name, shown = sweep.name, local_store.shown(uri)
    if there is None or there.lifecycle_stage != "active":
        raise UserError(f"{name} is not in MLflow at {shown}; mixbench track {name} copies it")
    number = str(there.experiment_id)
    found = client.search_runs([number], f"tags.`{SWEEP_ID}` = '{sweep_id(sweep)}'", max_results=1)
    if not found:
        raise UserError(
            f"MLflow at {shown} has an experiment {name!r}, but no run of this sweep in it; "
            f"mixbench track {name} copies it"
        )
    if view.PREFIX + view.KEYS["runs"] not in there.tags:
        note = f"no prepared view: an earlier mixbench copied it; mixbench track {name} makes it"
        return _Pages(f"#/experiments/{number}/runs?workflowType=machine_learning", (note,))
    more = [
        f"  the table: {{address}}/{view.page(number, view.KEYS['runs'], 'TABLE')}",
        f"  means of the cells alone: {{address}}/{view.page(number, view.KEYS['cells'], 'CHART')}",
    ]
    return _Pages(
        view.page(number, view.KEYS["runs"], "CHART"), (*more, *view.limits(_version(uri)))
    )


def _version(uri: str) -> str:
    """Return the version of MLflow that serves the page; empty where a server does not say."""
    if not local_store.is_served(uri):
        return importlib.metadata.version("mlflow")
    try:
        with urllib.request.urlopen(f"{uri.rstrip('/')}/version", timeout=5) as answer:
            return str(answer.read(100).decode(errors="replace"))
    except (OSError, ValueError):
        return ""


def _check_port(port: int) -> None:
    if not 1 <= port <= 65535:
        raise UserError(f"--port: got {port}, expected a number from 1 to 65535")
    with socket.socket() as probe:
        # As the server does: a port whose last connections are still closing is free.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except PermissionError:
            raise UserError(
                f"port {port} is reserved for the system; choose another with --port"
            ) from None
        except OSError:
            raise UserError(
                f"port {port} on {HOST} is in use (a dashboard that is open already?); "
                f"choose another with --port, such as --port {_free_port()}"
            ) from None


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def _server(
    uri: str, artifacts: Path, port: int, log: IO[bytes]
) -> Iterator[subprocess.Popen[bytes]]:
    command = [sys.executable, "-P", "-m", "mlflow", "server"]
    command += ["--host", HOST, "--port", str(port), "--workers", "1"]
    command += ["--artifacts-destination", artifacts.as_uri()]
    environment = {
        **local_store.ENVIRONMENT,
        # Nothing here runs MLflow's background jobs; their scheduler costs processes.
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        **os.environ,
        # Not on the command line, which everybody on the machine can read: it may hold a password.
        "MLFLOW_BACKEND_STORE_URI": uri,
    }
    # A session of its own, ended as a whole: MLflow starts further processes, and Ctrl-C on the
    # terminal would reach them before this process has decided anything.
    server = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=subprocess.STDOUT,
        env=environment,
        start_new_session=True,
    )
    try:
        yield server
    finally:
        _stop(server)


def _stop(server: subprocess.Popen[bytes]) -> None:
    for number in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(server.pid, number)
        deadline = time.monotonic() + STOP_SECONDS
        while time.monotonic() < deadline:
            # Reaped here, or its group would seem to live on.
            server.poll()
            try:
                os.killpg(server.pid, 0)
            except ProcessLookupError:
                return
            time.sleep(0.05)


def _wait_until_up(server: subprocess.Popen[bytes], address: str, log: IO[bytes]) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        if server.poll() is not None:
            raise UserError(f"the MLflow server did not start: {_last_line(log)}")
        with contextlib.suppress(OSError):
            urllib.request.urlopen(f"{address}/health", timeout=5).close()
            return
        time.sleep(0.1)
    raise UserError(f"the MLflow server did not answer at {address}: {_last_line(log)}")


def _last_line(log: IO[bytes]) -> str:
    log.seek(0)
    lines = log.read().decode(errors="replace").strip().splitlines()
    return lines[-1] if lines else "it printed nothing"
