"""The keys of runs and cells: a finished run is found again only while its key stays the same.

No data set, no weights and no network connection are needed for a key.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from . import program
from .expected import compare

CONFIGURATIONS = Path(__file__).parent / "configurations.yaml"


def test_keys_of_the_shipped_sweeps() -> None:
    found: dict[str, Any] = {}
    for name, scale in program.scales_of_shipped_sweeps():
        cells: dict[str, list[str]] = {}
        keys = program.keys_of_sweep(name, scale)
        for run_key, cell_key in keys:
            cells.setdefault(cell_key, []).append(run_key)
        found[f"{name} {scale}" if scale else name] = {
            "runs": len(keys),
            "pretraining": program.pretraining_of_sweep(name, scale),
            "cells": cells,
        }
    compare("sweep_keys", found)


def test_keys_of_configurations_of_all_kinds(tmp_path: Path) -> None:
    images = tmp_path / "images"
    for number, name in enumerate(("cat/1.png", "cat/2.png", "dog/1.png", "dog/2.jpg")):
        path = images / name
        path.parent.mkdir(parents=True, exist_ok=True)
        # A folder is identified by the names and sizes of its files.
        path.write_bytes(b"x" * (10 + number))
    weights = tmp_path / "weights.pt"
    weights.write_bytes(b"weights")
    text = CONFIGURATIONS.read_text(encoding="utf-8")
    text = text.replace("IMAGES", str(images)).replace("WEIGHTS", str(weights))
    found = {}
    for name, written in yaml.safe_load(text).items():
        run_key, cell_key = program.keys_of_run(written)
        found[name] = {"run": run_key, "cell": cell_key}
    assert len({keys["run"] for keys in found.values()}) == len(found)
    compare("configuration_keys", found)
