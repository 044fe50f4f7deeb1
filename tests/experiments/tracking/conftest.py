"""New MLflow stores are copies of one that is empty: to make its tables takes seconds."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from mixbench.experiments.tracking import local_store


@pytest.fixture(scope="session")
def empty_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with nothing in it, one for all processes of pytest-xdist."""
    folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = folder.parent
    path = folder / "empty_store" / "mlflow.db"
    local_store.ensure_store(f"sqlite:///{path}")
    return path


# Of the package: tests elsewhere that run in the same process get stores as users do.
@pytest.fixture(scope="package", autouse=True)
def _copied_stores(empty_store: Path) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(local_store, "_create", lambda path: shutil.copyfile(empty_store, path))
        yield
