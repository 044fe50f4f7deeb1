"""A SLURM for the tests that need one, and a root of sweeps on it."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import running, slurm_cluster
from tests.support.slurm_cluster import Cluster


@pytest.fixture(scope="session")
def session_cluster() -> Iterator[Cluster]:
    """One SLURM for all tests of a session."""
    reason = slurm_cluster.missing()
    if reason:
        pytest.skip(reason)
    # Not below pytest's own folder: the path of a socket must be short.
    folder = Path(tempfile.mkdtemp(prefix="slurm-"))
    try:
        with slurm_cluster.running(folder) as there:
            yield there
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def slurm(
    session_cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Cluster]:
    """A SLURM without jobs, which SLURM's programs find, and a root for sweeps."""
    monkeypatch.setenv("SLURM_CONF", str(session_cluster.configuration))
    # A space, as in some people's folders.
    root = tmp_path / "all runs"
    monkeypatch.setenv("MIXBENCH_RUNS", str(root))
    monkeypatch.chdir(tmp_path)
    yield session_cluster
    session_cluster.empty()


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the sweep `small`, of two finished runs; to be copied."""
    root = tmp_path_factory.mktemp("trained")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MIXBENCH_RUNS", str(root))
        sweep = running.planned(running.spec("small", seeds=[0]))
        assert running.work(sweep, "trainer") == 2
    # This process is no worker that `mixbench cancel` may end.
    shutil.rmtree(sweep.path / "workers")
    return sweep.path
