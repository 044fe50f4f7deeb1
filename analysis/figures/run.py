"""Draw the figures of a single run, which `mixbench track` attaches."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from mixbench.analysis.figures.occlusion import occlusion_figure
from mixbench.analysis.figures.reliability import calibration_note, reliability_figure
from mixbench.analysis.tables.load import occlusion_rows, reliability_rows

if TYPE_CHECKING:
    from mixbench.experiments.store.run_folder import RunFolder


def run_figures(run: RunFolder) -> dict[str, bytes]:
    """Return the figures of a run, file name -> PNG bytes; none until it is finished."""
    result = run.result()
    if result is None:
        return {}
    name = str(_config(run.path / "config.json").get("augmentation", {}).get("name", "this run"))
    cells = pd.DataFrame(
        {
            "cell_key": [name],
            "series": [name],
            "label": [f"{name}, seed {result.get('seed')}"],
            "block": [0],
            "title": [""],
            "baseline_key": [None],
        }
    )
    figures = {}
    bins = pd.DataFrame([{"cell_key": name, **row} for row in reliability_rows(result)])
    if len(bins):
        metrics = result.get("metrics", {})
        notes = {name: calibration_note(metrics.get("test/ece"), metrics.get("test/gap"))}
        figures["reliability.png"] = reliability_figure(cells, bins, notes)
    points = pd.DataFrame([{"cell_key": name, **row} for row in occlusion_rows(result)])
    if len(points):
        points = points.assign(mean=points["accuracy"], low=math.nan, high=math.nan, n=1)
        figures["occlusion.png"] = occlusion_figure(cells, points)
    return figures


def _config(path: Path) -> dict[str, Any]:
    try:
        config = json.loads(path.read_text(encoding="utf-8"))["config"]
    except (OSError, ValueError, KeyError, TypeError):
        return {}
    return config if isinstance(config, dict) else {}
