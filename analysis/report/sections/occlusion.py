"""Accuracy with a growing part of each test image hidden."""

from __future__ import annotations

from typing import Any

import pandas as pd

from mixbench.analysis.figures.canvas import BAND_SEEDS, on_both_papers
from mixbench.analysis.figures.occlusion import occlusion_figure
from mixbench.analysis.report.data import ReportData
from mixbench.analysis.report.multiples import are_needed, multiples
from mixbench.analysis.statistics.curves import mean_curves
from mixbench.experiments.text import plural

MOST_ROWS, FEW_ROWS = 6, 3
"""A figure of more rows (a regime has one per fill) is too long; then only few are drawn."""


_MASKS = (
    "Each image has one mask, the same for all models. Hidden parts are rectangles of the mean "
    "colour; a model that was trained on such (Cutout, Random Erasing) has an advantage here that "
    "other hidden parts would not give it."
)


def section(data: ReportData) -> dict[str, Any]:
    """Return the figure, where occlusion was measured."""
    tables = data.tables
    fills = (
        tables.occlusion["shape"].str.partition("/")[2].nunique() if len(tables.occlusion) else 1
    )
    cells, left_out = first_regimes(data.comparison.cells, fills)
    drawn = tables.occlusion[tables.occlusion["cell_key"].isin(cells["cell_key"])]
    curves = mean_curves(drawn, "shape", "fraction", "accuracy")
    if curves.empty:
        return {"figures": []}
    has_bands = curves["n"].max() >= BAND_SEEDS
    bands = " with 95% t bands" if has_bands else ", too few for bands"
    is_one_dataset = tables.runs["dataset.name"].nunique() == 1
    chance = 1 / len(tables.classes) if tables.classes and is_one_dataset else None
    if are_needed(cells):
        return _small_panels(data, cells, drawn, left_out)
    figure = on_both_papers(
        "occlusion.png",
        "Accuracy under occlusion",
        f"Test accuracy with a part of each image hidden, mean over seeds{bands}. {_MASKS}"
        f"{noise_caption(drawn)}{left_out}",
        "Curves of test accuracy over the hidden part of the image, one per method",
        lambda paper: occlusion_figure(cells, curves, paper, chance),
    )
    return {"figures": [figure]}


def _small_panels(
    data: ReportData, cells: pd.DataFrame, drawn: pd.DataFrame, left_out: str
) -> dict[str, Any]:
    """Return the figure of a regime with more cells than curves can be told apart."""
    parts = drawn["shape"].str.partition("/")
    points = drawn.assign(
        line=parts[0],
        row=parts[2].replace("", "mean colour") if (parts[2] != "").any() else "",
        x=drawn["fraction"] * 100,
        value=drawn["accuracy"],
    )
    found = multiples(cells, points, data.tables.runs, "Part of the image hidden, %")
    if found is None:
        return {"figures": []}
    figure = on_both_papers(
        "occlusion.png",
        "Accuracy under occlusion",
        f"Test accuracy with a part of each image hidden. {found.words} {_MASKS}"
        f"{noise_caption(drawn)}{left_out}",
        "Curves of differences in test accuracy over the hidden part of the image, a panel per "
        "configuration",
        found.draw,
        found.draw_narrow,
    )
    return {"figures": [figure]}


def noise_caption(points: pd.DataFrame) -> str:
    """Say what the second fill is, and in how many runs it was not measured."""
    by_run = points.groupby("run_key")["shape"].agg(
        lambda shapes: any("/" in one for one in shapes)
    )
    if not by_run.any():
        return " With noise in place of that colour it was not measured: mixbench was older."
    lacking = int((~by_run.astype(bool)).sum())
    missing = f" (not measured in {plural(lacking, 'run')} of an older mixbench)" if lacking else ""
    return f" In the other row they are filled with noise{missing}, which no method trains on."


def first_regimes(cells: pd.DataFrame, fills: int) -> tuple[pd.DataFrame, str]:
    """Return the cells that are drawn, and which those are, where they are not all."""
    blocks = list(dict.fromkeys(cells["block"]))
    if len(blocks) * fills <= MOST_ROWS or len(blocks) == 1:
        return cells, ""
    few = max(1, FEW_ROWS // fills)
    kept = cells[cells["block"].isin(blocks[:few])]
    first = f"first {few}" if few > 1 else "first"
    return kept, f" The {first} of {len(blocks)} regimes."
