"""Finished runs with all their files, made without training."""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from mixbench.experiments.store.files import SCHEMA, dump
from mixbench.experiments.store.run_folder import PlannedRun


def finish(planned: PlannedRun, mark: str = "first", **result: Any) -> Path:
    """Leave what a worker and `mixbench evaluate` leave; `mark` tells two trainings apart."""
    path = planned.folder.path
    (path / "evaluations" / "claims").mkdir(parents=True)
    (path / "claims").mkdir()
    (path / "claims" / "000001.json").write_text('{"released": "done"}')
    keys = {"schema": SCHEMA, "run_key": planned.run_key, "cell_key": planned.cell_key}
    (path / "config.json").write_text(dump({**keys, "config": planned.config}))
    (path / "metrics.jsonl").write_text('{"epoch": 1, "step": 5, "time": 1.0}\n')
    (path / "log.txt").write_text(f"{mark}\n")
    (path / "mixed.png").write_bytes(mark.encode())
    for name in ("checkpoint.pt", "predictions.npz"):
        buffer = io.BytesIO()
        np.savez(buffer, numbers=np.arange(1000), mark=np.array(mark))
        (path / name).write_bytes(buffer.getvalue())
    (path / "evaluations" / "calibration.json").write_text('{"settings": {}, "metrics": {}}')
    planned.folder.add_attempt({"attempt": 1, "outcome": "done", "started": 1.0, "ended": 2.0})
    provenance = {"device": f"cpu: {mark}", "started": 1.0, "finished": 2.0}
    whole = {**keys, "metrics": {"test/accuracy": 0.5}, "curves": {}, "dataset": {"name": "digits"}}
    (path / "result.json").write_text(dump({**whole, "provenance": provenance, **result}))
    return path


def flip_a_byte(archive: Path) -> None:
    """Damage what an archive holds, and leave its table of contents as it is."""
    with zipfile.ZipFile(archive) as file:
        first = file.infolist()[0]
    content = bytearray(archive.read_bytes())
    content[first.header_offset + 400] ^= 1
    archive.write_bytes(content)


def contents(folder: Path) -> dict[str, str]:
    """Every file below a folder, by its content."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def parsed(path: Path) -> Any:
    """What a JSON file holds."""
    return json.loads(path.read_text())
