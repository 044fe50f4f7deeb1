"""Accuracy by class, what classes are mistaken for, and what each method changes of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from mixbench.analysis.figures.canvas import ReportFigure, on_both_papers
from mixbench.analysis.figures.heat_maps import HeatMap, heat_maps_figure
from mixbench.analysis.report.data import ReportData
from mixbench.analysis.report.parts import Cell, Row, Table, runs_of
from mixbench.analysis.statistics import classes as by_class
from mixbench.analysis.statistics.blocks import blocks
from mixbench.analysis.statistics.classes import Counts, Shares
from mixbench.analysis.statistics.estimates import Estimate
from mixbench.analysis.statistics.units import overlap_of
from mixbench.analysis.tables.predictions import MOST_RUNS
from mixbench.analysis.text import formatting
from mixbench.analysis.text.names import regime_name
from mixbench.experiments.design import tasks
from mixbench.experiments.store.files import read_json
from mixbench.experiments.text import plural

MOST_METHODS = 6
"""So many configurations are shown, the baseline and the best others; the file has all."""
MOST_ROWS, WORST = 20, 12
"""Of more classes than the first, the table and the maps have the worst ones."""
_NAME = 16


@dataclass
class Named:
    """What the runs of a cell named their test images.

    Attributes:
        counts: Of all runs together (K, K), by true and named class.
        accuracies: Replicate -> accuracy by class (K,).
    """

    counts: Counts
    accuracies: dict[int, Shares] = field(default_factory=dict)

    @property
    def shares(self) -> Shares:
        """The counts as shares of the true class."""
        return by_class.shares(self.counts)

    @property
    def means(self) -> Shares:
        """The accuracy by class, the mean over replicates; NaN for a class without images."""
        rows = np.array(list(self.accuracies.values()))
        known = np.isfinite(rows).sum(axis=0)
        found = np.full(rows.shape[1], np.nan)
        np.divide(np.nansum(rows, axis=0), known, out=found, where=known > 0)
        return found


@dataclass(frozen=True)
class _Shown:
    """A regime of the page: its title, cell_key -> name, what they named, and the classes."""

    title: str
    names: Mapping[str, str]
    named: Mapping[str, Named]
    base: str | None
    classes: Sequence[str]
    comparisons: int = 1

    @property
    def against(self) -> Named | None:
        return None if self.base is None else self.named.get(self.base)

    @property
    def pooled(self) -> Shares:
        """The mean of the cells' shares."""
        total: Shares = np.array([self.named[key].shares for key in self.names]).mean(axis=0)
        return total


def section(data: ReportData) -> dict[str, Any]:
    """Return the table, the figures, a note, and the file with every configuration and class."""
    empty: dict[str, Any] = {"table": None, "figures": [], "note": "", "csv": ""}
    if tasks.of_config(_first(data)).name != tasks.CLASSIFICATION:
        return empty
    if len(data.done) > MOST_RUNS:
        note = f"The predictions of more than {MOST_RUNS:,} runs are not read for this."
        return {**empty, "note": note}
    rows: list[pd.DataFrame] = []
    shown, left = None, 0
    for title, members in blocks(data.comparison.cells):
        regime, file_rows = _regime(data, title, members)
        rows += file_rows
        if shown is None and regime is not None:
            shown = regime
        left += regime is not None
    if shown is None:
        return empty
    return {
        "table": _table(data, shown),
        "figures": _figures(shown),
        "note": _note(data, shown, left, len(rows)),
        "csv": pd.concat(rows).to_csv(index=False),
    }


def _first(data: ReportData) -> dict[str, Any]:
    return {"task.name": data.tables.runs.iloc[0].get("task.name")}


def _regime(
    data: ReportData, title: str, members: pd.DataFrame
) -> tuple[_Shown | None, list[pd.DataFrame]]:
    """Return what is shown of a block, if it has predictions, and the file's rows of all of it."""
    done = members[members["done"] > 0]
    bases = [key for key in done["baseline_key"].dropna().unique() if key in set(done["cell_key"])]
    base = str(bases[0]) if len(bases) == 1 else None
    metric = data.comparison.primary

    def worth(key: str) -> float:
        found = data.comparison.estimates.get((key, metric.key))
        return 0.0 if found is None or found.mean is None else -found.mean * (metric.better or 1)

    keys = sorted(map(str, done["cell_key"]), key=lambda key: (key != base, worth(key)))
    kept: dict[str, Named] = {}
    rows, classes = [], None
    series = dict(zip(map(str, done["cell_key"]), map(str, done["series"]), strict=True))
    for key in keys:
        found = _named(data, key)
        if found is None or (kept and len(found.counts) != len(next(iter(kept.values())).counts)):
            continue
        classes = classes or _classes(data, key, len(found.counts))
        rows.append(_file_rows(title, series[key], key, found, classes))
        if len(kept) < MOST_METHODS:
            kept[key] = found
    if not kept or classes is None:
        return None, rows
    ordered = {key: series[key] for key in series if key in kept}
    others = max(1, len(ordered) - 1) * min(MOST_ROWS, len(classes))
    return _Shown(title, ordered, kept, base if base in kept else None, classes, others), rows


def _named(data: ReportData, cell: str) -> Named | None:
    runs = data.done[data.done["cell_key"] == cell]
    draws = runs[str(data.comparison.unit)]
    counts: dict[int, Counts] = {}
    for draw, key in zip(map(int, draws), map(str, runs["run_key"]), strict=True):
        found = data.predicted(key)
        if found is not None:
            more = by_class.confusion(found.labels, found.named, found.classes)
            # Seeds of one replicate are taken together.
            counts[draw] = counts[draw] + more if draw in counts else more
    if not counts or len({len(one) for one in counts.values()}) > 1:
        return None
    total = np.sum(list(counts.values()), axis=0)
    return Named(total, {draw: np.diag(by_class.shares(one)) for draw, one in counts.items()})


def _classes(data: ReportData, cell: str, count: int) -> list[str]:
    """Return the names of the classes, as the first run of the cell has them."""
    runs = data.done[data.done["cell_key"] == cell]
    result = read_json(data.folder.path / "runs" / str(runs["run_key"].iloc[0]) / "result.json")
    names = result.get("dataset", {}).get("classes") if isinstance(result, dict) else None
    if isinstance(names, list) and len(names) == count:
        return [str(name) for name in names]
    return [f"class {number}" for number in range(count)]


def _file_rows(
    title: str, name: str, cell: str, found: Named, classes: Sequence[str]
) -> pd.DataFrame:
    shares, means = found.shares, found.means
    pairs = [by_class.most_confused(shares[label], label) for label in range(len(classes))]
    return pd.DataFrame(
        {
            "setting": title,
            "method": name,
            "cell_key": cell,
            "class": classes,
            "replicates": len(found.accuracies),
            "test_images": found.counts.sum(axis=1),
            "accuracy": means,
            "most_confused_with": [None if pair is None else classes[pair[0]] for pair in pairs],
            "share": [None if pair is None else pair[1] for pair in pairs],
        }
    )


def _table(data: ReportData, shown: _Shown) -> Table:
    against = shown.against
    first = shown.base or next(iter(shown.names))
    methods = [key for key in shown.names if key != shown.base or against is None]
    columns = ["Test images"]
    if against is not None:
        columns += [f"{shown.names[first]}, %", "Most often taken for"]
    points = ", points" if against is not None else ", %"
    columns += [f"{shown.names[key]}{points}" for key in methods]
    found = {
        key: by_class.differences(
            shown.named[key].accuracies,
            against.accuracies,
            overlap=overlap_of(data.comparison.unit),
            comparisons=shown.comparisons,
        )
        for key in methods
        if against is not None
    }
    rows = []
    for label in _rows(shown):
        entries = [Cell(_images(shown.named[first], label))]
        if against is not None:
            mean = Cell(formatting.number(float(against.means[label])), link=runs_of(first))
            entries += [mean, Cell(_taken_for(against, label, shown.classes))]
        for key in methods:
            one = found[key][label] if found.get(key) else None
            entries.append(_method_cell(shown, key, label, one, against is not None))
        rows.append(Row(shown.classes[label], tuple(entries)))
    return Table(columns, rows, first="Class")


def _rows(shown: _Shown) -> list[int]:
    """Return the classes of the table: all, or the worst ones, the worst first."""
    if len(shown.classes) <= MOST_ROWS:
        return list(range(len(shown.classes)))
    mean = np.nan_to_num(np.diag(shown.pooled), nan=2.0)
    return [int(label) for label in np.argsort(mean, kind="stable")[:MOST_ROWS]]


def _images(found: Named, label: int) -> str:
    """Return how many test images of a class a replicate has, on average."""
    images = float(found.counts[label].sum()) / len(found.accuracies)
    return f"{images:,.0f}" if images == round(images) else f"{images:,.1f}"


def _taken_for(found: Named, label: int, classes: Sequence[str]) -> str:
    pair = by_class.most_confused(found.shares[label], label)
    return "" if pair is None else f"{classes[pair[0]]} ({formatting.number(pair[1])}%)"


def _method_cell(
    shown: _Shown, key: str, label: int, one: Estimate | None, is_compared: bool
) -> Cell:
    named = shown.named[key]
    accuracy = formatting.number(float(named.means[label]))
    taken = _taken_for(named, label, shown.classes)
    tip = f"most often taken for {taken}" if taken else "never taken for another"
    if not is_compared:
        return Cell(accuracy, taken, link=runs_of(key))
    if one is None or one.mean is None:
        return Cell(formatting.MISSING, accuracy, tip=tip)
    tone = ""
    if one.low is not None and one.high is not None:
        tip = f"n = {one.n}; {formatting.interval(one, True, 1)}; {tip}"
        if one.half_width and one.low * one.high > 0:
            tone = "good" if one.mean > 0 else "bad"
    shift = formatting.number(one.mean, True, 1, sign=True)
    return Cell(shift, f"{accuracy}%", tone, tip, runs_of(key))


def _figures(shown: _Shown) -> list[ReportFigure]:
    """Return the confusions by method, and their differences to the baseline."""
    labels = list(range(len(shown.classes)))
    some = ""
    if len(labels) > WORST:
        labels = by_class.hardest_pairs(shown.pooled, WORST)
        some = (
            f" The {WORST} of {len(shown.classes)} classes that are most often taken for each "
            "other; the last column has all other classes together."
        )
    whole = {key: _part(shown.named[key].shares, labels) for key in shown.names}
    names = [_short(shown.classes[label]) for label in labels]
    maps = [_map(shown.names[key], values, names, sign=False) for key, values in whole.items()]
    figures = [
        on_both_papers(
            "confusion.png",
            "Confusions",
            "Of each class (row), how many percent of its test images were named what (column); "
            f"the diagonal is the accuracy.{some}",
            f"Confusion matrices of {formatting.joined(shown.names.values())}",
            lambda paper: heat_maps_figure(maps, paper, diverging=False, is_alike=True),
        )
    ]
    if shown.base is None or len(whole) < 2:
        return figures
    base = whole[shown.base]
    changes = [
        _map(shown.names[key], values - base, names, sign=True)
        for key, values in whole.items()
        if key != shown.base
    ]
    figures.append(
        on_both_papers(
            "confusion-differences.png",
            "What each method changes",
            f"The same, minus {shown.names[shown.base]}, in points. On the diagonal more is "
            "better, beside it less; the colours are turned there, so that green is better "
            f"everywhere.{some}",
            f"Differences of the confusion matrices to {shown.names[shown.base]}",
            lambda paper: heat_maps_figure(changes, paper, is_alike=True),
        )
    )
    return figures


def _part(whole: Shares, labels: Sequence[int]) -> Shares:
    """Return the rows and columns of these classes, with a column for all others, if there are."""
    part: Shares = whole[np.ix_(labels, labels)]
    if len(labels) == len(whole):
        return part
    return np.column_stack([part, whole[labels].sum(axis=1) - part.sum(axis=1)])


def _map(title: str, values: Shares, names: Sequence[str], *, sign: bool) -> HeatMap:
    columns = pd.Index([*names, "others"][: values.shape[1]])
    rows = pd.Index(names)
    percent = values * 100

    def text(value: float) -> str:
        # A field without any image stays empty, so that the others are seen.
        shown = formatting.number(value, False, 0, sign=sign)
        return "" if shown in ("0", formatting.MISSING) else shown

    texts = pd.DataFrame([[text(v) for v in row] for row in percent], index=rows, columns=columns)
    turn = 2.0 * np.eye(*values.shape) - 1.0 if sign else 1.0
    frame = pd.DataFrame(percent * turn, index=rows, columns=columns)
    return HeatMap(title, frame, texts, x_label="named", y_label="class")


def _short(name: str) -> str:
    return name if len(name) <= _NAME else f"{name[: _NAME - 1]}…"


def _note(data: ReportData, shown: _Shown, regimes: int, cells: int) -> str:
    unit = data.comparison.unit
    parts = [
        f"Accuracy by class, mean over {unit}s, and how many of a class's test images are most "
        f"often taken for which other; test images: of one {unit}."
    ]
    if shown.against is not None:
        text = f"Differences are paired by {unit}, exploratory"
        if len(shown.against.accuracies) > 1:
            text += (
                f"; hovering shows an interval, and the {plural(shown.comparisons, 'interval')} "
                "hold together with a confidence of 95% (Bonferroni)"
            )
        parts.append(f"{text}.")
    if len(shown.classes) > MOST_ROWS:
        parts.append(f"The worst {MOST_ROWS} of {len(shown.classes)} classes, the worst first.")
    if regimes > 1:
        parts.append(f"This is the regime “{regime_name(shown.title)}”, one of {regimes}.")
    if cells > len(shown.names):
        parts.append(f"{len(shown.names)} of {cells} configurations are shown.")
    parts.append("All of it is in tables/classes.csv.")
    return " ".join(parts)
