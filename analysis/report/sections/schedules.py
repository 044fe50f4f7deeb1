"""Describe the schedules of mixing, and draw what was mixed in each epoch."""

from __future__ import annotations

import json
from collections.abc import Hashable, Mapping
from typing import Any

from mixbench.analysis.figures.canvas import ReportFigure, on_both_papers
from mixbench.analysis.figures.schedules import schedules_figure
from mixbench.analysis.numbers import is_number
from mixbench.analysis.report.data import ReportData
from mixbench.analysis.tables.load import Tables
from mixbench.analysis.tables.schedules import NAME, PHASES, in_words, planned

MOST_PANELS = 24
MOST_PHASES = 8


def section(data: ReportData) -> dict[str, Any]:
    """Return (name, phases in words) of each schedule, and the figure where one has a schedule."""
    return {"words": _words(data.tables), "figures": _figures(data.tables)}


def _words(tables: Tables) -> list[tuple[str, str]]:
    rows: dict[str, list[str]] = {}
    if NAME in tables.cells:
        for cell in tables.cells.to_dict("records"):
            if cell[PHASES]:
                text = in_words(json.loads(cell[PHASES]), cell["augmentation.name"])
                rows.setdefault(cell[NAME], []).append(text)
    # A name's phases can depend on the method, as not every method has boxes.
    return [
        (name, " | ".join(dict.fromkeys(map(_shortened, texts)))) for name, texts in rows.items()
    ]


def _shortened(text: str) -> str:
    """Leave out the middle of many phases, such as those of every second or third epoch."""
    phases = text.split("; ")
    if len(phases) <= MOST_PHASES:
        return text
    return f"{'; '.join(phases[:3])}; …; {phases[-1]} ({len(phases)} phases)"


def _figures(tables: Tables) -> list[ReportFigure]:
    mixing = tables.mixing.dropna(subset=["prob"])
    if mixing.empty:
        return []
    cells = tables.cells[tables.cells["cell_key"].isin(mixing["cell_key"])]
    total = len(cells)
    cells = cells.iloc[:MOST_PANELS].assign(method=lambda shown: shown["augmentation.name"])
    plans = {
        str(cell["cell_key"]): values
        for cell in cells.to_dict("records")
        if (values := _planned(cell)) is not None
    }
    left_out = f" The first {MOST_PANELS} of {total} are shown." if total > MOST_PANELS else ""
    unknown = (
        " Where no plan is drawn, a phase begins or ends when only the training knows."
        if len(plans) < len(cells)
        else ""
    )
    return [
        on_both_papers(
            "schedules.png",
            "Schedules: what was mixed when",
            "Part of the training images that was mixed in each epoch, mean over seeds, with "
            f"single seeds faint, as it was counted in training.{unknown}{left_out}",
            "Curves of how many images were mixed in each epoch, one panel per configuration",
            lambda paper: schedules_figure(cells, mixing, plans, paper),
        )
    ]


def _planned(cell: Mapping[Hashable, Any]) -> list[float] | None:
    """Return the planned probability in each epoch, if it is known in advance."""
    prob, epochs = cell.get("augmentation.prob"), cell.get("training.epochs")
    if not is_number(prob) or not is_number(epochs):
        return None
    # Another method in a phase has a `prob` of its own.
    phases = [{**phase, "prob": _prob(phase)} for phase in json.loads(cell[PHASES])]
    return planned(phases, float(prob), int(epochs))


def _prob(phase: Mapping[str, Any]) -> Any:
    method = phase.get("method")
    if phase.get("prob") is None and isinstance(method, Mapping):
        return method.get("prob")
    return phase.get("prob")
