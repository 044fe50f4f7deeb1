"""What was chosen by tuning, on which scores, at what cost, and what the default gives."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pandas as pd

from mixbench.analysis.report.data import ReportData
from mixbench.analysis.report.parts import Cell, Row, Table
from mixbench.analysis.statistics.estimates import Estimate, estimate
from mixbench.analysis.statistics.metrics import Metric
from mixbench.analysis.statistics.units import overlap_of
from mixbench.analysis.tables.labels import setting_text
from mixbench.analysis.tables.load import STOPPED
from mixbench.analysis.text import formatting
from mixbench.analysis.text.answer import metric_in_words
from mixbench.analysis.text.formatting import joined
from mixbench.experiments.design.tasks import TaskMetric, test_metrics
from mixbench.experiments.design.tune import METRICS, ONE_SE
from mixbench.experiments.store import choices
from mixbench.experiments.store.choices import DEFAULT, TunedCell
from mixbench.experiments.store.run_folder import PlannedRun
from mixbench.experiments.text import plural

_SECONDS = ("timing.setup_seconds", "timing.train_seconds", "timing.evaluate_seconds")
_GAIN = "Gain"
_BRIEF = {
    "Setting": "Setting",
    "Within one SE of the best": "As good, within one SE",
    _GAIN: "Gain over the default",
    "Cost": "Cost of tuning",
}
"""The columns on the first screen, and their titles there."""
_CHOSEN, _SCORES = "Chosen settings", "All settings that were tried"


def section(data: ReportData) -> dict[str, Any]:
    """Return the tables and sentences; no tables in a sweep that tunes nothing."""
    plan = data.folder.plan()
    cells = choices.tuned_cells(data.folder.path, plan)
    if not cells:
        return {"tables": [], "sentences": [], "notes": [], "brief": None, "brief_note": ""}
    labels = dict(zip(data.tables.cells["cell_key"], data.tables.cells["label"], strict=True))
    minutes = {cell.cell_key: _minutes(data.tables.tuning, cell.runs) for cell in cells}
    rows = [_row(data, cell, labels, plan, minutes[cell.cell_key]) for cell in cells]
    percent = all(_is_percent(cell) for cell in cells)
    unit = "%" if percent else _metric_title(cells[0])
    columns = ["Setting", f"Validation score, {unit}", "Within one SE of the best"]
    head = data.comparison.headline
    shown, points = (", %", ", points") if head.percent else ("", "")
    columns += ["Spread of the settings", "Cost", f"{head.title}{shown}", f"Default{shown}"]
    columns += [f"{_GAIN}{points}"]
    tables = [(_CHOSEN, Table(columns, rows, first="Method"))]
    brief = _brief(tables[0][1])
    if made := [(cell, choice) for cell in cells if (choice := cell.choice())]:
        tables.append((_SCORES, _scores(made, labels)))
    return {
        "tables": tables,
        "sentences": [_sentence(data, cell, labels, plan) for cell in cells],
        "notes": _notes(cells, sum(minutes.values()), len(data.tables.tuning)),
        "brief": brief,
        "brief_note": _brief_note(cells, labels, metric_in_words(head)),
    }


def _brief(table: Table) -> Table:
    """Return the columns for the first screen."""
    places = {}
    for name, title in _BRIEF.items():
        column = next(one for one in table.columns if one.partition(", ")[0] == name)
        places[table.columns.index(column)] = title + column.removeprefix(name)
    rows = [
        replace(row, cells=tuple(row.cells[n] for n in places if row.cells)) for row in table.rows
    ]
    return Table(list(places.values()), rows, first=table.first)


def _brief_note(cells: Sequence[TunedCell], labels: Mapping[str, str], where: str) -> str:
    edges = [
        f"{joined(keys)} of {labels.get(cell.cell_key, cell.cell_key[:8])}"
        for cell in cells
        if (choice := cell.choice()) and (keys := _edges(choice, cell))
    ]
    note = (
        f"Chosen on validation images, by replicates of their own; the gain is in {where}, "
        "paired, with its own 95% interval."
    )
    if edges:
        note += f" At the edge of what was tried, so others might be better: {joined(edges)}."
    return note


def _row(
    data: ReportData,
    cell: TunedCell,
    labels: Mapping[str, str],
    plan: Sequence[PlannedRun],
    minutes: float,
) -> Row:
    label, choice = labels.get(cell.cell_key, cell.cell_key[:8]), cell.choice()
    if choice is None:
        return Row(label, note=_why_not(cell))
    percent, tried = _is_percent(cell), choice["settings"]
    chosen = next(one for one in tried if one["cell_key"] == choice["chosen"])
    means = [one["mean"] for one in tried]
    head = data.comparison.headline
    tuned = data.comparison.estimates.get((cell.cell_key, head.key))
    default, gain = _default(data, cell, plan)
    decimals = data.decimals(head)
    entries = (
        setting_text(choice["values"]),
        _score(chosen, percent),
        f"{_near(choice)} of {len(tried)}",
        formatting.number(max(means) - min(means), percent, 2 if percent else 3),
        f"{plural(len(cell.runs), 'run')}, {minutes:.1f} core-minutes",
        formatting.estimate(tuned, head.percent, decimals) if tuned else formatting.MISSING,
        formatting.estimate(default, head.percent, decimals) if default else formatting.MISSING,
        _gain_text(gain, head, decimals) if gain else formatting.MISSING,
    )
    return Row(label, tuple(map(Cell, entries)))


def _scores(
    made: Sequence[tuple[TunedCell, Mapping[str, Any]]], labels: Mapping[str, str]
) -> Table:
    """Return the settings of each cell, the best first."""
    rows = []
    for cell, choice in made:
        rows.append(Row(labels.get(cell.cell_key, cell.cell_key[:8]), heading=True))
        percent, better = _is_percent(cell), METRICS[choice["metric"]]
        best = max(better * one["mean"] for one in choice["settings"])
        for one in sorted(choice["settings"], key=lambda one: -better * one["mean"]):
            is_chosen = one["cell_key"] == choice["chosen"]
            behind = better * one["mean"] - best
            entries = (
                _score(one, percent),
                formatting.number(better * behind, percent, 2 if percent else 3, sign=True),
                formatting.number(one["dose"], False, 2),
                "chosen" if is_chosen else "",
            )
            rows.append(Row(setting_text(one["values"]), tuple(map(Cell, entries))))
        for one in reversed(choice.get("stopped", ())):
            entries = (
                _score(one, percent),
                formatting.MISSING,
                formatting.MISSING,
                f"stopped after epoch {one['epoch']}",
            )
            rows.append(Row(setting_text(one["values"]), tuple(map(Cell, entries))))
    title = _metric_title(made[0][0])
    return Table([title, "To the best", "Dose", ""], rows, first="Setting")


def _sentence(
    data: ReportData, cell: TunedCell, labels: Mapping[str, str], plan: Sequence[PlannedRun]
) -> str:
    label, choice = labels.get(cell.cell_key, cell.cell_key[:8]), cell.choice()
    if choice is None:
        return f"{label}: {_why_not(cell)}."
    number, near = len(choice["settings"]), _near(choice)
    stopped = len(choice.get("stopped", ()))
    flat = (
        f"{near} of {number} settings are within one standard error of the best"
        if near > 1
        else f"no other of {number} settings is within a standard error of it"
    )
    if number == 1:
        flat = "no other was trained to the end"
    parts = [f"{label}: {setting_text(choice['values'])} was chosen; {flat}"]
    if stopped:
        parts.append(
            f"{plural(stopped, 'other')} {'was' if stopped == 1 else 'were'} stopped early"
        )
    if edges := _edges(choice, cell):
        parts.append(f"it lies at the edge of {formatting.joined(edges)}")
    default, gain = _default(data, cell, plan)
    if default is None and not any(run.part == DEFAULT for run in plan if _of(run, cell)):
        if data.spec.get("tune", {}).get("default", True):
            parts.append("it is the untuned default")
    elif gain is not None and gain.mean is not None:
        head = data.comparison.headline
        text = _gain_text(gain, head, data.decimals(head))
        points = " points of" if head.percent else " in"
        changes = "gains" if head.better > 0 else "changes by"
        where = metric_in_words(head)
        parts.append(f"against the untuned default it {changes} {text}{points} {where}")
    return f"{'; '.join(parts)}."


def _notes(cells: Sequence[TunedCell], minutes: float, runs: int) -> list[str]:
    how = cells[0].how
    halved = bool(how["halving"])
    better = "higher" if METRICS[how["metric"]] > 0 else "lower"
    rule = "the best mean was chosen"
    if how["rule"] == ONE_SE:
        rule = (
            "the weakest setting within one standard error of the best mean was chosen: the one "
            "with the smallest dose, of equal doses the one with the smallest values"
        )
    return [
        f"Chosen by {how['metric']} ({better} is better), on the validation split alone, over "
        f"{plural(len(how['draws']), 'tuning replicate')} that are none of the final ones: {rule}. "
        "Scores are means ± standard errors over these replicates; the score of the best is the "
        "best of several, and so too good. Test results are those of the final runs, on the test "
        "set, which chose nothing."
        + (" Scores of settings that were stopped are those of that epoch." if halved else ""),
        f"Tuning took {plural(runs, 'run')} and {minutes:.1f} core-minutes. Its runs are in no "
        "comparison. Gain: tuned minus default, paired, with its own 95% t interval.",
    ]


def _why_not(cell: TunedCell) -> str:
    if problem := cell.problem():
        return f"not chosen, and its final runs are not trained: {problem}"
    return f"not chosen yet: {cell.ended()} of {plural(len(cell.runs), 'tuning run')} done"


def _near(choice: Mapping[str, Any]) -> int:
    """Count the settings within one standard error of the best, itself included."""
    better = METRICS[choice["metric"]]
    best = max(choice["settings"], key=lambda one: better * one["mean"])
    reach = best["standard_error"] or 0.0
    return sum(better * (best["mean"] - one["mean"]) <= reach for one in choice["settings"])


def _edges(choice: Mapping[str, Any], cell: TunedCell) -> list[str]:
    """Return the keys whose smallest or largest value was chosen: others might be better still."""
    found = []
    for key, values in cell.how["over"].items():
        are_numbers = all(isinstance(one, int | float) for one in values)
        if are_numbers and choice["values"][key] in (min(values), max(values)):
            found.append(key.rpartition(".")[2])
    return found


def _default(
    data: ReportData, cell: TunedCell, plan: Sequence[PlannedRun]
) -> tuple[Estimate | None, Estimate | None]:
    """Return the metric of the untuned cell, and what the tuned one gains on the same draws."""
    metric = data.comparison.headline.key
    keys = {run.cell_key for run in plan if _of(run, cell)}
    done = data.done
    if not keys or metric not in done:
        return None, None
    draw = [name for name in ("replicate", "seed") if name in done]
    values = {
        key: done[done["cell_key"] == key].set_index(draw)[metric] for key in (*keys, cell.cell_key)
    }
    default = values[next(iter(keys))]
    gains = (values[cell.cell_key] - default).dropna()
    overlap = overlap_of(data.comparison.unit)
    return (
        estimate(default.tolist(), overlap=overlap),
        estimate(gains.tolist(), overlap=overlap),
    )


def _of(run: PlannedRun, cell: TunedCell) -> bool:
    return run.part == DEFAULT and (run.tune or {}).get("of") == cell.cell_key


def _minutes(tuning: pd.DataFrame, runs: Sequence[PlannedRun]) -> float:
    """Return the core-minutes of runs, of those that were stopped as long as they were held."""
    if tuning.empty or not set(_SECONDS) <= set(tuning.columns):
        return 0.0
    own = tuning[tuning["run_key"].isin([run.run_key for run in runs])]
    threads = own["provenance.threads"].fillna(1).astype(float)
    seconds = own[list(_SECONDS)].astype(float).sum(axis=1)
    stopped = set(own.loc[own["state"] == STOPPED, "run_key"])
    held = [_held(run) for run in runs if run.run_key in stopped]
    return float((seconds * threads).sum() + sum(held) * threads.max()) / 60


def _held(run: PlannedRun) -> float:
    """Return for how many seconds workers held a run."""
    times = [(row.get("started"), row.get("ended")) for row in run.folder.attempts()]
    return float(sum(ended - began for began, ended in times if began and ended))


def _gain_text(gain: Estimate, metric: Metric, decimals: int) -> str:
    mean = formatting.number(gain.mean, metric.percent, decimals, sign=True)
    if gain.half_width is None:
        return mean
    return f"{mean} {formatting.interval(gain, metric.percent, decimals)}"


def _score(one: Mapping[str, Any], percent: bool) -> str:
    decimals = 2 if percent else 3
    mean = formatting.number(one["mean"], percent, decimals)
    if one["standard_error"] is None:
        return mean
    return f"{mean} ± {formatting.number(one['standard_error'], percent, decimals)}"


def _is_percent(cell: TunedCell) -> bool:
    metric = _tested(cell)
    return metric is not None and metric.percent


def _metric_title(cell: TunedCell) -> str:
    metric = _tested(cell)
    if metric is None:
        return "NLL"
    title = metric.title if metric.title.isupper() else metric.title[0].lower() + metric.title[1:]
    return f"{title}, %" if metric.percent else title


def _tested(cell: TunedCell) -> TaskMetric | None:
    """Return what the validation metric is called on the test set; None for the NLL."""
    name = str(cell.how["metric"]).removeprefix("validation/")
    return test_metrics().get(f"test/{name}") if name != "nll" else None
