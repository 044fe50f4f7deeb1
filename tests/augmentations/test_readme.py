"""The examples of augmentations/README.md run, one after another, in one program."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset
from torchvision.transforms import v2

README = Path(__file__).parents[2] / "augmentations" / "README.md"
BATCH = 8


def test_the_examples_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    images, labels = torch.rand(BATCH, 3, 16, 16), torch.arange(BATCH)
    names: dict[str, Any] = {
        "images": images,
        "labels": labels,
        "masks": torch.zeros(BATCH, 16, 16, dtype=torch.int64),
        "feature_maps": torch.rand(BATCH, 5, 4, 4),
        "model": nn.Sequential(
            nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU()),
            nn.Sequential(nn.Conv2d(4, 4, 3, padding=1), nn.ReLU()),
            nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 10)),
        ),
        "dataset": TensorDataset(images, labels),
        "DataLoader": DataLoader,
        "v2": v2,
        "g": torch.Generator(),
        "xyxy": torch.tensor([[1.0, 1.0, 8.0, 8.0]]),
        "classes": torch.tensor([3]),
        "YourModule": object,
    }
    blocks = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.S)
    assert len(blocks) >= 8
    for block in blocks:
        # One target per image, and no GPU.
        code = block.replace(", ...]", f"] * {BATCH}").replace('device="cuda"', 'device="cpu"')
        try:
            exec(code, names)
        except Exception as error:
            error.add_note(f"in the example of augmentations/README.md:\n{block}")
            raise
