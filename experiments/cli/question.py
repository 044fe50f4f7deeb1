"""What a sweep's question asks, and what its design can detect, for `mixbench plan`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mixbench.experiments.cli import tuning
from mixbench.experiments.errors import UserError
from mixbench.experiments.text import plural

if TYPE_CHECKING:
    from mixbench.analysis.statistics.declared import Declared
    from mixbench.analysis.statistics.metrics import Metric
    from mixbench.experiments.design.question import Question
    from mixbench.experiments.store.sweep_folder import SweepFolder
    from mixbench.experiments.sweep.expand import Sweep


def lines(sweep: Sweep, begun: SweepFolder | None) -> list[str]:
    """Return the question and the looks of a sweep, a line each; none where it has neither."""
    from mixbench.experiments.design import decide
    from mixbench.experiments.design import question as questions

    looks = decide.read(sweep.spec)
    asked = questions.read(sweep.spec) if looks is None else looks.question
    if asked is None:
        return []
    declared = _declared(sweep, asked)
    metric = declared.metric
    compared = [run for run, _ in sweep.compared()]
    unit = "replicate" if compared[0].replicate is not None else "seed"
    planned = len({run.replicate if unit == "replicate" else run.seed for run in compared})
    number = len(declared.contrasts)
    what = f"{plural(number, 'contrast')} ({asked.contrasts})"
    if asked.contrasts == questions.BEST:
        what = f"the best of {sweep.cells} cells"
    elif asked.contrasts == questions.NAMED:
        what = f"{plural(number, 'contrast')} ({', '.join(asked.groups)})"
    margin = "by the data"
    if metric.margin is not None:
        margin = questions.in_words(metric.key, metric.margin)
    first = f"question: {what} in {metric.key}, margin {margin}, {plural(planned, unit)}"
    found = [first, *(f"question: {note}" for note in declared.notes)]
    if looks is not None:
        numbers = ", ".join(map(str, looks.looks))
        found.append(
            f"decide: {plural(len(looks.looks), 'look')}, at {numbers} replicates, with an error "
            f"of {looks.level * 100:g}% over all of them"
        )
    if begun is not None:
        found += _detectable(begun, sweep, asked, planned, unit)
    return found


def _declared(sweep: Sweep, asked: Question) -> Declared:
    import pandas as pd

    from mixbench.analysis.statistics.baselines import assign_baselines
    from mixbench.analysis.statistics.blocks import with_blocks
    from mixbench.analysis.statistics.declared import declare
    from mixbench.analysis.statistics.metrics import metric_of
    from mixbench.analysis.tables.load import cells_of

    configs = tuning.cell_configs(sweep)
    compared = {cell_key for _, (_, cell_key) in sweep.compared()}
    cells: pd.DataFrame = cells_of(configs, compared)
    assigned, _ = assign_baselines(cells, sweep.spec.get("baseline"), None)
    metric = metric_of(asked.metric, asked.margins)
    return declare(asked, with_blocks(cells, assigned), {}, metric, "replicate")


def _detectable(
    begun: SweepFolder, sweep: Sweep, asked: Question, planned: int, unit: str
) -> list[str]:
    """Say what the planned runs would show, with the spread of those that are done."""
    from mixbench.analysis.statistics.comparison import compare
    from mixbench.analysis.tables.load import load

    tables = load(begun)
    baseline = sweep.spec.get("baseline")
    try:
        compared = compare(tables.cells, tables.runs, baseline, None, asked, planned)
    except UserError:
        return []
    if compared.declared is None:
        return []
    known = [one.contrast for one in compared.declared.contrasts]
    effects = [one.detectable for one in known if one.detectable is not None]
    if not effects:
        return []
    done = max(one.n for one in known)
    metric = compared.declared.metric
    low, high = _shown(min(effects), metric), _shown(max(effects), metric)
    size = low if low == high else f"{low} to {high}"
    return [
        f"question: {plural(planned, unit)} would show a difference of {size}"
        f"{' points' if metric.percent else ''} with a probability of 80%, with the spread of the "
        f"{done} that are done"
    ]


def _shown(value: float, metric: Metric) -> str:
    return f"{value * 100:.2f}" if metric.percent else f"{value:.3g}"
