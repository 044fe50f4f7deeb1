"""Try on this machine what the batch script of a profile does before its task begins."""

from __future__ import annotations

import contextlib
import os
import shlex
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

from mixbench.experiments.errors import UserError
from mixbench.experiments.text import plural
from mixbench.slurm.profile import Profile
from mixbench.slurm.script import setup_lines

SECONDS = 120.0
"""How long the lines of `setup` may take here."""

_MARK = "mixbench: the task would begin here"
_LOOK = (
    "import platform, importlib.util as u; import mixbench.slurm.task; "
    "u.find_spec('torch') or exit('there is no torch'); print(platform.python_version())"
)


def check(profile: Profile) -> list[str]:
    """Run the lines of `setup`, and look whether the tasks' Python can import mixbench.

    Returns lines for the user. UserError for the first thing that fails. In a container only the
    lines of `setup` are tried.
    """
    host = os.uname().nodename
    python = [] if profile.container else shlex.split(profile.python or "") or [sys.executable]
    if python and os.path.isabs(python[0]) and not os.access(python[0], os.X_OK):
        what = "can't be run" if Path(python[0]).exists() else "does not exist"
        raise UserError(f"profile {profile.name}: python: {python[0]!r} {what} on {host}")
    status, output = _run(profile, python)
    before, reached, after = output.partition(_MARK + "\n")
    if not reached:
        raise UserError(
            f"profile {profile.name}: {_last(before, 2) or f'setup: exit status {status}'} (tried "
            f"on {host})"
        )
    lines = []
    if profile.setup:
        lines.append(f"setup: {plural(len(profile.setup), 'line')} run without an error on {host}")
    if not python:
        return [*lines, f"container: {profile.container} was not tried"]
    if status:
        raise UserError(
            f"profile {profile.name}: {shlex.join(python)} can't run a task on {host}: "
            f"{_last(after) or f'exit status {status}'}"
        )
    return [*lines, f"python: {shlex.join(python)} ({_last(after)}) can run a task on {host}"]


def _run(profile: Profile, python: list[str]) -> tuple[int, str]:
    """Run the script's part before the task; return its exit status and what it printed."""
    root = Path(__file__).resolve().parents[1]
    text = "\n".join(
        [
            "#!/bin/bash",
            *setup_lines(profile),
            f"export PYTHONPATH={shlex.quote(str(root))}${{PYTHONPATH:+:$PYTHONPATH}}",
            f"echo {shlex.quote(_MARK)}",
            shlex.join(["exec", *python, "-P", "-c", _LOOK]) if python else "exit 0",
        ]
    )
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith("SBATCH_")
    }
    with tempfile.TemporaryDirectory() as folder:
        # A file, because the script looks its own lines up.
        script, output = Path(folder) / "setup.sh", Path(folder) / "output"
        script.write_text(text + "\n")
        with output.open("wb") as file:
            process = subprocess.Popen(
                ["bash", str(script)],
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                env=environment,
                start_new_session=True,
            )
            try:
                status = process.wait(SECONDS)
            except subprocess.TimeoutExpired:
                status = None
            finally:
                _kill_group(process)
        if status is None:
            raise UserError(
                f"profile {profile.name}: setup: still not done after {SECONDS:.0f} s on "
                f"{os.uname().nodename}"
            )
        return status, output.read_text(errors="replace").replace(f"{script}: ", "")


def _kill_group(process: subprocess.Popen[bytes]) -> None:
    """Kill the script and what it has left in the background."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _last(output: str, count: int = 1) -> str:
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    return "; ".join(lines[-count:])
