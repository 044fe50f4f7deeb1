"""Listing the methods must answer at once: it may not import torch."""

from __future__ import annotations

import subprocess
import sys

LIST_ALL = """
import sys
from mixbench import augmentations
for name in augmentations.available():
    augmentations.describe(name)
    augmentations.resolve(name, {})
    augmentations.create(name, prob=0.5)
try:
    augmentations.create("cutmx")
except ValueError:
    pass
else:
    raise SystemExit("an unknown name was taken")
print(len(augmentations.available()))
print(*sorted(sys.modules))
"""

FORBIDDEN = {"torch", "numpy", "torchvision", "timm", "scipy", "pandas"}
OURS = {"mixbench.experiments", "mixbench.analysis", "mixbench.slurm"}


def run(code: str) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=300
    )
    return done.stdout.splitlines()


def test_listing_and_creating_do_not_import_torch() -> None:
    count, loaded = run(LIST_ALL)
    assert int(count) >= 7
    assert not (FORBIDDEN | OURS) & set(loaded.split())


def test_mixing_imports_torch_alone() -> None:
    """Not the compiler either: it takes as long as the rest of torch, and few compile."""
    code = (
        "import sys\nimport torch\nfrom mixbench import augmentations\n"
        "for name in augmentations.available():\n"
        "    mix = augmentations.create(name)\n"
        "    if mix.needs - {'images', 'labels'}:\n"
        "        continue\n"
        "    mix(torch.zeros(2, 1, 16, 16), torch.zeros(2, dtype=torch.int64), 10)\n"
        "print(*sorted(sys.modules))"
    )
    (loaded,) = run(code)
    forbidden = OURS | (FORBIDDEN - {"torch", "numpy"}) | {"torch._dynamo"}
    assert not forbidden & set(loaded.split())


def test_names_that_need_torch_are_loaded_when_used() -> None:
    code = (
        "import sys\nfrom mixbench import augmentations\n"
        "for name in augmentations.__all__: getattr(augmentations, name)\n"
        "print('torch' in sys.modules)\n"
        "try: augmentations.Plann\n"
        "except AttributeError as error: print(error)"
    )
    loaded, error = run(code)
    assert loaded == "True"
    assert "Plann" in error
