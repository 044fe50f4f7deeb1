"""Add the files that CONTRIBUTING.md shows to a copy of the code: they are all that it takes."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parent.parent
FILES = (
    "augmentations/methods/halfmix.py",
    "experiments/data/sets/letters.py",
    "experiments/models/networks/tiny.py",
    "experiments/evaluation/entropy/__init__.py",
    "experiments/evaluation/entropy/measure.py",
)
"""Where the code blocks go, in their order."""
SWEEP = """
name: added
fixed:
  dataset: {name: letters, validation_fraction: 0.2}
  model: {name: tiny}
  training: {epochs: 1, batch_size: 32}
grid:
  augmentation: [{name: halfmix, share: 0.25}]
seeds: [0]
"""


@pytest.fixture(scope="module")
def code(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the code with the files of the page added, and a data set of that name."""
    copy = tmp_path_factory.mktemp("code")
    (copy / "mixbench").mkdir()
    shutil.copy(ROOT / "mixbench" / "__init__.py", copy / "mixbench")
    for folder in ("augmentations", "experiments", "slurm", "analysis"):
        shutil.copytree(
            ROOT / folder, copy / "mixbench" / folder, ignore=shutil.ignore_patterns("__pycache__")
        )
    page = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```python\n(.*?)```", page, re.S)
    for name, block in zip(FILES, blocks, strict=True):
        path = copy / "mixbench" / name
        assert not path.exists()
        path.parent.mkdir(exist_ok=True)
        path.write_text(block, encoding="utf-8")
    numbers = np.random.default_rng(0)
    arrays = {}
    for part, count in (("train", 90), ("test", 30)):
        arrays[f"{part}_images"] = numbers.integers(0, 256, (count, 1, 8, 8), dtype=np.uint8)
        arrays[f"{part}_labels"] = np.arange(count) % 3
    np.savez(copy / "letters.npz", **arrays)
    (copy / "added.yaml").write_text(SWEEP)
    return copy


VERBS = """
import shlex, sys
from mixbench.experiments.cli import main
for line in sys.stdin:
    assert main(shlex.split(line)) == 0, line
"""


def mixbench(code: Path, *lines: str) -> str:
    """What these commands say, one after the other in one process."""
    environment = {
        **os.environ,
        "PYTHONPATH": str(code),
        "MIXBENCH_RUNS": str(code / "runs"),
        "MIXBENCH_DATA": str(code),
    }
    done = subprocess.run(
        [sys.executable, "-c", VERBS],
        cwd=code,
        env=environment,
        input="\n".join(lines),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_one_file_adds_a_part(code: Path) -> None:
    here = "--device cpu --workers 1 --no-track --no-report"
    said = mixbench(
        code, "list", f"sweep added.yaml {here}", f"evaluate added --only entropy {here}"
    )
    for name in ("halfmix", "letters", "tiny", "entropy"):
        assert f"\n  {name} " in said
    (run,) = (code / "runs" / "added" / "runs").iterdir()
    measured = json.loads((run / "evaluations" / "entropy.json").read_text())
    assert 0 < measured["metrics"]["entropy/mean"] <= np.log2(3)
