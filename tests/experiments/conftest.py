"""Sweeps that several tests look at: trained once."""

from __future__ import annotations

from pathlib import Path

import pytest

from mixbench.experiments.store.sweep_folder import SweepFolder
from tests.support import running


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty root of sweeps, for this process and those that it starts."""
    root = tmp_path / "runs"
    monkeypatch.setenv("MIXBENCH_RUNS", str(root))
    return root


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> SweepFolder:
    """Two methods, two seeds, a few epochs of digits, done in this process by one worker."""
    with pytest.MonkeyPatch.context() as patch:
        root = tmp_path_factory.mktemp("trained")
        patch.setenv("MIXBENCH_RUNS", str(root))
        folder = running.planned(running.spec("trained"))
    assert running.work(folder, "tests") == 4
    return folder
