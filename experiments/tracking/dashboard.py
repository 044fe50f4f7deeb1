"""Serve MLflow's own page over the local store until Ctrl-C."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

from mixbench.experiments.errors import UserError
from mixbench.experiments.signals import interruptible
from mixbench.experiments.tracking import local_store, moved_store

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
) -> None:
    """Serve the store of `root` (or `uri`) on this machine until Ctrl-C; `say` gets the address.

    UserError when the port is not free or MLflow does not start. A store that is a server is its
    own dashboard: its address is said, and nothing is started.
    """
    uri = local_store.resolve(root, uri)
    if local_store.is_served(uri):
        address = local_store.shown(uri).replace("//***@", "//").rstrip("/")
        say(f"MLflow dashboard: {address}/{PAGE} (served there already)")
        return
    _check_port(port)
    local_store.ensure_store(uri)
    moved = moved_store.settle(uri)
    if moved is not None:
        say(moved)
    artifacts = local_store.artifact_root(root, uri)
    address = f"http://{HOST}:{port}"
    with (
        tempfile.TemporaryFile() as log,
        interruptible() as interrupts,
        _server(uri, artifacts, port, log) as server,
    ):
        try:
            _wait_until_up(server, address, log)
            say(f"MLflow dashboard: {address}/{PAGE} (Ctrl-C ends it)")
            while server.poll() is None:
                interrupts.check()
                time.sleep(0.2)
        except KeyboardInterrupt:
            return
        raise UserError(f"the MLflow server ended by itself: {_last_line(log)}")


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
