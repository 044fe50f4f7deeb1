"""The answer of `mixbench try`, as text: what to use, how sure, what it costs, what to paste."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from mixbench.analysis.recommend.answer import pasted, recommended, table
from mixbench.analysis.recommend.snippets import Defaults
from mixbench.analysis.report.data import ReportData
from mixbench.analysis.report.sections.checks import Right
from mixbench.analysis.statistics.costs import costs
from mixbench.analysis.statistics.recommendation import Option, Word
from mixbench.analysis.statistics.trial import Fit, Outcome, TrialAnswer, answer_of, with_images
from mixbench.analysis.statistics.units import FOLDS, overlap_of
from mixbench.analysis.text import formatting
from mixbench.analysis.text.names import method_name


@dataclass(frozen=True)
class TrialText:
    """The answer of a trial. text: all of it; headline: its first line."""

    answer: TrialAnswer
    headline: str
    text: str


def trial_text(data: ReportData, defaults: Defaults | None = None) -> TrialText:
    """Return what the finished runs of a trial come to."""
    regime = data.advice.regimes[0]
    # Folds test on other images each, and their spread has that luck already.
    has_folds = bool(overlap_of(data.comparison.unit))
    right = Right(data)
    images = {
        option.cell: error
        for option in regime.options
        if not has_folds
        and option.contrast is not None
        and (error := right.of(option.contrast)) is not None
    }
    base = next((one.cell for one in regime.options if one.word == Word.BASELINE), None)
    fit = None if base is None else _fit(data, base)
    answer = answer_of(regime.options, images, fit)
    headline = _headline(answer)
    lines = [headline, *(f"  - {reason}" for reason in answer.reasons), ""]
    lines += [
        *_sureness(answer.options, images, fit, has_folds=has_folds),
        *_baseline(fit),
        *_costs(data, regime.options),
    ]
    lines += ["", *table(regime, data.advice)]
    if answer.outcome == Outcome.USE:
        names = {option.name for option in answer.options}
        found = recommended(data.advice, data.comparison.cells, data.tables.runs, defaults)
        for one in found:
            if one.name in map(method_name, names):
                lines += ["", f"To use {one.name}:"]
                lines += [line for snippet in one.snippets for line in pasted(snippet)]
    return TrialText(answer, headline, "\n".join(lines))


def _headline(answer: TrialAnswer) -> str:
    names = [method_name(option.name) for option in answer.options]
    listed = formatting.joined(names, "or")
    if answer.outcome == Outcome.USE:
        apart = "; they can't be told apart" if len(names) > 1 else ""
        return f"Use {listed}: better than no mixing{apart}."
    if answer.outcome == Outcome.STAY:
        return (
            f"Stay without mixing: {listed} {'is' if len(names) == 1 else 'are'} not better here."
        )
    if answer.outcome == Outcome.CANT_JUDGE:
        return "Can't be judged: the network has not learnt enough for mixing to matter."
    return "Can't tell; until then stay without mixing."


def _sureness(
    options: Sequence[Option], images: Mapping[str, float], fit: Fit | None, *, has_folds: bool
) -> list[str]:
    lines = []
    for option in options:
        contrast = option.contrast
        if contrast is None or contrast.difference is None or contrast.low is None:
            continue
        ends = with_images(option, images)
        text = formatting.difference(contrast, True, 1)
        drawn = "folds, each with other test images" if has_folds else "replicates"
        line = f"how sure: {method_name(option.name)} {text} points over {contrast.n} {drawn}"
        if ends is not None and option.cell in images and fit is not None:
            low, high = (formatting.number(end, True, 1, sign=True) for end in ends)
            line += f"; [{low}, {high}] with other test images too (there are {fit.test_images})"
        lines.append(line)
    return lines


def _baseline(fit: Fit | None) -> list[str]:
    if fit is None:
        return []
    lines = [
        f"without mixing: {fit.accuracy:.1%} of the test images right (guessing: "
        f"{fit.majority:.1%}), {fit.train_accuracy:.1%} of the training images"
    ]
    if fit.is_overconfident:
        lines.append(
            f"  its NLL is {fit.nll:.1f} where equal probabilities have "
            f"{math.log(fit.classes):.1f}: what it says of its own certainty is worthless"
        )
    return lines


def _costs(data: ReportData, options: Sequence[Option]) -> list[str]:
    cells = data.comparison.cells
    keys, bases = cells["cell_key"], cells["baseline_key"]
    against = {
        str(key): base if isinstance(base, str) else None
        for key, base in zip(keys, bases, strict=True)
    }
    found = costs(data.tables.runs, against)
    texts = [
        f"{method_name(option.name)} {found[option.cell] - 1:+.0%}"
        for option in options
        if option.word != Word.BASELINE and option.cell in found
    ]
    return [f"costs, time per training image: {', '.join(texts)}"] if texts else []


def _fit(data: ReportData, base: str) -> Fit | None:
    runs: pd.DataFrame = data.done[data.done["cell_key"] == base]
    read = (data.predicted(str(key)) for key in runs["run_key"])
    labels = next((found.labels for found in read if found is not None), None)
    if runs.empty or labels is None or not len(labels):
        return None
    counts = np.bincount(labels)
    folds = data.fixed.get(FOLDS)
    tested = 1 if folds is None else min(int(folds), len(runs))
    classes = runs["data.classes"].iloc[0] if "data.classes" in runs else len(counts)
    means = {
        key: float(runs[key].mean()) for key in ("test/accuracy", "test/nll", "train/accuracy")
    }
    return Fit(
        accuracy=means["test/accuracy"],
        nll=means["test/nll"] if math.isfinite(means["test/nll"]) else math.inf,
        train_accuracy=means["train/accuracy"],
        majority=float(counts.max() / len(labels)),
        classes=int(classes),
        test_images=len(labels) * tested,
    )
