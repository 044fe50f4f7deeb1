"""The statistics of cells, as `tracking` takes them from `analysis`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mixbench.experiments.store.run_folder import RunFolder
    from mixbench.experiments.store.sweep_folder import SweepFolder
    from mixbench.experiments.tracking import CellSummary, Statistics


def cell_statistics() -> Statistics:
    """Return how to summarise the cells of a sweep; nothing heavy is imported before it is used."""
    from mixbench.experiments.tracking import Statistics

    return Statistics(_summaries, _figures)


def _summaries(folder: SweepFolder) -> Mapping[str, CellSummary]:
    from mixbench.analysis.report.cells import cell_words
    from mixbench.experiments.tracking import CellSummary

    return {
        key: CellSummary(words.metrics, words.verdict, words.note)
        for key, words in cell_words(folder).items()
    }


def _figures(runs: Sequence[RunFolder]) -> dict[str, bytes]:
    from mixbench.analysis.report.cells import cell_figures

    return cell_figures(runs)
