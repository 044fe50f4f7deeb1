"""`torch.compile`: `compiled.py` in a process of its own.

Compiled gradients start autograd's threads, and a process that is forked after that, as those of
other tests are, can't train.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

FOLDER = Path(__file__).parents[2]


def test_plans_mixes_and_losses_compile_without_a_graph_break() -> None:
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "--tb=short",
        "-p",
        "no:cacheprovider",
        "-p",
        "no:xdist",
        "tests/support/compiled.py",
    ]
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")},
        "OMP_NUM_THREADS": "1",
    }
    done = subprocess.run(command, cwd=FOLDER, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    assert re.search(r"^\d+ passed", done.stdout, re.MULTILINE), done.stdout[-600:]
