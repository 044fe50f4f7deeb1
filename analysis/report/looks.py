"""How far a sweep with `decide` has come: its looks, from the runs that are done."""

from __future__ import annotations

from mixbench.analysis.statistics.baselines import assign_baselines
from mixbench.analysis.statistics.blocks import with_blocks
from mixbench.analysis.statistics.comparison import seed_values
from mixbench.analysis.statistics.looks import Looks, take_looks
from mixbench.analysis.statistics.units import unit_of
from mixbench.analysis.tables.load import Tables, load
from mixbench.experiments.design import decide
from mixbench.experiments.store.sweep_folder import SweepFolder


def looks_of(folder: SweepFolder, tables: Tables | None = None) -> Looks | None:
    """Return the looks that the finished runs of a sweep allow; None for one without `decide`."""
    wanted = decide.read(folder.spec)
    if wanted is None:
        return None
    tables = tables or load(folder)
    assigned, _ = assign_baselines(tables.cells, folder.spec.get("baseline"), None)
    cells = with_blocks(tables.cells, assigned)
    metric = wanted.question.metric
    values = seed_values(tables.runs, [metric]) if metric in tables.runs else {}
    return take_looks(wanted, cells, values, unit_of(tables.runs))
