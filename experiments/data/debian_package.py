"""Unpack a package of Debian or Ubuntu into a folder, without privileges."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from mixbench.experiments.data.download import Unavailable

_SECONDS_PER_COMMAND = 600


def unpack(package: str, work: Path) -> Path:
    """Download `package` and return the folder that holds its files as below `/`.

    Everything is written below `work`. Raises Unavailable where that does not work.
    """
    if not (shutil.which("apt-get") and shutil.which("dpkg-deb")):
        raise Unavailable("this system has no apt-get and dpkg-deb to unpack the package with")
    lists, cache = work / "lists", work / "cache"
    (lists / "partial").mkdir(parents=True)
    (cache / "archives" / "partial").mkdir(parents=True)
    private = ["-o", f"Dir::State::Lists={lists}", "-o", f"Dir::Cache={cache}"]
    try:
        _run(["apt-get", "-q", "download", package], work)
    except Unavailable:
        # Fresh systems and containers have no package lists, and root may keep them locked.
        _run(["apt-get", "-q", *private, "update"], work)
        _run(["apt-get", "-q", *private, "download", package], work)
    files = list(work.glob(f"{package}_*.deb"))
    if not files:
        raise Unavailable(f"apt-get brought no package {package}")
    _run(["dpkg-deb", "-x", files[0].name, "unpacked"], work)
    return work / "unpacked"


def _run(command: list[str], folder: Path) -> None:
    try:
        done = subprocess.run(
            command,
            cwd=folder,
            env={**os.environ, "LC_ALL": "C", "DEBIAN_FRONTEND": "noninteractive"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_SECONDS_PER_COMMAND,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Unavailable(f"{command[0]} did not work ({error})") from None
    if done.returncode:
        errors = [line for line in done.stderr.splitlines() if line.startswith("E:")]
        raise Unavailable(f"{command[0]} {command[-1]} failed ({(errors or ['no reason'])[-1]})")
