"""What a file of tests leaves behind is found."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from mixbench.experiments.store import claims
from tests.support import leaks


def test_what_is_changed_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = leaks.state()
    assert leaks.changes(before, leaks.state()) == []
    threads = torch.get_num_threads()
    with monkeypatch.context() as patch:
        patch.setattr(claims, "LEASE_SECONDS", 0.5)
        patch.setenv("MIXBENCH_LEFT", "behind")
        patch.delenv("OMP_NUM_THREADS")
        patch.chdir(tmp_path)
        torch.set_num_threads(threads + 1)
        changed = leaks.changes(before, leaks.state())
        torch.set_num_threads(threads)
    assert [line.partition(" was ")[0] for line in changed] == [
        "$OMP_NUM_THREADS",
        "the working folder",
        "torch's threads",
        "mixbench.experiments.store.claims.LEASE_SECONDS",
        "$MIXBENCH_LEFT",
    ]
    assert leaks.changes(before, leaks.state()) == []
