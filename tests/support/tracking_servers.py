"""A real MLflow server that can be killed and started again, and a proxy that can misbehave."""

from __future__ import annotations

import base64
import contextlib
import http.client
import itertools
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

FAULTS = ("500", "503", "hang", "hang halfway", "drop", "refuse", "late")


def free_port() -> int:
    """A port of this machine that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class MlflowServer:
    """`mlflow server` over `folder`/mlflow.db, always on the same port."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = free_port()
        self.address = f"http://127.0.0.1:{self.port}"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, and wait until it answers."""
        command = [sys.executable, "-P", "-m", "mlflow", "server", "--workers", "1"]
        command += ["--host", "127.0.0.1", "--port", str(self.port)]
        command += ["--backend-store-uri", f"sqlite:///{self.folder / 'mlflow.db'}"]
        command += ["--artifacts-destination", (self.folder / "mlartifacts").as_uri()]
        quiet = {"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
        with (self.folder / "server.log").open("ab") as log:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**os.environ, **quiet},
                start_new_session=True,
            )
        limit = time.monotonic() + 300
        while True:
            with contextlib.suppress(OSError):
                urllib.request.urlopen(f"{self.address}/health", timeout=5).close()
                return
            assert self._process.poll() is None, (self.folder / "server.log").read_text()
            assert time.monotonic() < limit
            time.sleep(0.1)

    def kill(self) -> None:
        """SIGKILL to it and all that it started."""
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._process = None


class Proxy:
    """Passes requests on to a server, unless it is told otherwise.

    fault: what becomes of every request. "500" and "503" answer so; "hang" never answers, "hang
    halfway" stops in the middle of the answer; "refuse" closes the connection; "drop" passes the
    request on and closes the connection without the answer; "late" does so after the client has
    given up. None passes on.
    every: so many requests, or None; the last of them has a fault, one kind after the other.
    closed: the beginning of the paths that are answered with 404.
    accept: the values of the header Authorization that are let in; others get `refusal`.
    """

    def __init__(self, upstream: int) -> None:
        self.fault: str | None = None
        self.every: int | None = None
        self.faults: Iterator[str] = itertools.cycle(FAULTS)
        self._count = 0
        self._counting = threading.Lock()
        self.accept: set[str] | None = None
        self.refusal = (401, b"")
        self.closed: str | None = None
        self.seen: Counter[str] = Counter()
        self.late_seconds = 1.5
        self._open = threading.Event()
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def _handle(self) -> None:
                proxy._serve(self, upstream)

            do_GET = do_POST = do_PUT = do_DELETE = do_PATCH = _handle

            def log_message(self, *_: Any) -> None:
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads = True
            block_on_close = False

            def handle_error(self, *_: Any) -> None:
                """A client that went away is no news."""

        self._server = Server(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def close(self) -> None:
        """Stop listening, and let go of those that hang."""
        self._open.set()
        self._server.shutdown()
        self._server.server_close()

    def _fault(self) -> str | None:
        with self._counting:
            self._count += 1
            if self.every is not None and self._count % self.every == 0:
                return next(self.faults)
            return self.fault

    def _serve(self, request: BaseHTTPRequestHandler, upstream: int) -> None:
        body = request.rfile.read(int(request.headers.get("Content-Length") or 0))
        if self.accept is not None and request.headers.get("Authorization") not in self.accept:
            self._answer(request, *self.refusal)
            return
        if self.closed is not None and request.path.startswith(self.closed):
            self.seen["closed"] += 1
            self._answer(request, 404, b"<html>not found</html>")
            return
        fault = self._fault()
        self.seen[fault or "passed"] += 1
        if fault in ("500", "503"):
            self._answer(request, int(fault), b"<html>out of order</html>")
            return
        if fault == "refuse":
            request.close_connection = True
            return
        if fault == "hang":
            self._open.wait(300)
            request.close_connection = True
            return
        if fault == "late":
            self._open.wait(self.late_seconds)
        try:
            connection = http.client.HTTPConnection("127.0.0.1", upstream, timeout=300)
            headers = {k: v for k, v in request.headers.items() if k.lower() != "host"}
            connection.request(request.command, request.path, body, headers)
            answer = connection.getresponse()
            data = answer.read()
        except OSError:
            self._answer(request, 502, b"<html>bad gateway</html>")
            return
        finally:
            connection.close()
        if fault in ("drop", "late"):
            request.close_connection = True
            return
        kind = answer.headers.get("Content-Type") or "application/json"
        if fault == "hang halfway":
            self._answer(request, answer.status, data, kind, cut=len(data) // 2)
            self._open.wait(300)
            request.close_connection = True
            return
        self._answer(request, answer.status, data, kind)

    @staticmethod
    def _answer(
        request: BaseHTTPRequestHandler,
        status: int,
        body: bytes,
        kind: str = "text/html",
        cut: int | None = None,
    ) -> None:
        request.send_response(status)
        request.send_header("Content-Type", kind)
        request.send_header("Content-Length", str(len(body)))
        request.end_headers()
        request.wfile.write(body[:cut])
        request.wfile.flush()


@contextlib.contextmanager
def proxy_of(server: MlflowServer) -> Iterator[Proxy]:
    """A proxy before the server, gone after the block."""
    proxy = Proxy(server.port)
    try:
        yield proxy
    finally:
        proxy.close()


def basic(name: str, password: str) -> str:
    """The header of a name and a password."""
    return "Basic " + base64.b64encode(f"{name}:{password}".encode()).decode()
