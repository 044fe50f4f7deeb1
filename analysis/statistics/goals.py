"""What a method can be chosen for, and the metric that tells: accuracy, calibration, occlusion."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import pandas as pd

from mixbench.analysis.statistics.metrics import Metric, metrics_of

GOALS: Mapping[str, tuple[Metric, ...]] = {
    "accuracy": (Metric("test/accuracy", "Accuracy", True, 1, 0.005),),
    "calibration": (Metric("test/ece", "ECE", True, -1, 0.01),),
    "likelihood": (Metric("test/nll", "NLL", False, -1, 0.02),),
    # Shapes that no method trains on come first: rectangles favour those that cut out rectangles.
    "occlusion": (
        Metric("hiding/others/area", "Occlusion, shapes but rectangles", True, 1, 0.01),
        Metric("hiding/area", "Occlusion, all shapes and fills", True, 1, 0.01),
        Metric("occlusion/patches/area", "Occlusion area, patches", True, 1, 0.01),
        Metric("occlusion/centre/area", "Occlusion area, centre", True, 1, 0.01),
    ),
    "corruption": (Metric("corruption/mean", "Common corruptions", True, 1, 0.01),),
    "attack": (
        Metric("attack/apgd/8-255", "APGD, 8/255", True, 1, 0.01),
        Metric("attack/pgd/8-255", "PGD, 8/255", True, 1, 0.01),
        Metric("attack/pgd/2-255", "PGD, 2/255", True, 1, 0.01),
    ),
    # Squares of images coincide with what networks pool: placed scenes come first.
    "localisation": (
        Metric("localisation/placed/max_box_acc_v2", "Localisation, MaxBoxAccV2", True, 1, 0.01),
        Metric("localisation/pointing", "Localisation, pointing", True, 1, 0.01),
    ),
}
"""goal -> the metrics that tell, the best first."""


def goal_metric(goal: str, runs: pd.DataFrame) -> Metric | None:
    """Return the metric that tells which method serves a goal; None where it was not measured.

    Args:
        goal: A key of `GOALS`.
        runs: One row per run, metrics as columns under their own names.

    Examples:
        >>> runs = pd.DataFrame({"test/ece": [0.1], "occlusion/patches/area": [0.5]})
        >>> goal_metric("occlusion", runs).key, goal_metric("corruption", runs)
        ('occlusion/patches/area', None)
    """
    measured = [one for one in GOALS[goal] if one.key in runs and runs[one.key].notna().any()]
    if not measured and goal == "occlusion":
        measured = [one for one in metrics_of(runs) if one.key.startswith("occlusion/")]
    return measured[0] if measured else None


def measured_goals(runs: pd.DataFrame, but: Iterable[str] = ()) -> dict[str, Metric]:
    """Return goal -> metric of all goals that were measured, but those with the metrics `but`."""
    found = {goal: goal_metric(goal, runs) for goal in GOALS}
    return {goal: metric for goal, metric in found.items() if metric and metric.key not in but}
