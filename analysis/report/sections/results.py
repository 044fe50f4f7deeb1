"""The main table: every metric by method, with differences to the baseline."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mixbench.analysis.report.data import ReportData, with_unit
from mixbench.analysis.report.parts import TONES, Cell, Row, Table, runs_of
from mixbench.analysis.report.sections.dose import doses
from mixbench.analysis.statistics.blocks import blocks
from mixbench.analysis.statistics.comparison import Comparison, crossed_values
from mixbench.analysis.statistics.components import components
from mixbench.analysis.statistics.estimates import Estimate
from mixbench.analysis.statistics.metrics import GAP, Metric
from mixbench.analysis.text import formatting
from mixbench.analysis.text.answer import metric_in_words
from mixbench.analysis.text.caveats import why_missing
from mixbench.analysis.text.verdict import verdict_words
from mixbench.experiments.design import tasks

MOST_CELLS = 1000
"""Of more configurations the table has few metrics: `tables/results.csv` has all."""


def section(data: ReportData) -> dict[str, Any]:
    """Return the tables, and what the notes below them need."""
    headline = data.comparison.headline
    differences = data.comparison.of_metric(headline.key).values()
    return {
        "table": _main_table(data),
        "has_differences": data.comparison.has_baseline,
        "unit": data.comparison.unit,
        "margin": _margin(headline),
        "headline": metric_in_words(headline).removeprefix("test "),
        "points": ", in points," if headline.percent else "",
        "task_note": _task_note(data),
        "comparisons": sum(difference.p is not None for difference in differences),
        "bins": _bins(data),
        "has_doses": bool(doses(data)),
        "occluded": _occluded(data),
        "status": _status(data.comparison, [headline.key]),
        "others_status": _status(
            data.comparison, [m.key for m in data.comparison.metrics if m.key != headline.key]
        ),
        "components": _components_table(data),
        "others": _difference_table(data),
    }


def _task_note(data: ReportData) -> str:
    """Say what the metrics of a task are; empty for classification, whose note is the page's."""
    row = data.tables.runs.iloc[0]
    task = tasks.of_config({"task.name": row.get("task.name")})
    return "" if task.name == tasks.CLASSIFICATION else task.note


def _margin(metric: Metric) -> str:
    """Return a margin with its unit; empty where the metric has none."""
    if metric.margin is None:
        return ""
    return f"{metric.margin * 100:g} points" if metric.percent else f"{metric.margin:.3g}"


def _status(compared: Comparison, metrics: Sequence[str]) -> str:
    """Say whether differences to the baseline are what the question declares."""
    if compared.declared is None:
        return ""
    found = [
        (contrast, key) for (_, key), contrast in compared.differences.items() if key in metrics
    ]
    declared = sum(compared.is_declared(contrast, key) for contrast, key in found)
    if not declared:
        return "exploratory"
    return "declared" if declared == len(found) else f"{declared} declared, the rest exploratory"


def _main_table(data: ReportData) -> Table:
    compared, of_cells = data.comparison, doses(data)
    columns = ["Replicates" if compared.unit == "replicate" else "Seeds"]
    columns += ["Dose, %"] if of_cells else []
    for metric in _shown_metrics(data):
        columns.append(with_unit(metric))
        if metric.key == compared.headline.key and compared.has_baseline:
            columns += [f"Difference{', points' if metric.percent else ''}", "Verdict"]
    rows = []
    for heading, members in blocks(compared.cells):
        if heading:
            rows.append(Row(heading, heading=True))
        for cell in members.itertuples():
            if not cell.done:
                runs = data.tables.runs[data.tables.runs["cell_key"] == cell.cell_key]
                rows.append(Row(str(cell.series), note=f"no finished run: {why_missing(runs)}"))
                continue
            is_baseline = str(cell.baseline_key) == str(cell.cell_key) and compared.has_baseline
            of_headline = compared.estimates.get((str(cell.cell_key), compared.headline.key))
            drawn = cell.done if of_headline is None else of_headline.n
            entries = (
                Cell(str(drawn)),
                *_dose_cell(of_cells, str(cell.cell_key)),
                *_entries(data, str(cell.cell_key)),
            )
            rows.append(Row(str(cell.series), entries, is_baseline=is_baseline))
    return Table(columns, rows)


def _shown_metrics(data: ReportData) -> list[Metric]:
    """Return the metrics of the table; of very many configurations few, and files have the rest."""
    metrics = data.comparison.metrics
    if len(data.comparison.cells) <= MOST_CELLS:
        return list(metrics)
    kept = (data.comparison.headline.key, data.comparison.primary.key, "test/ece", "test/nll")
    return [metric for metric in metrics if metric.key in kept]


def _dose_cell(of_cells: Mapping[str, Estimate], key: str) -> list[Cell]:
    """Return the dose of a cell, where the table has doses."""
    dose = of_cells.get(key)
    return [Cell("" if dose is None else formatting.number(dose.mean, True, 1))] * bool(of_cells)


def _entries(data: ReportData, key: str) -> list[Cell]:
    """Return all metrics of a cell; the headline one is followed by its difference and p."""
    entries = []
    for metric in _shown_metrics(data):
        value = data.comparison.estimates[key, metric.key]
        decimals = data.decimals(metric)
        mean = formatting.number(value.mean, metric.percent, decimals, sign=metric.key == GAP)
        minor = ""
        if value.half_width is not None:
            minor = f"± {formatting.number(value.half_width, metric.percent, decimals)}"
        drawn = f"n = {value.n}"
        if value.half_width is not None:
            drawn += f"; 95% {formatting.interval(value, metric.percent, decimals, sign=False)}"
        entries.append(Cell(mean, minor, tip=drawn, link=runs_of(key)))
        if metric.key == data.comparison.headline.key and data.comparison.has_baseline:
            decimals = data.difference_decimals(metric)
            entries += _difference_cells(data.comparison, key, metric, decimals)
    return entries


def _difference_cells(compared: Comparison, key: str, metric: Metric, decimals: int) -> list[Cell]:
    """Return a difference with its interval, and its p."""
    difference = compared.differences.get((key, metric.key))
    if difference is None:
        is_baseline = compared.cells.set_index("cell_key").loc[key, "baseline_key"] == key
        return [Cell("baseline" if is_baseline else "no baseline"), Cell("")]
    # A gap is neither good nor bad by its sign.
    tone = TONES.get(difference.verdict, "") if metric.better else ""
    mean = formatting.number(difference.mean, metric.percent, decimals, sign=True)
    interval = formatting.interval(difference, metric.percent, decimals)
    minor = "" if interval == formatting.MISSING else interval
    hint = f"n = {difference.n}"
    shown = Cell(mean, minor, tone, hint, runs_of(key))
    return [shown, Cell(verdict_words(difference, compared.unit))]


def _components_table(data: ReportData) -> Table | None:
    """Return what the spread of each difference is made of, where replicates have seeds."""
    compared = data.comparison
    values = crossed_values(data.tables.runs, compared.headline.key)
    rows = []
    for cell in compared.cells.itertuples():
        parts = components(
            {
                draw: value - values[str(cell.baseline_key)][draw]
                for draw, value in values.get(str(cell.cell_key), {}).items()
                if draw in values.get(str(cell.baseline_key), {})
            }
        )
        if parts is None or str(cell.baseline_key) == str(cell.cell_key):
            continue
        percent, sds = compared.headline.percent, (parts.replicate, parts.seed, parts.rest)
        shown = (formatting.number(sd, percent, 2) for sd in sds)
        entries = (*map(Cell, shown), Cell(parts.better_more))
        rows.append(Row(str(cell.label), entries))
    return Table(["Subset", "Seed", "Rest", "More of"], rows) if rows else None


def _difference_table(data: ReportData) -> Table | None:
    """Return paired differences on every metric but the headline one, each its own family."""
    compared = data.comparison
    metrics = [
        metric
        for metric in compared.metrics
        if metric.key != compared.headline.key and (metric.better or metric.key == GAP)
    ]
    if not compared.has_baseline or not metrics:
        return None
    decimals = {metric: data.difference_decimals(metric) for metric in metrics}
    rows: list[Row] = []
    for heading, members in blocks(compared.cells):
        block = []
        for cell in members.itertuples():
            key = str(cell.cell_key)
            if cell.done and (key, metrics[0].key) in compared.differences:
                entries = (
                    _difference_cells(compared, key, metric, decimals[metric])[0]
                    for metric in metrics
                )
                block.append(Row(str(cell.series), tuple(entries)))
        if block and heading:
            rows.append(Row(heading, heading=True))
        rows += block
    return Table([with_unit(metric, "points") for metric in metrics], rows)


def _bins(data: ReportData) -> str:
    bins = data.fixed.get("evaluation.ece_bins")
    return f"top label, {bins} equal-width bins" if bins is not None else "top label"


def _occluded(data: ReportData) -> str:
    """Say how many of the test images were occluded, where that is not all of them."""
    images = data.fixed.get("evaluation.occlusion.images")
    total = data.only_value("data.test")
    if images is None or total is None or images >= total:
        return ""
    return f"Occlusion: {int(images):,} of the {int(total):,} test images."
