"""The sweep that most tests of the report look at."""

from __future__ import annotations

import pytest

from mixbench.experiments.store.sweep_folder import SweepFolder
from tests.support.written_sweeps import grid, write_sweep


@pytest.fixture(scope="session")
def full_sweep(tmp_path_factory: pytest.TempPathFactory) -> SweepFolder:
    """Seven methods, five seeds, all done."""
    return write_sweep(tmp_path_factory.mktemp("runs"), "demo", grid())
