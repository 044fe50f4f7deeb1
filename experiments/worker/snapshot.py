"""Copy the code for a sweep's workers: edits while they wait or work change nothing."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import mixbench
from mixbench.experiments.errors import UserError
from mixbench.experiments.store import provenance
from mixbench.experiments.store.files import folder_aside
from mixbench.experiments.store.sweep_folder import SweepFolder

FOLDERS = ("augmentations", "experiments", "slurm", "analysis")
"""The folders of code: in a checkout they lie beside `mixbench/`, which links to them."""


def take(folder: SweepFolder) -> Path:
    """Copy this code to a folder in `SWEEP/code`, unless it is there; returns that folder.

    It is named after the contents, so launches of the same code share one. To be put in front of
    the workers' PYTHONPATH.
    """
    if os.pathsep in str(folder.path):
        raise UserError(
            f"{folder.path}: a sweep's folder can't have a {os.pathsep!r} in its path: its workers "
            "find their code by PYTHONPATH"
        )
    digest = hashlib.sha256(f"{provenance.commit()}\n".encode())
    contents = {}
    for name, path in _code():
        contents[name] = path.read_bytes()
        digest.update(f"{name} {len(contents[name])}\n".encode() + contents[name])
    copy = folder.path / "code" / digest.hexdigest()[:16]
    if copy.is_dir():
        # `mixbench clean` keeps the newest.
        with contextlib.suppress(PermissionError):
            os.utime(copy)
        return copy
    copy.parent.mkdir(exist_ok=True)
    aside = folder_aside(copy)
    try:
        for name, content in contents.items():
            (aside / name).parent.mkdir(parents=True, exist_ok=True)
            (aside / name).write_bytes(content)
        (aside / provenance.SNAPSHOT).write_text(f"{provenance.commit() or ''}\n")
        try:
            os.rename(aside, copy)
        except OSError:
            # Another launcher was faster; raise anything else.
            if not copy.is_dir():
                raise
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return copy


def environment(copy: Path) -> dict[str, str]:
    """The environment variables that have a Python process run the code in `copy`."""
    rest = os.environ.get("PYTHONPATH")
    return {"PYTHONPATH": f"{copy}{os.pathsep}{rest}" if rest else str(copy)}


def _code() -> Iterator[tuple[Path, Path]]:
    """Each file of this code: its path in the copy, and its path now."""
    package = Path(mixbench.__file__).parent
    yield Path("mixbench", "__init__.py"), package / "__init__.py"
    for name in FOLDERS:
        folder = (package / name).resolve()
        for path in _files(folder):
            yield Path("mixbench", name, path.relative_to(folder)), path


def _files(package: Path) -> list[Path]:
    return sorted(
        path
        for path in package.rglob("*")
        if path.is_file()
        and not any(
            part == "__pycache__" or part.startswith(".")
            for part in path.relative_to(package).parts
        )
    )
