"""Where MLflow keeps a sweep and its runs, as far as the last `mixbench track` knew: `mlflow.json`.

Reports link to it. It is no source of truth: whoever deletes it, or runs in MLflow, loses links.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

from mixbench.experiments.store.files import SCHEMA, atomic_write, dump, read_json

NAME = "mlflow.json"
_ID = re.compile(r"[0-9A-Za-z_-]{1,64}")


@dataclass(frozen=True)
class Tracked:
    """What MLflow calls a sweep.

    Attributes:
        uri: Of the store, without a password; of a server, also the address of its pages.
        experiment, experiment_id: The experiment that is the sweep.
        runs: run_key -> MLflow's id of the run.
        cells: cell_key -> MLflow's id of the run above the runs of a cell.
    """

    uri: str
    experiment: str
    experiment_id: str
    runs: Mapping[str, str] = field(default_factory=dict)
    cells: Mapping[str, str] = field(default_factory=dict)

    @property
    def experiment_page(self) -> str:
        """The address of the experiment in the pages of a server; empty for other stores."""
        return self._page("runs?workflowType=machine_learning")

    def run_page(self, run_key: str) -> str:
        """Return the address of a run in the pages of a server; empty where there is none."""
        return self._page_of(self.runs.get(run_key))

    def cell_page(self, cell_key: str) -> str:
        """Return the same of a cell."""
        return self._page_of(self.cells.get(cell_key))

    def _page_of(self, run_id: str | None) -> str:
        return self._page(f"runs/{quote(run_id)}") if run_id else ""

    def _page(self, rest: str) -> str:
        if not _is_server(self.uri):
            return ""
        return f"{self.uri.rstrip('/')}/#/experiments/{quote(self.experiment_id)}/{rest}"


def write(sweep: Path, tracked: Tracked) -> None:
    """Write the record into a sweep's folder, whole or not at all; not where it says so already."""
    if read(sweep) == tracked:
        return
    known = {**vars(tracked), "runs": dict(tracked.runs), "cells": dict(tracked.cells)}
    atomic_write(sweep / NAME, dump({"schema": SCHEMA, **known}))


def read(sweep: Path) -> Tracked | None:
    """Return the record; None where there is none that can be read.

    What is no id is left out, as the record is a file that anybody may have written.
    """
    try:
        found = read_json(sweep / NAME)
    except OSError:
        return None
    if found is None:
        return None
    texts = [found.get(key) for key in ("uri", "experiment", "experiment_id")]
    uri, experiment, number = (text if isinstance(text, str) else "" for text in texts)
    if not uri or not _ID.fullmatch(number):
        return None
    return Tracked(uri, experiment, number, _ids(found.get("runs")), _ids(found.get("cells")))


def _ids(found: Any) -> dict[str, str]:
    if not isinstance(found, dict):
        return {}
    return {
        key: value
        for key, value in found.items()
        if isinstance(value, str) and _ID.fullmatch(value)
    }


def _is_server(uri: str) -> bool:
    try:
        parts = urlsplit(uri)
        return parts.scheme in ("http", "https") and bool(parts.hostname)
    except ValueError:
        return False
