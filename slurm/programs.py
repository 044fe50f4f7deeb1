"""Run SLURM's programs (squeue, scontrol, sbatch, ...) with a time limit, so that nothing hangs."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass

SECONDS = 20.0
"""How long to wait for an answer, unless $MIXBENCH_SLURM_SECONDS says otherwise."""


class Unavailable(Exception):
    """SLURM can't be asked here, or does not answer."""


@dataclass(frozen=True)
class Answer:
    """What one of SLURM's programs printed, and its exit status."""

    status: int
    output: str
    errors: str

    def message(self) -> str:
        """Return its errors on one line, without the program's name in front of each."""
        lines = [row for row in self.errors.splitlines() if row.strip()]
        texts = [re.sub(r"^\w+: (?:error: |fatal: )?", "", row).strip() for row in lines]
        return "; ".join(dict.fromkeys(text for text in texts if text))


def patience() -> float:
    """Return how many seconds to wait for an answer."""
    with contextlib.suppress(ValueError):
        return float(os.environ.get("MIXBENCH_SLURM_SECONDS") or SECONDS)
    return SECONDS


def ask(
    program: str,
    *arguments: str,
    text: str | None = None,
    seconds: float | None = None,
    environment: dict[str, str] | None = None,
) -> Answer:
    """Run one of SLURM's programs; Unavailable when there is none, or it takes too long.

    text: its standard input. environment: all of its environment variables.
    """
    limit = patience() if seconds is None else seconds
    if not shutil.which(program):
        raise Unavailable(f"{program} is not on the PATH")
    try:
        process = subprocess.Popen(
            [program, *arguments],
            stdin=subprocess.DEVNULL if text is None else subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            env=_without_preferences(os.environ if environment is None else environment),
            start_new_session=True,
        )
    except OSError as error:
        raise Unavailable(f"{program}: {error.strerror}") from None
    with process:
        try:
            output, errors = process.communicate(text, timeout=limit)
        except subprocess.TimeoutExpired:
            _kill(process)
            raise Unavailable(f"{program} did not answer within {limit:.0f} s") from None
        except BaseException:
            _kill(process)
            raise
    return Answer(process.returncode, output, errors)


def output_of(program: str, *arguments: str) -> str:
    """Return the output of a program; Unavailable with its message when it fails."""
    answer = ask(program, *arguments)
    if answer.status:
        raise Unavailable(f"{program}: {answer.message() or f'exit status {answer.status}'}")
    return answer.output


def _without_preferences(environment: Mapping[str, str]) -> dict[str, str]:
    """Drop the user's preferences, such as another output format, which mixbench can't read."""
    prefixes = ("SQUEUE_", "SCONTROL_", "SCANCEL_")
    return {
        name: value
        for name, value in environment.items()
        if not name.startswith(prefixes) and name != "SLURM_TIME_FORMAT"
    }


def _kill(process: subprocess.Popen[str]) -> None:
    """Kill it and its children: a wrapper around the real program holds the pipes open."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
