"""The parts of a report that staging and transfer add: words, tables and figures."""

from __future__ import annotations

import json
from collections.abc import Hashable, Mapping
from typing import Any

import pandas as pd

from mixbench.analysis.figures import realised
from mixbench.analysis.report.parts import Cell, Figure, Row, both
from mixbench.analysis.statistics.comparison import ACCURACY, Comparison
from mixbench.analysis.statistics.pivot import Pivot, pivots
from mixbench.analysis.statistics.tests import is_number
from mixbench.analysis.tables.load import Tables
from mixbench.analysis.tables.schedules import NAME, PHASES, in_words, planned
from mixbench.analysis.text import formatting
from mixbench.analysis.text.verdict import standing
from mixbench.experiments.store.states import RunState

MOST_PANELS = 24


def pivot_tables(tables: Tables, compared: Comparison) -> list[dict[str, Any]]:
    """For each factor of staging and transfer: what it changes, for each setting of the others."""
    found = pivots(tables.cells, tables.runs, tables.origins)
    return [_pivot_table(pivot, compared) for pivot in found]


def schedule_words(tables: Tables) -> list[tuple[str, str]]:
    """Each schedule of the sweep and its phases in words."""
    rows: dict[str, list[str]] = {}
    if NAME in tables.cells:
        for cell in tables.cells.to_dict("records"):
            if cell[PHASES]:
                text = in_words(json.loads(cell[PHASES]), cell["augmentation.name"])
                rows.setdefault(cell[NAME], []).append(text)
    # What a name stands for can depend on the method, as not every one has boxes.
    return [(name, " | ".join(dict.fromkeys(texts))) for name, texts in rows.items()]


def schedule_figures(tables: Tables) -> list[Figure]:
    """What was mixed in each epoch, of the cells with a schedule; none where none has one."""
    mixing = tables.mixing.dropna(subset=["prob"])
    if mixing.empty:
        return []
    cells = tables.cells[tables.cells["cell_key"].isin(mixing["cell_key"])]
    total = len(cells)
    cells = cells.iloc[:MOST_PANELS].assign(
        method=cells["augmentation.name"].iloc[:MOST_PANELS], label=cells["label"]
    )
    plans = {
        str(cell["cell_key"]): values
        for cell in cells.to_dict("records")
        if (values := _planned(cell)) is not None
    }
    left = f" The first {MOST_PANELS} of {total} are shown." if total > MOST_PANELS else ""
    unknown = (
        " Where no plan is drawn, a phase begins or ends when only the training knows."
        if len(plans) < len(cells)
        else ""
    )
    return [
        both(
            "schedules.png",
            "Schedules: what was mixed when",
            "Part of the training images that was mixed in each epoch, mean over seeds, with "
            f"single seeds faint, as it was counted in training.{unknown}{left}",
            "Curves of how many images were mixed in each epoch, one panel per configuration",
            lambda paper: realised.realised_figure(cells, mixing, plans, paper),
        )
    ]


def pretraining_table(tables: Tables) -> dict[str, Any] | None:
    """The runs that others start from, a row per cell; None where there are none."""
    runs = tables.pretraining
    if runs.empty:
        return None
    columns = ["Network", "Epochs", "Runs done", "Accuracy there, %"]
    rows = []
    for key, own in runs.groupby("cell_key", sort=False):
        done = own[own["state"] == RunState.DONE]
        accuracies = [v for v in done.get(ACCURACY.key, pd.Series(dtype=float)) if is_number(v)]
        mean = sum(accuracies) / len(accuracies) if accuracies else None
        first = own.iloc[0]
        entries = (
            str(first["model.name"]),
            str(first["training.epochs"]),
            f"{len(done)} of {len(own)}",
            formatting.number(mean),
        )
        name = tables.origins.get(str(key)) or str(first["dataset.name"])
        rows.append(Row(name, tuple(map(Cell, entries))))
    return {"columns": columns, "rows": rows}


def _planned(cell: Mapping[Hashable, Any]) -> list[float] | None:
    prob, epochs = cell.get("augmentation.prob"), cell.get("training.epochs")
    if not is_number(prob) or not is_number(epochs):
        return None
    phases = json.loads(cell[PHASES])
    # Another method in a phase has a `prob` of its own.
    own = [{**phase, "prob": _prob(phase)} for phase in phases]
    return planned(own, float(prob or 0), int(epochs or 0))


def _prob(phase: Mapping[str, Any]) -> Any:
    method = phase.get("method")
    if phase.get("prob") is None and isinstance(method, Mapping):
        return method.get("prob")
    return phase.get("prob")


def _pivot_table(pivot: Pivot, compared: Comparison) -> dict[str, Any]:
    found = pivot.differences
    decimals = formatting.digits([d.half_width for d in found.values()], percent=True)
    decimals = formatting.difference_digits(found.values(), True, decimals)
    rows = [
        Row(
            name, tuple(_entry(pivot, compared, name, column, decimals) for column in pivot.columns)
        )
        for name in pivot.rows
    ]
    return {
        "key": pivot.key,
        "title": f"By {pivot.title}",
        "columns": list(pivot.columns),
        "rows": rows,
        "reference": pivot.reference if found else "",
        "comparisons": sum(difference.p is not None for difference in found.values()),
        "sentences": [text for name in pivot.rows if (text := _sentence(pivot, name, decimals))],
    }


def _entry(pivot: Pivot, compared: Comparison, name: str, column: str, decimals: int) -> Cell:
    key = pivot.cells.get((name, column))
    if key is None:
        return Cell("")
    score = compared.estimates.get((key, ACCURACY.key))
    mean = formatting.number(score.mean if score is not None else None)
    difference = pivot.differences.get(key)
    if difference is None:
        is_reference = column == pivot.reference and pivot.differences
        return Cell(mean, "compared with" if is_reference else "")
    tone = {"ahead": "good", "behind": "bad"}.get(standing(difference, 1), "")
    shown = formatting.number(difference.mean, True, decimals, sign=True)
    return Cell(mean, shown, tone)


def _sentence(pivot: Pivot, name: str, decimals: int) -> str:
    """Does the factor matter in this row?"""
    found = {
        column: difference
        for column in pivot.columns
        if (key := pivot.cells.get((name, column))) is not None
        and (difference := pivot.differences.get(key)) is not None
    }
    parts = []
    for kind in ("ahead", "behind"):
        names = [column for column in found if standing(found[column], 1) == kind]
        names.sort(key=lambda column: -abs(found[column].mean or 0))
        if names:
            shown = (
                f"{column} {formatting.difference(found[column], True, decimals)}"
                for column in names
            )
            parts.append(f"{kind} {'is' if len(names) == 1 else 'are'} {', '.join(shown)}")
    rest = sum(standing(difference, 1) not in ("ahead", "behind") for difference in found.values())
    if not found:
        return ""
    if not parts:
        return f"{name}: no difference to {pivot.reference} is clear."
    if rest:
        parts.append(f"no clear difference for {rest} more")
    return f"{name}, against {pivot.reference}: {'; '.join(parts)}."
