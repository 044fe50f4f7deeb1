"""Warn of regimes in which mixing can't be judged: guessing, too little training, small tests."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pandas as pd

from mixbench.analysis.numbers import is_number
from mixbench.analysis.statistics.comparison import Comparison
from mixbench.analysis.statistics.fit import FITTED, is_under_fitted
from mixbench.analysis.statistics.metrics import ACCURACY
from mixbench.analysis.statistics.units import FOLDS
from mixbench.analysis.text.formatting import joined
from mixbench.experiments.store.states import RunState

MOST_LOST = 0.1
"""A validation accuracy that ends this far below its best epoch has diverged."""
RATE = "training.learning_rate"


def worse_than_guessing(nll: float | None, classes: int) -> str:
    """Return a warning where the NLL is above that of equal probabilities for all classes, ln K.

    Examples:
        >>> worse_than_guessing(14.0, 10)
        'worse than guessing: NLL 14.00, where equal probabilities for 10 classes have 2.30'
        >>> worse_than_guessing(2.2, 10)
        ''
    """
    if not is_number(nll) or classes < 2 or float(nll or 0) <= math.log(classes):
        return ""
    return (
        f"worse than guessing: NLL {nll:.2f}, where equal probabilities for {classes} classes have "
        f"{math.log(classes):.2f}"
    )


def under_fitted(train_accuracy: float | None) -> str:
    """Return a warning where a baseline has not learned its training images.

    Examples:
        >>> under_fitted(0.41)
        'under-fitted: 41% accuracy on its own training images (expected at least 80%), so mixing
        can’t be judged here'
        >>> under_fitted(0.9)
        ''
    """
    if not is_number(train_accuracy) or not is_under_fitted(float(train_accuracy or 0)):
        return ""
    return (
        f"under-fitted: {float(train_accuracy or 0):.0%} accuracy on its own training images "
        f"(expected at least {FITTED:.0%}), so mixing can’t be judged here"
    )


def diverging(best: float | None, last: float | None) -> str:
    """Return a warning where validation accuracy ended far below its best epoch.

    Examples:
        >>> diverging(0.85, 0.6)
        'diverging: validation accuracy fell from 85% in its best epoch to 60% in the last'
        >>> diverging(0.85, 0.8)
        ''
    """
    if (
        not is_number(best)
        or not is_number(last)
        or float(best or 0) - float(last or 0) < MOST_LOST
    ):
        return ""
    return (
        f"diverging: validation accuracy fell from {100 * float(best or 0):.0f}% in its best epoch "
        f"to {100 * float(last or 0):.0f}% in the last"
    )


def at_the_edge(best: float, tried: Sequence[float]) -> str:
    """Return a warning where the best learning rate is the smallest or largest that was tried.

    Examples:
        >>> at_the_edge(0.1, [0.01, 0.1, 0.03])
        'best at the largest learning rate that was tried, 0.1: a larger one may be better'
        >>> at_the_edge(0.03, [0.01, 0.1, 0.03])
        ''
    """
    if len(set(tried)) < 2 or min(tried) < best < max(tried):
        return ""
    which, other = ("largest", "larger") if best >= max(tried) else ("smallest", "smaller")
    return (
        f"best at the {which} learning rate that was tried, {best:g}: a {other} one may be better"
    )


def too_few_tests(accuracy: float | None, images: int, margin: float | None) -> str:
    """Return a warning where test images alone leave more doubt than the margin.

    The standard error of an accuracy p on n images is the square root of p (1 - p) / n.

    Examples:
        >>> too_few_tests(0.8, 90, 0.005)
        '90 test images leave ± 4.2 points (one standard error) at 80% accuracy, the margin is 0.5'
        >>> too_few_tests(0.9, 10_000, 0.005)
        ''
    """
    if not is_number(accuracy) or not margin or images < 1:
        return ""
    share = float(accuracy or 0)
    error = math.sqrt(share * (1 - share) / images)
    if error <= margin:
        return ""
    return (
        f"{images:,} test images leave ± {100 * error:.1f} points (one standard error) at "
        f"{100 * share:.0f}% accuracy, the margin is {100 * margin:.1f}"
    )


def regime_warnings(comparison: Comparison, runs: pd.DataFrame) -> list[str]:
    """Return the warnings about the baselines of a sweep, the gravest first.

    Args:
        comparison: Of the sweep.
        runs: One row per run, as `mixbench.analysis.tables.load.load` makes them.
    """
    return [*training_warnings(comparison, runs), *small_tests(comparison, runs)]


def training_warnings(comparison: Comparison, runs: pd.DataFrame) -> list[str]:
    """Return those about how the baselines were trained. Arguments: `regime_warnings`."""
    cells, done = comparison.cells, runs[runs["state"] == RunState.DONE]
    keys = _baselines(cells)
    found: dict[str, list[str]] = {}
    for key in keys:
        rows = done[done["cell_key"] == key]
        if rows.empty:
            continue
        label = str(cells.loc[cells["cell_key"] == key, "label"].iloc[0])
        for text in (
            worse_than_guessing(_mean(rows, "test/nll"), int(_mean(rows, "data.classes") or 0)),
            under_fitted(_mean(rows, "train/accuracy")),
            diverging(_mean(rows, "best/validation_accuracy"), _mean(rows, "validation/accuracy")),
        ):
            if text:
                found.setdefault(text, []).append(label)
    warnings = [f"The baseline {joined(labels)} is {text}." for text, labels in found.items()]
    return [*warnings, *_edges(comparison, done, keys)]


def small_tests(comparison: Comparison, runs: pd.DataFrame) -> list[str]:
    """Return those about test sets. Arguments: `regime_warnings`."""
    is_wanted = (runs["state"] == RunState.DONE) & runs["cell_key"].isin(
        _baselines(comparison.cells)
    )
    return _few_tests(comparison, runs[is_wanted])


def _baselines(cells: pd.DataFrame) -> list[str]:
    keys = [key for key in dict.fromkeys(cells["baseline_key"]) if isinstance(key, str)]
    return keys or [*cells.loc[cells["method"] == "none", "cell_key"]]


def _edges(comparison: Comparison, done: pd.DataFrame, keys: Sequence[str]) -> list[str]:
    """Return where the baseline is best at the edge of the learning rates of a grid."""
    if RATE not in done or done[RATE].nunique() < 2:
        return []
    metric = comparison.primary
    rows = done[done["cell_key"].isin(keys)]
    if metric.key not in rows or rows.empty or not metric.better:
        return []
    means = (metric.better * rows.groupby(rows[RATE].astype(float))[metric.key].mean()).dropna()
    if len(means) < 2:
        return []
    text = at_the_edge(float(str(means.idxmax())), means.index.tolist())
    return [f"The baseline is {text}."] if text else []


def _few_tests(comparison: Comparison, rows: pd.DataFrame) -> list[str]:
    metric = comparison.primary
    if metric.key != ACCURACY.key or rows.empty or "data.test" not in rows:
        return []
    warnings = []
    for _, of_dataset in rows.groupby("dataset.name", sort=False):
        images = _mean(of_dataset, "data.test") or 0
        folds = _mean(of_dataset, FOLDS)
        tested = round(images * min(folds or 1, of_dataset[comparison.unit].nunique()))
        text = too_few_tests(_mean(of_dataset, ACCURACY.key), tested, metric.margin)
        if text:
            more = "" if folds else "; dataset.folds tests on all images of a folder"
            unit = f"more {comparison.unit}s don’t change that"
            warnings.append(f"The test set is small for the margin: {text}; {unit}{more}.")
    return list(dict.fromkeys(warnings))


def _mean(rows: pd.DataFrame, column: str) -> float | None:
    if column not in rows:
        return None
    value = pd.to_numeric(rows[column], errors="coerce").mean()
    return None if pd.isna(value) else float(value)
