"""The strips of mixed images: what each method does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mixbench.analysis.figures.canvas import ReportFigure, on_both_papers
from mixbench.analysis.figures.mixed import is_image, mixed_figure
from mixbench.analysis.report.data import ReportData, short_dataset
from mixbench.analysis.tables.labels import value_text
from mixbench.analysis.text import formatting


def section(data: ReportData) -> dict[str, Any]:
    """Return the figure, where any run drew a strip."""
    strips = _strips(data)
    cut = data.fixed.get("training.crop") == "resized"
    return {"figures": [_figure(strips, cut)] if strips else []}


def _strips(data: ReportData) -> dict[tuple[str, str], Path]:
    """Find the first run with a strip for each augmentation on each data set."""
    runs, cells = data.tables.runs, data.comparison.cells
    methods = dict(zip(cells["cell_key"], cells["method"], strict=True))
    has_sizes = runs["dataset.image_size"].nunique() > runs["dataset.name"].nunique()
    strips: dict[tuple[str, str], Path] = {}
    for run in runs.to_dict("records"):
        heading = short_dataset(run["dataset.name"])
        if has_sizes:
            heading = f"{heading}, {value_text(run.get('dataset.image_size'))} pixels"
        name = methods[run["cell_key"]] or run["augmentation.name"]
        path = data.folder.path / "runs" / run["run_key"] / "mixed.png"
        if (heading, name) not in strips and is_image(path):
            strips[heading, name] = path
    return strips


def _figure(strips: dict[tuple[str, str], Path], cut: bool) -> ReportFigure:
    headings = list(dict.fromkeys(heading for heading, _ in strips))
    rows = [
        (heading if len(headings) > 1 else "", name, path)
        for heading in headings
        for (first, name), path in strips.items()
        if first == heading
    ]
    return on_both_papers(
        "mixed.png",
        "What each method does",
        f"The same training images{', cropped as in training,' if cut else ''} in every row; "
        "strength and region are drawn per sample.",
        f"Strips of training images mixed by {formatting.joined(name for _, name, _ in rows)}",
        lambda paper: mixed_figure(rows, paper),
    )
