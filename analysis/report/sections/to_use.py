"""What to do next, and the lines to paste for what is recommended."""

from __future__ import annotations

import shlex
from typing import Any

from mixbench.analysis.recommend.answer import pasted, recommended
from mixbench.analysis.report.data import ReportData
from mixbench.analysis.report.sections.reproduction import sweep_command
from mixbench.analysis.statistics.units import FOLDS
from mixbench.analysis.text.next_step import Standing, next_step
from mixbench.analysis.text.regime_warnings import small_tests, training_warnings
from mixbench.experiments.design.question import TUNE
from mixbench.experiments.store.states import RunState

_MOST_PASTED = 4


def section(data: ReportData) -> dict[str, Any]:
    """Return the next step, and (name, lines) of each method to use."""
    runs, compared = data.tables.runs, data.judged or data.comparison
    states = runs["state"].value_counts()
    failed = int(states.get(str(RunState.FAILED), 0))
    has_folds = FOLDS in runs and runs[FOLDS].notna().any()
    are_folders = all(str(name).startswith("imagefolder:") for name in runs["dataset.name"])
    now = Standing(
        shlex.quote(data.folder.name),
        sweep_command(data.folder.name, data.spec),
        failed,
        len(runs) - failed - int(states.get(str(RunState.DONE), 0)),
        training_warnings(compared, runs),
        TUNE in runs and bool(runs[TUNE].notna().any()),
        bool(small_tests(compared, runs)) and are_folders and not has_folds,
    )
    found = recommended(data.advice, compared.cells, runs)[:_MOST_PASTED]
    lines = []
    for one in found:
        where = f", {one.where}" if one.where else ""
        text = "\n".join(line for snippet in one.snippets for line in pasted(snippet))
        if text:
            lines.append((f"{one.name}{where}", text.strip("\n")))
    return {"next": next_step(data.advice, now), "lines": lines}
