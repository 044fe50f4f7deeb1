"""The figures of measurements; one without a drawing here has a table only."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import pandas as pd

from mixbench.analysis.figures.accuracy_curves import curves_figure
from mixbench.analysis.figures.attacked import attacked_figure
from mixbench.analysis.figures.canvas import BAND_SEEDS, ReportFigure, on_both_papers
from mixbench.analysis.figures.difference_curves import (
    CurvePanel,
    DifferenceCurve,
    difference_curves,
)
from mixbench.analysis.figures.methods import methods_figure
from mixbench.analysis.figures.reliability import THIN_BIN, scaling_figure
from mixbench.analysis.figures.scatter import scatter_figure
from mixbench.analysis.report.measurements.curves import (
    POINTS,
    Curves,
    accuracy_points,
    points_of,
    reliability_bins,
)
from mixbench.analysis.report.measurements.differences import metric_panels
from mixbench.analysis.statistics.contrasts import Contrast
from mixbench.analysis.statistics.curves import mean_curves, pool_reliability
from mixbench.analysis.statistics.estimates import estimate
from mixbench.analysis.statistics.metrics import Metric
from mixbench.analysis.text.names import method_name

PANELS = 12
"""Cells in one figure of calibration; a larger sweep gets several figures."""
MOST_PANELS = 48

Draw = Callable[[Curves], list[ReportFigure]]


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
        figures += _differences(title, *_MENDED, part="-mended")(curves)
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


def _corruption(curves: Curves) -> list[ReportFigure]:
    panels = {"mean": "All corruptions"} | {
        family: family.capitalize() for family in ("noise", "blur", "weather", "digital")
    }
    return _accuracy_figure(
        curves,
        accuracy_points(curves, "severity", panels),
        "Accuracy by severity",
        "Mean over the corruptions of a family; 0 is the images as they are.",
        "Severity",
    )


def _attack(curves: Curves) -> list[ReportFigure]:
    panels = {
        "fgsm": "FGSM, one step",
        "pgd": "PGD, many steps",
        "apgd": "APGD, steps that adapt",
        "squares": "Squares, no gradient",
        "transfer": "Transfer",
    }
    points = accuracy_points(curves, "epsilon", panels)
    figures = _accuracy_figure(
        curves,
        points.assign(x=points["x"] * 255),
        "Accuracy under attack",
        "By how much each value of an image may be changed; 0 is the images as they are.",
        "ε, of 255 shades",
    )
    points = accuracy_points(curves, "epsilon", panels, within="curve")
    figures += _accuracy_figure(
        curves,
        points.assign(x=points["x"] * 255),
        "Accuracy under attack, down to guessing",
        "ε doubles from mark to mark, until the strongest attack leaves no more than guessing. "
        "Where a curve stays above, the gradient that the attack follows is masked.",
        "ε, of 255 shades",
        part="-curve",
        is_doubling=True,
    )
    return [*figures, *_attack_by_fit(curves)]


def _attack_by_fit(curves: Curves) -> list[ReportFigure]:
    """Draw accuracy under the strongest attack over the clean one and over train accuracy."""
    runs = curves.measured_runs
    prefixes = ("worst", "apgd", "pgd")
    found = [
        one
        for name in prefixes
        for one in _with_values(Metric(f"attack/{name}/", name, True, 1), runs)
    ]
    overs = {"attack/clean": "Clean accuracy, %", "train/accuracy": "Train accuracy, %"}
    if not found or not set(overs) <= set(runs):
        return []
    points = runs[["cell_key", found[0].key, *overs]].dropna()
    if points.empty:
        return []
    points = points.set_axis(["cell_key", "y", *overs], axis="columns")
    return [
        on_both_papers(
            "measured-attack-fit.png",
            "Accuracy under attack by how well the images are fitted",
            "A network that fits its training images less is often harder to attack, whatever it "
            "was trained with: compare methods at the same place of the x axis. "
            f"Under {_attack_title(found[0].key)}; a dot is one training.",
            "Scatter plots of accuracy under attack over clean and over train accuracy, by method",
            partial(
                attacked_figure,
                curves.cells_with(points["cell_key"]),
                points,
                overs,
                f"Accuracy under {_attack_title(found[0].key)}, %",
            ),
        )
    ]


def _attack_title(key: str) -> str:
    """Return "PGD at ε = 8/255" for attack/pgd/8-255."""
    _, name, epsilon = key.split("/")
    shown = "all attacks" if name == "worst" else name.upper()
    return f"{shown} at ε = {epsilon.replace('-', '/')}"


def _patch(curves: Curves) -> list[ReportFigure]:
    panels = {"blank": "Blank", "universal": "Universal", "per_image": "One per image"}
    points = accuracy_points(curves, "share", panels)
    return _accuracy_figure(
        curves,
        points.assign(x=points["x"] * 100),
        "Accuracy with an adversarial patch",
        "By the share of the image that the patch covers; 0 is the images as they are.",
        "Patch, % of the image",
    )


def _hidden_parts(curves: Curves) -> list[ReportFigure]:
    """Draw a row per fill, the shapes side by side."""
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
    panels = [f"{shape}, {fill}" for fill in fills for shape in shapes]
    order = {panel: number for number, panel in enumerate(panels)}
    points = points.sort_values("panel", key=lambda panel: panel.map(order), kind="stable")
    return _accuracy_figure(
        curves,
        points.assign(x=points["x"] * 100),
        "Accuracy with parts hidden",
        "A column per shape of what is hidden, a row per what is there instead; at the same part "
        "all shapes hide equally many pixels.",
        "Part hidden, %",
        columns=len(shapes),
    )


def _accuracy_figure(
    curves: Curves,
    points: pd.DataFrame,
    title: str,
    caption: str,
    x_label: str,
    columns: int = 3,
    part: str = "",
    is_doubling: bool = False,
) -> list[ReportFigure]:
    if points.empty:
        return []
    lines = mean_curves(points, "panel", "x", "value")
    has_bands = lines["n"].max() >= BAND_SEEDS
    bands = " The bands are 95% t intervals over seeds." if has_bands else ""
    return [
        on_both_papers(
            f"measured-{curves.name}{part}.png",
            title,
            f"{caption}{bands} Dotted: guessing." if curves.chance else f"{caption}{bands}",
            f"Curves of accuracy over {x_label.lower()}, one line per method",
            partial(
                curves_figure,
                curves.cells_with(lines["cell_key"]),
                lines,
                x_label=x_label,
                chance=curves.chance,
                columns=columns,
                is_doubling=is_doubling,
            ),
        )
    ]


def _object_share(curves: Curves) -> list[ReportFigure]:
    points = accuracy_points(curves, "share", {"framed": "Padded or cropped"})
    return _accuracy_figure(
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


def _differences(title: str, *metrics: Metric, part: str = "") -> Draw:
    """Return a function that draws paired differences of these metrics by method.

    A key ending in "/" is a prefix. part: of the file's name, where a measurement has several
    drawings.
    """

    def draw(curves: Curves) -> list[ReportFigure]:
        wanted = [one for metric in metrics for one in _with_values(metric, curves.measured_runs)]
        panels = metric_panels(curves, wanted)
        if not panels:
            return []
        return [
            on_both_papers(
                f"measured-{curves.name}{part}.png",
                title,
                "Differences to the baseline, paired by replicate, with simultaneous 95% "
                "intervals; the small dots are single replicates. Filled where the interval "
                "excludes 0.",
                f"Forest plots of differences in {', '.join(one.title for one in wanted)}",
                partial(methods_figure, panels),
            )
        ]

    return draw


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
        figures += _differences(title, *metrics, part=part)(curves)
    placed = [
        Metric(f"localisation/placed/{key}", name, True, 1)
        for key, name in (
            ("pointing", "Pointing"),
            ("max_box_acc_v2", "MaxBoxAccV2"),
            ("mask_iou", "Mask IoU"),
        )
    ]
    title = "Maps that find the object among placed images"
    figures += _differences(title, *placed, part="-placed")(curves)
    return figures


def _boundary(curves: Curves) -> list[ReportFigure]:
    """Draw distances and steepness, and what is predicted along the lines."""
    figures = _differences(
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
    if points.empty:
        return figures
    lines = mean_curves(points.assign(x=points["x"] * 100), "panel", "x", "value")
    bands = " The bands are 95% t intervals over seeds." if lines["n"].max() >= BAND_SEEDS else ""
    draw = partial(
        curves_figure,
        curves.cells_with(lines["cell_key"]),
        lines,
        x_label="Way along the line, %",
        y_label="Predictions, %",
    )
    return [
        *figures,
        on_both_papers(
            "measured-boundary-lines.png",
            "Predictions along lines between images",
            "What is predicted on the straight line from a test image to one of another class, of "
            f"lines whose ends are predicted differently.{bands}",
            "Curves of the shares of predictions along the line, one line per method",
            draw,
        ),
    ]


def _with_values(metric: Metric, runs: pd.DataFrame) -> list[Metric]:
    """Return a metric, or the last of those that begin with its key, where it has a value."""
    is_beginning = metric.key.endswith("/")
    keys = [
        str(key)
        for key in runs
        if key == metric.key or (is_beginning and str(key).startswith(metric.key))
    ]
    return [
        Metric(
            key,
            f"{metric.title} {key.removeprefix(metric.key)}" if is_beginning else metric.title,
            metric.percent,
            metric.better,
        )
        for key in [key for key in keys if runs[key].notna().any()][-1:]
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
    "bias_variance": _differences(
        "Bias and variance by method",
        Metric("bias_variance/zero_one/bias", "Bias, 0/1", True, -1),
        Metric("bias_variance/zero_one/net_variance", "Net variance, 0/1", True, -1),
        Metric("bias_variance/log/bias", "Bias, NLL", False, -1),
        Metric("bias_variance/log/variance", "Variance, NLL", False, -1),
    ),
    "hiding": _hidden_parts,
    "corruption": _corruption,
    "attack": _attack,
    "patch": _patch,
    "smoothness": _differences(
        "Gradients and flips by method",
        Metric("smoothness/loss_gradient", "Loss gradient", False, 0),
        Metric("smoothness/distance", "Distance to the boundary", False, 1),
        Metric("smoothness/flip/", "Flips, noise", True, -1),
    ),
    "boundary": _boundary,
    "shift": _differences("Telling foreign images from own ones", *_SHIFT),
    "localisation": _localisation,
    "gradient_noise": _differences(
        "Gradient noise by method",
        Metric("gradient_noise/mix", "By mixing", True, 0),
        Metric("gradient_noise/signal", "In common", True, 0),
        Metric("gradient_noise/norm", "Norm", False, 0),
    ),
    "object_share": _object_share,
}
