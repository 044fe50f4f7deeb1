"""Blocks: the cells that are compared with each other, and what they have in common."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import pandas as pd

from mixbench.analysis.tables.labels import JOIN


def blocks(cells: pd.DataFrame) -> list[tuple[str, pd.DataFrame]]:
    """Group cells that are compared with each other.

    Args:
        cells: Those of a `Comparison`.

    Returns:
        (what the cells of a block have in common, its cells); the first is empty where there is
        one block only.
    """
    groups = [members for _, members in cells.groupby("block", sort=False)]
    if len(groups) == 1:
        return [("", groups[0])]
    # Without a name of its own a block would seem to belong to the one above it.
    return [(members["title"].iloc[0] or "others", members) for members in groups]


def stratum_titles(titles: Iterable[str]) -> list[str]:
    """Return a name for each stratum, "all" for the only one, no name twice.

    Args:
        titles: What the cells of each stratum have in common; may be empty.

    Examples:
        >>> stratum_titles([""]), stratum_titles(["small", "others", "others"])
        (['all'], ['small', 'others', 'others (2)'])
    """
    names: list[str] = []
    for title in titles:
        name, number = title or "all", 2
        while name in names:
            name, number = f"{title or 'all'} ({number})", number + 1
        names.append(name)
    return names


def with_blocks(cells: pd.DataFrame, assigned: Mapping[str, str | None]) -> pd.DataFrame:
    """Return the cells with the columns baseline_key, block, title and series.

    Args:
        cells: One row per cell: cell_key, label, method and group among the columns.
        assigned: cell_key -> the cell_key of its baseline, None where it has none.
    """
    cells = cells.copy()
    cells["baseline_key"] = pd.Series([assigned[key] for key in cells["cell_key"]], dtype=object)
    if not any(assigned.values()) and cells["method"].nunique() == 1:
        cells["block"] = 0  # one method in several settings, without a baseline: side by side
    else:
        pairs = zip(cells["cell_key"], cells["group"], strict=True)
        roots = [assigned[cell] or f"group {group}" for cell, group in pairs]
        cells["block"] = pd.factorize(pd.Series(roots, dtype=object))[0]
    parts = [[part for part in group.split(JOIN) if part] for group in cells["group"]]
    shared: dict[int, list[str]] = {}
    for block, names in zip(cells["block"], parts, strict=True):
        shared[block] = [part for part in shared.get(block, names) if part in names]
    titles = [shared[block] for block in cells["block"]]
    cells["title"] = [JOIN.join(title) for title in titles]
    columns = zip(cells["method"], cells["label"], parts, titles, strict=True)
    cells["series"] = [
        # A cell alone in its block and without a method has nothing else to be called by.
        JOIN.join(part for part in (method, *names) if part and part not in title) or label
        for method, label, names, title in columns
    ]
    return cells
