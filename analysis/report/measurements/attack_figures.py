"""The figures of attacks: accuracy by strength, beside the fit, and with a patch."""

from __future__ import annotations

from functools import partial

from mixbench.analysis.figures.attacked import attacked_figure
from mixbench.analysis.figures.canvas import ReportFigure, on_both_papers
from mixbench.analysis.report.measurements.curves import Curves, accuracy_points
from mixbench.analysis.report.measurements.drawing import accuracy_figure, with_values
from mixbench.analysis.statistics.metrics import Metric


def attack(curves: Curves) -> list[ReportFigure]:
    """Draw accuracy by strength, down to guessing where measured, and by the fit."""
    panels = {
        "fgsm": "FGSM, one step",
        "pgd": "PGD, many steps",
        "apgd": "APGD, steps that adapt",
        "squares": "Squares, no gradient",
        "transfer": "Transfer",
    }
    points = accuracy_points(curves, "epsilon", panels)
    figures = accuracy_figure(
        curves,
        points.assign(x=points["x"] * 255),
        "Accuracy under attack",
        "By how much each value of an image may be changed; 0 is the images as they are.",
        "ε, of 255 shades",
        summary=panels["pgd"],
    )
    points = accuracy_points(curves, "epsilon", panels, within="curve")
    figures += accuracy_figure(
        curves,
        points.assign(x=points["x"] * 255),
        "Accuracy under attack, down to guessing",
        "ε doubles from mark to mark, until the strongest attack leaves no more than guessing. "
        "Where a curve stays above, the gradient that the attack follows is masked.",
        "ε, of 255 shades",
        part="-curve",
        summary=panels["pgd"],
        is_doubling=True,
    )
    return [*figures, *_attack_by_fit(curves)]


def patch(curves: Curves) -> list[ReportFigure]:
    """Draw accuracy by the size of the patch."""
    panels = {"blank": "Blank", "universal": "Universal", "per_image": "One per image"}
    points = accuracy_points(curves, "share", panels)
    return accuracy_figure(
        curves,
        points.assign(x=points["x"] * 100),
        "Accuracy with an adversarial patch",
        "By the share of the image that the patch covers; 0 is the images as they are.",
        "Patch, % of the image",
    )


def _attack_by_fit(curves: Curves) -> list[ReportFigure]:
    """Draw accuracy under the strongest attack over the clean one and over train accuracy."""
    runs = curves.measured_runs
    prefixes = ("worst", "apgd", "pgd")
    found = [
        one
        for name in prefixes
        for one in with_values(Metric(f"attack/{name}/", name, True, 1), runs)
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
