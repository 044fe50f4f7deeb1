"""Write the files of a report."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from mixbench.experiments.store.files import atomic_write

FIGURES, TABLES = "figures", "tables"
HTML, MARKDOWN, CSV = "report.html", "report.md", "runs.csv"
_FIGURE_NAMES = re.compile(
    r"(mixed|methods|forest|budget|pairs|factors|dose|schedules|occlusion|confusion(-differences)?|"
    r"reliability(-\d+)?|measured-[\w-]+)\.png"
)
"""The files in `figures/` that belong to a report; others are left alone."""
_TABLE_NAMES = ("results", "contrasts", "ranks", "runs", "classes")
"""The same of `tables/`."""


def write_pages(folder: Path, contents: Mapping[str, str | bytes]) -> None:
    """Write every file completely or not at all. contents: path in the folder -> content."""
    folder.mkdir(parents=True, exist_ok=True)
    for folder_within in {(folder / name).parent for name in contents}:
        folder_within.mkdir(parents=True, exist_ok=True)
    for name, content in contents.items():
        atomic_write(folder / name, content)


def write_files(folder: Path, contents: Mapping[str, str | bytes]) -> None:
    """Write every file completely or not at all; remove figures and tables of an earlier report.

    contents: path in the folder -> content.
    """
    (folder / FIGURES).mkdir(parents=True, exist_ok=True)
    write_pages(folder, contents)
    for path in (folder / FIGURES).glob("*.png"):
        if _FIGURE_NAMES.fullmatch(path.name) and f"{FIGURES}/{path.name}" not in contents:
            path.unlink(missing_ok=True)
    for path in (folder / TABLES).glob("*.*"):
        if path.stem in _TABLE_NAMES and f"{TABLES}/{path.name}" not in contents:
            path.unlink(missing_ok=True)
