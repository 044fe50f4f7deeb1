"""Occlusion by shape and fill, and with what each method's training showed left out.

Methods are at home in different shapes and fills, so their means over the others are not of the
same: each is compared with its baseline on the pairs of which neither has shown anything.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import pandas as pd

from mixbench.analysis.figures.canvas import ReportFigure, on_both_papers
from mixbench.analysis.figures.heat_maps import HeatMap, heat_maps_figure
from mixbench.analysis.report.measurements.catalogue import Shown
from mixbench.analysis.report.measurements.load import Measured, curves_of
from mixbench.analysis.statistics.comparison import Comparison, compare_metric, seed_values
from mixbench.analysis.statistics.contrasts import Contrast
from mixbench.analysis.statistics.metrics import Metric
from mixbench.analysis.text import formatting
from mixbench.analysis.text.names import method_name

NAME = "hiding"
AWAY = Metric(f"{NAME}/away/area", "Area, home left out", True, 1)
MOST_MAPS = 12
_AREA = re.compile(rf"{NAME}/([a-z]+)/([a-z]+)/area")


@dataclass(frozen=True)
class Home:
    """What the training of a cell showed: shapes and fills of hidden parts."""

    shapes: frozenset[str]
    fills: frozenset[str]

    def has(self, shape: str, fill: str) -> bool:
        """Tell whether the training showed the shape or the fill."""
        return shape in self.shapes or fill in self.fills


def pairs_of(keys: Sequence[str]) -> dict[str, tuple[str, str]]:
    """Return the metrics that are areas of a shape with a fill: key -> both.

    Examples:
        >>> pairs_of(["hiding/area", "hiding/centre/mean/area"])
        {'hiding/centre/mean/area': ('centre', 'mean')}
    """
    return {key: (match[1], match[2]) for key in keys if (match := _AREA.fullmatch(key))}


def homes_of(measured: Measured, runs: pd.DataFrame) -> dict[str, Home]:
    """Return what the trainings of each cell showed; without those that were measured before.

    Args:
        measured: Occlusion.
        runs: One row per run: run_key, cell_key.
    """
    found: dict[str, Home] = {}
    for run_key, cell in zip(runs["run_key"], runs["cell_key"], strict=True):
        home = curves_of(measured.results.get(run_key) or {}).get("home")
        if isinstance(home, Mapping):
            found[str(cell)] = Home(
                frozenset(home.get("shapes") or ()), frozenset(home.get("fills") or ())
            )
    return found


def away_differences(
    compared: Comparison, runs: pd.DataFrame, keys: Sequence[str], homes: Mapping[str, Home]
) -> list[Contrast]:
    """Compare each cell with its baseline on the pairs that neither of them is at home in.

    Args:
        compared: The cells.
        runs: One row per run, metrics as columns.
        keys: The metrics of occlusion.
        homes: cell_key -> what its training showed.
    """
    cells = compared.cells.copy()
    values: dict[tuple[str, str], Mapping[int, float | None]] = {}
    bases: list[str | None] = []
    for cell, base in zip(cells["cell_key"], cells["baseline_key"], strict=True):
        if base == cell or cell not in homes or base not in homes:
            bases.append(None)
            continue
        both = (homes[cell], homes[base])
        kept = [
            key for key, pair in pairs_of(keys).items() if not any(home.has(*pair) for home in both)
        ]
        mean = runs[kept].mean(axis=1, skipna=False) if kept else float("nan")
        found = seed_values(runs.assign(**{AWAY.key: mean}), [AWAY.key])
        # A name of its own, as the baseline has other values for other cells.
        alias = f"{base} for {cell}"
        values[alias, AWAY.key] = found.get((base, AWAY.key), {})
        values[cell, AWAY.key] = found.get((cell, AWAY.key), {})
        bases.append(alias)
    cells["baseline_key"] = pd.Series(bases, index=cells.index, dtype=object)
    return [one for one in compare_metric(cells, values, AWAY, compared.unit) if one.n]


def grid_metrics(keys: Sequence[str]) -> list[Shown]:
    """Return a metric per shape and fill, as the table of both has them."""
    return [
        Shown(Metric(key, f"{shape.capitalize()}, {fill}", True, 1))
        for key, (shape, fill) in pairs_of(keys).items()
    ]


def gain_maps(
    cells: pd.DataFrame, differences: Mapping[tuple[str, str], Contrast], homes: Mapping[str, Home]
) -> list[ReportFigure]:
    """Draw the gain over the baseline by shape and fill, a heat map per method.

    Args:
        cells: In the order of the pages.
        differences: (cell_key, metric key) -> difference.
        homes: cell_key -> what its training showed.
    """
    pairs = pairs_of([key for _, key in differences])
    of_cell = {cell for cell, key in differences if key in pairs}
    shown = cells[cells["cell_key"].isin(of_cell)]
    maps = [
        _map(str(cell), method_name(str(name)), pairs, differences, homes.get(str(cell)))
        for cell, name in zip(shown["cell_key"], shown["label"], strict=True)
    ][:MOST_MAPS]
    if not maps:
        return []
    more = f" The first {MOST_MAPS} of {len(shown)}." if len(shown) > MOST_MAPS else ""
    return [
        on_both_papers(
            f"measured-{NAME}_gains.png",
            "Gain by shape and fill",
            "Area less that of the baseline, points: a row per shape of what is hidden, a column "
            "per what is there instead. A star: the interval excludes 0. In brackets: the training "
            f"showed that shape or that fill, so that the gain is no robustness.{more}",
            "Heat maps of the gain over the baseline by shape and fill of hidden parts, by method",
            partial(heat_maps_figure, maps, is_alike=True),
        )
    ]


def _map(
    cell: str,
    title: str,
    pairs: Mapping[str, tuple[str, str]],
    differences: Mapping[tuple[str, str], Contrast],
    home: Home | None,
) -> HeatMap:
    shapes, fills = (list(dict.fromkeys(pair[n] for pair in pairs.values())) for n in (0, 1))
    values = pd.DataFrame(float("nan"), index=shapes, columns=fills)
    texts = pd.DataFrame("", index=shapes, columns=fills)
    for key, (shape, fill) in pairs.items():
        one = differences.get((cell, key))
        if one is None or one.difference is None:
            continue
        text = formatting.number(one.difference, sign=True) + ("*" if one.is_clear else "")
        values.loc[shape, fill] = 100 * one.difference
        texts.loc[shape, fill] = f"({text})" if home and home.has(shape, fill) else text
    return HeatMap(title, values, texts)
