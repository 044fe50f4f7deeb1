"""Write the report of a sweep: report.html, report.md, runs.csv, verdicts.json and figures."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from mixbench.analysis.report import paper_tables
from mixbench.analysis.report.data import ReportData, collect
from mixbench.analysis.report.files import CSV, FIGURES, HTML, MARKDOWN, TABLES, write_files
from mixbench.analysis.report.page import render
from mixbench.analysis.report.sections import (
    budget,
    calibration,
    checks,
    claims,
    classes,
    dose,
    factors,
    first,
    measurements,
    mixed,
    noise,
    occlusion,
    pairs,
    pretraining,
    provenance,
    question,
    reproduction,
    results,
    runs,
    schedules,
    setup,
    summary,
    to_use,
    tuning,
    warnings,
)
from mixbench.analysis.report.verdicts import VERDICTS, of_comparison
from mixbench.analysis.report.worded import worded
from mixbench.analysis.statistics.baselines import Baseline
from mixbench.analysis.tables.load import Tables
from mixbench.analysis.tables.recipes import DEFAULTS
from mixbench.analysis.text.verdict import Summary
from mixbench.experiments.store.sweep_folder import SweepFolder

SECTIONS: dict[str, Callable[[ReportData], dict[str, Any]]] = {
    "summary": summary.section,
    "first": first.section,
    "to_use": to_use.section,
    "claims": claims.section,
    "warnings": warnings.section,
    "question": question.section,
    "results": results.section,
    "budget": budget.section,
    "dose": dose.section,
    "schedules": schedules.section,
    "noise": noise.section,
    "occlusion": occlusion.section,
    "classes": classes.section,
    "calibration": calibration.section,
    "pairs": pairs.section,
    "factors": factors.section,
    "tuning": tuning.section,
    "measurements": measurements.section,
    "checks": checks.section,
    "mixed": mixed.section,
    "setup": setup.section,
    "pretraining": pretraining.section,
    "runs": runs.section,
    "provenance": provenance.section,
    "reproduction": reproduction.section,
}
"""The page, in order. Each section gives the template its words and tables, and its figures."""


@dataclass(frozen=True)
class Report:
    """The files that were written, and the verdict. tables: those for a paper."""

    folder: Path
    figures: tuple[Path, ...]
    verdict: Summary
    warnings: tuple[str, ...]
    tables: tuple[Path, ...] = ()

    @property
    def html(self) -> Path:
        """The page for a browser, which needs no other file."""
        return self.folder / HTML

    @property
    def markdown(self) -> Path:
        """The same page in Markdown, with links to the figures."""
        return self.folder / MARKDOWN

    @property
    def csv(self) -> Path:
        """The table of all runs."""
        return self.folder / CSV

    @property
    def paths(self) -> tuple[Path, ...]:
        """All files of the report."""
        pages = (self.html, self.markdown, self.csv, self.folder / VERDICTS)
        return (*pages, *self.figures, *self.tables)


def write_report(
    sweep_folder: SweepFolder,
    out_dir: Path | None = None,
    baseline: Baseline = None,
    *,
    links: bool = True,
) -> Report:
    """Write the report of whatever is finished, to `<sweep>/report` or `out_dir`.

    baseline: which cells the others are compared with, see
    `mixbench.analysis.statistics.comparison.compare`; None takes the sweep's own, or augmentation
    "none". links: whether the page leads to the folders of runs; from a copy they would lead
    nowhere. Every file is written whole or not at all. UserError when no run has finished, or the
    baseline fits no cell.
    """
    out = Path(out_dir) if out_dir is not None else sweep_folder.path / "report"
    data = collect(sweep_folder, baseline, out if links else None)
    page = worded(data)
    sections = {name: section(page) for name, section in SECTIONS.items()}
    figures = {
        f"{FIGURES}/{figure.name}": figure.light
        for section in sections.values()
        for figure in section.get("figures", ())
    }
    files = {CSV: _csv(data.tables), VERDICTS: of_comparison(data.comparison, data.spec)}
    paper = paper_tables.table_files(data)
    if by_class := sections["classes"]["csv"]:
        paper[f"{TABLES}/classes.csv"] = by_class
    write_files(out, {**figures, **files, **paper, **render(sections)})
    verdict, warnings = sections["summary"]["verdict"], sections["warnings"]["list"]
    paths = [tuple(out / name for name in names) for names in (figures, paper)]
    return Report(out, paths[0], verdict, tuple(warnings), paths[1])


def _csv(tables: Tables) -> str:
    """Return all runs, with a mark on those that are there only for others, if there are any."""
    runs = tables.runs
    others = {"pretraining": tables.pretraining, "tuning": tables.tuning}
    marks = [mark for mark, rows in others.items() if not rows.empty]
    if marks:
        parts = [runs.assign(**dict.fromkeys(marks, False))]
        parts += [others[mark].assign(**{name: name == mark for name in marks}) for mark in marks]
        runs = pd.concat([part.astype(object) for part in parts])
    # Unset, it leaves the keys of runs as they were before there was a choice.
    for field, default in DEFAULTS.items():
        if field in runs:
            runs = runs.assign(**{field: runs[field].fillna(default)})
    return runs.to_csv(index=False)
