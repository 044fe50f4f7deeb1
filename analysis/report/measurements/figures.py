"""The figures of measurements; one without a drawing here has a table only."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import partial
from typing import Any

import pandas as pd

from mixbench.analysis.figures.canvas import ReportFigure, on_both_papers
from mixbench.analysis.figures.difference_curves import (
    CurvePanel,
    DifferenceCurve,
    difference_curves,
)
from mixbench.analysis.figures.reliability import THIN_BIN, scaling_figure
from mixbench.analysis.figures.scatter import scatter_figure
from mixbench.analysis.report.measurements import attack_figures, corruption_figures
from mixbench.analysis.report.measurements.curves import (
    POINTS,
    Curves,
    accuracy_points,
    points_of,
    reliability_bins,
)
from mixbench.analysis.report.measurements.drawing import Draw, accuracy_figure, differences
from mixbench.analysis.report.multiples import are_needed
from mixbench.analysis.statistics.contrasts import Contrast
from mixbench.analysis.statistics.curves import pool_reliability
from mixbench.analysis.statistics.estimates import estimate
from mixbench.analysis.statistics.metrics import Metric
from mixbench.analysis.text.names import method_name

PANELS = 12
"""Cells in one figure of calibration; a larger sweep gets several figures."""
MOST_PANELS = 48


def figures_of(curves: Curves) -> list[ReportFigure]:
    """Draw a measurement; return no figures if it has no drawing, or no data."""
    draw = _DRAWINGS.get(curves.name)
    return draw(curves) if draw is not None else []


def _calibration(curves: Curves) -> list[ReportFigure]:
    before, after = (
        pool_reliability(reliability_bins(curves, when)) for when in ("before", "after")
    )
    if before.empty:
        return []
    notes = _temperatures(curves)
    figures = []
    every = curves.cells_with(before["cell_key"]).iloc[:MOST_PANELS]
    for number, first in enumerate(range(0, len(every), PANELS), start=1):
        cells = every.iloc[first : first + PANELS]
        figures.append(
            on_both_papers(
                f"measured-calibration{'' if number == 1 else f'-{number}'}.png",
                "Reliability before and after temperature scaling",
                "Accuracy against confidence, the images of all seeds together; below it, how many "
                "of the images have that confidence. Faint and hollow: as trained; strong: with "
                "logits divided by the temperature of each run. Bins with fewer than "
                f"{THIN_BIN} images are left out.",
                "Reliability diagrams before and after temperature scaling, one per method",
                partial(scaling_figure, cells, before, after, notes),
            )
        )
    if "calibration/vector/debiased" in curves.runs:
        title = "What can be mended after training"
        figures += differences(title, *_MENDED, part="-mended")(curves)
    return figures


def _temperatures(curves: Curves) -> dict[str, str]:
    """Return the note above each reliability diagram."""
    notes = {}
    for cell, runs in curves.measured_runs.groupby("cell_key", sort=False):
        value = estimate(runs["calibration/temperature"].tolist()).mean
        bounded = int((runs["calibration/temperature_bounded"] == 1).sum())
        text = "" if value is None else f"temperature {value:.2f}"
        notes[str(cell)] = f"{text}; {bounded} of {len(runs)} no optimum" if bounded else text
    return notes


def _hidden_parts(curves: Curves) -> list[ReportFigure]:
    """Draw a row per fill, the shapes side by side; the mean over fills of several regimes."""
    rows: list[dict[str, Any]] = []
    for keys, run in curves.each():
        for shape, by_fill in (run.get("accuracy") or {}).items():
            xs = (run.get("fraction") or {}).get(shape)
            for fill, values in by_fill.items():
                rows += points_of(
                    {**keys, "shape": shape, "fill": fill}, f"{shape}, {fill}", xs, values
                )
    points = pd.DataFrame(rows, columns=[*POINTS, "shape", "fill"])
    shapes, fills = (list(dict.fromkeys(points[kind])) for kind in ("shape", "fill"))
    caption = "A column per shape of what is hidden, a row per what is there instead"
    if curves.cells_with(points["cell_key"])["block"].nunique() > 1:
        # A row per fill and regime would be more panels than anyone looks at.
        place = ["cell_key", "run_key", "seed", "shape", "point"]
        means = points.groupby(place, sort=False)[["x", "value"]].mean()
        points = means.reset_index().assign(panel=lambda rows: rows["shape"])
        panels = shapes
        caption = f"A column per shape of what is hidden; the mean of {len(fills)} fills"
    else:
        panels = [f"{shape}, {fill}" for fill in fills for shape in shapes]
    order = {panel: number for number, panel in enumerate(panels)}
    points = points.sort_values("panel", key=lambda panel: panel.map(order), kind="stable")
    return accuracy_figure(
        curves,
        points.assign(x=points["x"] * 100),
        "Accuracy with parts hidden",
        f"{caption}; at the same part all shapes hide equally many pixels.",
        "Part hidden, %",
        columns=len(shapes),
    )


def _object_share(curves: Curves) -> list[ReportFigure]:
    points = accuracy_points(curves, "share", {"framed": "Padded or cropped"})
    if are_needed(curves.cells_with(points["cell_key"])):
        # That figure would be the one of `object_share_gains` again.
        return []
    return accuracy_figure(
        curves,
        points.assign(x=points["x"] * 100),
        "Accuracy by the object’s share of the image",
        "The same test images, padded or cropped until the object fills that share.",
        "Object’s share of the image, %",
        columns=1,
    )


def object_share_gains(
    cells: pd.DataFrame, differences: Mapping[tuple[str, str], Contrast]
) -> list[ReportFigure]:
    """Draw the gain over the baseline by object share, a panel per method.

    differences: (cell_key, metric key) -> difference.
    """
    panels = []
    for cell, name in zip(cells["cell_key"], cells["label"], strict=True):
        found = sorted(
            (100 * float(match[1]), one)
            for (key, metric), one in differences.items()
            if key == cell
            and one.difference is not None
            and (match := re.fullmatch(r"object_share/([01](?:\.\d+)?)", metric))
        )
        if len(found) > 1:
            shares, gains = zip(*found, strict=True)
            points = (
                tuple(None if value is None else 100 * value for value in values)
                for values in (
                    [one.low for one in gains],
                    [one.high for one in gains],
                )
            )
            difference = tuple(100 * (one.difference or 0.0) for one in gains)
            curve = DifferenceCurve("", shares, difference, *points)
            panels.append(CurvePanel(method_name(str(name)), [curve]))
    if not panels:
        return []
    return [
        on_both_papers(
            "measured-object_share_gains.png",
            "Gain by the object’s share of the image",
            "Accuracy less that of the baseline at the same share, with its simultaneous interval.",
            "Curves of the gain over the baseline by the object's share of the image, by method",
            partial(
                difference_curves,
                panels[:MOST_PANELS],
                x_label="Object’s share of the image, %",
                y_labels=["Difference, points"],
                is_log=False,
            ),
        )
    ]


def _overfitting(curves: Curves) -> list[ReportFigure]:
    wanted = ["overfitting/train/accuracy", "test/accuracy"]
    if not set(wanted) <= set(curves.runs):
        return []
    points = curves.runs[["cell_key", "seed", *wanted]].dropna()
    points.columns = pd.Index(["cell_key", "seed", "train", "test"])
    if points.empty:
        return []
    return [
        on_both_papers(
            "measured-overfitting.png",
            "Train against test accuracy",
            "Clean training images against the test set: small dots are single seeds, large ones "
            "their mean. On the dashed line both are equal; the further to the right of it, the "
            "more a network overfits.",
            "Scatter plot of test accuracy over clean training accuracy, by method",
            partial(scatter_figure, curves.cells_with(points["cell_key"]), points),
        )
    ]


def _localisation(curves: Curves) -> list[ReportFigure]:
    """Draw scenes, and the user's own images with boxes where there are any."""
    figures = []
    for prefix, title, part in (
        ("localisation", "Maps that find the object", ""),
        ("localisation/boxes", "Maps that find the object in own images", "-2"),
    ):
        metrics = [
            Metric(f"{prefix}/{key}", name, True, 1)
            for key, name in (("pointing", "Pointing"), ("iou", "IoU"), ("energy", "Energy"))
        ]
        figures += differences(title, *metrics, part=part)(curves)
    placed = [
        Metric(f"localisation/placed/{key}", name, True, 1)
        for key, name in (
            ("pointing", "Pointing"),
            ("max_box_acc_v2", "MaxBoxAccV2"),
            ("mask_iou", "Mask IoU"),
        )
    ]
    title = "Maps that find the object among placed images"
    figures += differences(title, *placed, part="-placed")(curves)
    weak = [
        Metric(f"localisation/weak/{key}", name, True, 1)
        for key, name in (
            ("pointing", "Pointing"),
            ("max_box_acc_v2", "MaxBoxAccV2"),
            ("energy", "Energy"),
        )
    ]
    title = "Maps that find the objects of a label in scenes"
    figures += differences(title, *weak, part="-weak")(curves)
    return figures


def _boundary(curves: Curves) -> list[ReportFigure]:
    """Draw distances and steepness, and what is predicted along the lines."""
    figures = differences(
        "Decision boundaries by method",
        Metric("boundary/path/distance", "Distance by gradient", False, 1),
        Metric("boundary/line/steepness", "Steepness on the line", False, 0),
        Metric("boundary/line/entropy", "Entropy there, nats", False, 0),
    )(curves)
    panels = {
        "own": "As where the line begins",
        "other": "As where it ends",
        "third": "Another class",
    }
    rows: list[dict[str, Any]] = []
    for keys, run in curves.each():
        for name, panel in panels.items():
            rows += points_of(keys, panel, run.get("place"), run.get(name))
    points = pd.DataFrame(rows, columns=POINTS)
    return [
        *figures,
        *accuracy_figure(
            curves,
            points.assign(x=points["x"] * 100),
            "Predictions along lines between images",
            "What is predicted on the straight line from a test image to one of another class, of "
            "lines whose ends are predicted differently.",
            "Way along the line, %",
            part="-lines",
            y_label="Predictions, %",
        ),
    ]


_MENDED = (
    Metric("calibration/debiased", "Debiased error, as trained", True, -1),
    Metric("calibration/scaled/debiased", "with a temperature", True, -1),
    Metric("calibration/vector/debiased", "with vector scaling", True, -1),
)
_SHIFT = (
    Metric("shift/auroc", "AUROC, far", False, 1),
    Metric("shift/near/confidence/auroc", "AUROC, near", False, 1),
    Metric("shift/left_out/confidence/auroc", "AUROC, left-out classes", False, 1),
    Metric("shift/far/energy/auroc", "AUROC, far, energy", False, 1),
    Metric("shift/near/energy/auroc", "AUROC, near, energy", False, 1),
    Metric("shift/left_out/energy/auroc", "AUROC, left-out classes, energy", False, 1),
)

_DRAWINGS: dict[str, Draw] = {
    "calibration": _calibration,
    "overfitting": _overfitting,
    "bias_variance": differences(
        "Bias and variance by method",
        Metric("bias_variance/zero_one/bias", "Bias, 0/1", True, -1),
        Metric("bias_variance/zero_one/net_variance", "Net variance, 0/1", True, -1),
        Metric("bias_variance/log/bias", "Bias, NLL", False, -1),
        Metric("bias_variance/log/variance", "Variance, NLL", False, -1),
    ),
    "hiding": _hidden_parts,
    "corruption": corruption_figures.corruption,
    "attack": attack_figures.attack,
    "patch": attack_figures.patch,
    "smoothness": differences(
        "Gradients and flips by method",
        Metric("smoothness/loss_gradient", "Loss gradient", False, 0),
        Metric("smoothness/distance", "Distance to the boundary", False, 1),
        Metric("smoothness/flip/", "Flips, noise", True, -1),
    ),
    "boundary": _boundary,
    "shift": differences("Telling foreign images from own ones", *_SHIFT),
    "localisation": _localisation,
    "gradient_noise": differences(
        "Gradient noise by method",
        Metric("gradient_noise/mix", "By mixing", True, 0),
        Metric("gradient_noise/signal", "In common", True, 0),
        Metric("gradient_noise/norm", "Norm", False, 0),
    ),
    "object_share": _object_share,
}
