"""The metrics that the tables of the report have."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import pandas as pd

from mixbench.experiments.design import tasks


@dataclass(frozen=True)
class Metric:
    """A metric as the report shows it.

    Attributes:
        key: Its name in `result.json`, such as "test/accuracy".
        title: Its name on the pages.
        percent: Whether a value from 0 to 1 is shown as a percentage.
        better: 1 where higher is better, -1 where lower is, 0 where neither is.
        margin: The smallest difference that matters, in the metric's own unit; None where none
            is known.
    """

    key: str
    title: str
    percent: bool
    better: int
    margin: float | None = None


ACCURACY = Metric("test/accuracy", "Accuracy", True, 1, 0.005)
"""Test accuracy, the metric of the verdict of a classification."""
TARGET_SD = "data.target_sd"
"""The standard deviation of what a regression predicts."""
GAP = "test/gap"
"""Mean confidence minus accuracy."""

_OF_UNEVEN_CLASSES = (
    Metric("test/balanced_accuracy", "Balanced accuracy", True, 1, 0.005),
    Metric("test/macro_f1", "Macro F1", True, 1, 0.005),
)
_BEFORE_OCCLUSION = (
    ACCURACY,
    Metric("test/ece", "ECE", True, -1, 0.01),
    Metric(GAP, "Conf − acc", True, 0),
    Metric("test/nll", "NLL", False, -1, 0.02),
    Metric("test/brier", "Brier", False, -1, 0.01),
)
_AFTER_OCCLUSION = (
    Metric("train/accuracy", "Train accuracy", True, 0),
    Metric("test/agreement", "Agreement with teacher", True, 1, 0.005),
    Metric("teacher/accuracy", "Teacher's accuracy", True, 0),
    Metric("unlabelled/confident", "Unlabelled answers that counted", True, 0),
    Metric("ema/accuracy", "Accuracy, averaged weights", True, 1, 0.005),
    Metric("ema/ece", "ECE, averaged weights", True, -1, 0.01),
    Metric("ema/nll", "NLL, averaged weights", False, -1, 0.02),
    Metric("swa/accuracy", "Accuracy, SWA", True, 1, 0.005),
    Metric("swa/ece", "ECE, SWA", True, -1, 0.01),
    Metric("swa/nll", "NLL, SWA", False, -1, 0.02),
)


def metric_of(
    key: str, margins: Mapping[str, float] | None = None, runs: pd.DataFrame | None = None
) -> Metric:
    """Return a metric of the main table by its name.

    Args:
        key: Such as "test/ece" or "occlusion/patches/area".
        runs: Those that were measured, whose data decide some margins.
        margins: Metric key -> the smallest difference that matters, in place of the usual one.

    Examples:
        >>> metric_of("test/ece").better, metric_of("test/ece", {"test/ece": 0.02}).margin
        (-1, 0.02)
    """
    known = {} if runs is None or TARGET_SD not in runs else {TARGET_SD: runs[TARGET_SD]}
    return metrics_of(pd.DataFrame({**known, key: pd.Series(dtype=float)}), margins)[0]


def metrics_of(
    runs: pd.DataFrame, margins: Mapping[str, float] | None = None
) -> tuple[Metric, ...]:
    """Return the metrics of the main table that any run has, in the order of its columns.

    Args:
        runs: One row per run, metrics as columns under their own names.
        margins: Metric key -> the smallest difference that matters, in place of the usual one.

    Examples:
        >>> runs = pd.DataFrame({"test/accuracy": [0.8], "occlusion/patches/area": [0.6]})
        >>> [metric.title for metric in metrics_of(runs)]
        ['Accuracy', 'Occlusion area, patches']
    """
    parts = [
        column.removeprefix("occlusion/").removesuffix("/area")
        for column in runs.columns
        if column.startswith("occlusion/") and column.endswith("/area")
    ]
    occlusion = [
        Metric(f"occlusion/{part}/area", title.replace("/", ", "), True, 1, 0.01)
        for part in sorted(parts, key=lambda part: part.count("/"))
        for title in (f"Occlusion area, {part}",)
    ]
    uneven = _OF_UNEVEN_CLASSES if _has_uneven_classes(runs) else ()
    known = [ACCURACY, *uneven, *_BEFORE_OCCLUSION[1:], *occlusion, *_AFTER_OCCLUSION]
    own = _of_tasks(runs)
    # A task's own metrics come first in its sweeps; what no run has measured is left out.
    first = headline_of(runs).key
    known = [*own, *known] if first != ACCURACY.key else [*known, *own]
    first_of = {metric.key: metric for metric in reversed(known)}
    known = list(dict.fromkeys(first_of[one.key] for one in known))
    margins = margins or {}
    return tuple(
        replace(metric, margin=margins.get(metric.key, metric.margin))
        for metric in known
        if metric.key in runs.columns
    )


def headline_of(runs: pd.DataFrame, margins: Mapping[str, float] | None = None) -> Metric:
    """Return the metric that a sweep is about unless its question names another.

    Args:
        runs: One row per run, or cell, with its configuration as dotted columns.
        margins: Metric key -> the smallest difference that matters, in place of the usual one.

    Examples:
        >>> headline_of(pd.DataFrame({"dataset.name": ["digits"]})).key
        'test/accuracy'
        >>> regression = headline_of(pd.DataFrame({"task.name": ["regression"]}))
        >>> regression.key, regression.better
        ('test/rmse', -1)
    """
    given = runs["task.name"].iloc[0] if "task.name" in runs and len(runs) else None
    metric = _as_metric(tasks.of_config({"task.name": given}).headline, runs)
    return replace(metric, margin=(margins or {}).get(metric.key, metric.margin))


def _of_tasks(runs: pd.DataFrame) -> list[Metric]:
    """Return the metrics of all tasks but classification, those of the runs' own task first."""
    given = runs["task.name"].iloc[0] if "task.name" in runs and len(runs) else None
    own = tasks.of_config({"task.name": given}).name
    names = sorted(tasks.names(), key=lambda name: name != own)
    found = []
    for task in (tasks.info(name) for name in names if name != tasks.CLASSIFICATION):
        found += [_as_metric(one, runs) for one in task.metrics]
        head = _as_metric(task.headline, runs)
        for average, words in (("ema", "averaged weights"), ("swa", "SWA")):
            key = head.key.replace("test/", f"{average}/")
            found.append(replace(head, key=key, title=f"{head.title}, {words}"))
    return found


def _as_metric(one: tasks.TaskMetric, runs: pd.DataFrame) -> Metric:
    margin = one.margin
    if one.margin_of_sd is not None and TARGET_SD in runs:
        known = pd.to_numeric(runs[TARGET_SD], errors="coerce").dropna()
        # Two digits are precise enough, and can be read.
        margin = float(f"{one.margin_of_sd * known.iloc[0]:.2g}") if len(known) else None
    return Metric(one.key, one.title, one.percent, one.better, margin)


def _has_uneven_classes(runs: pd.DataFrame) -> bool:
    """Tell whether balanced accuracy is another number than accuracy, or the only one there is."""
    balanced = _OF_UNEVEN_CLASSES[0].key
    if balanced not in runs or ACCURACY.key not in runs or runs.empty:
        return True
    return bool(((runs[balanced] - runs[ACCURACY.key]).abs() > 1e-9).any())
