"""For all measurements: a small network that has learned digits, and a finished sweep of two."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from mixbench.experiments.config import resolve
from mixbench.experiments.data.load import load
from mixbench.experiments.evaluation.base import Subject
from mixbench.experiments.models.build import build
from mixbench.experiments.store.sweep_folder import SweepFolder
from tests.support import running


@pytest.fixture(scope="session")
def digits_subject() -> Subject:
    """A small CNN at 16 x 16 after a second or two of training."""
    run = resolve.parse(
        {
            "dataset": {"name": "digits", "image_size": 16},
            "model": {"name": "small_cnn", "width": 8},
        }
    )
    dataset = load(run.dataset)
    network = build(run.model, channels=1, classes=10, size=16, seed=0)
    subject = Subject(network, dataset, run, torch.device("cpu"))
    optimiser = torch.optim.Adam(network.parameters(), 5e-3)
    generator = torch.Generator().manual_seed(0)
    network.train()
    for _ in range(4):
        for raw, labels in dataset.train.epoch(64, generator):
            logits = network(subject.normalised(raw.float() / 255))
            optimiser.zero_grad()
            F.cross_entropy(logits, labels).backward()
            optimiser.step()
    optimiser.zero_grad(set_to_none=True)
    network.eval()
    return subject


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A root with a sweep of two finished runs."""
    root = tmp_path_factory.mktemp("finished")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MIXBENCH_RUNS", str(root))
        assert running.work(running.planned(running.spec("small", seeds=[0])), "trainer") == 2
    return root


@pytest.fixture
def sweep(finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SweepFolder:
    """A copy of it."""
    monkeypatch.setenv("MIXBENCH_RUNS", str(tmp_path / "runs"))
    shutil.copytree(finished, tmp_path / "runs")
    return SweepFolder.open("small")
