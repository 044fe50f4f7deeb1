"""Write the files of a report."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from mixbench.experiments.store.files import atomic_write

FIGURES = "figures"
HTML, MARKDOWN, CSV = "report.html", "report.md", "runs.csv"
_FIGURE_NAMES = re.compile(
    r"(mixed|methods|schedules|occlusion|(reliability|measured-\w+)(-\d+)?)\.png"
)
"""The files in `figures/` that belong to a report; others are left alone."""


def write_pages(folder: Path, contents: Mapping[str, str | bytes]) -> None:
    """Write every file completely or not at all. contents: path in the folder -> content."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in contents.items():
        atomic_write(folder / name, content)


def write_files(folder: Path, contents: Mapping[str, str | bytes]) -> None:
    """Write every file completely or not at all; remove figures of an earlier report.

    contents: path in the folder -> content.
    """
    (folder / FIGURES).mkdir(parents=True, exist_ok=True)
    write_pages(folder, contents)
    for path in (folder / FIGURES).glob("*.png"):
        if _FIGURE_NAMES.fullmatch(path.name) and f"{FIGURES}/{path.name}" not in contents:
            path.unlink(missing_ok=True)
