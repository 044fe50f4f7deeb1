"""Warn of plug-ins: of code that changed between the runs of a sweep, and of broken promises."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from mixbench.analysis.tables.plugins import PluginUse
from mixbench.analysis.text.formatting import joined
from mixbench.experiments.store import broken_promises
from mixbench.experiments.store.plugin_code import PluginCode
from mixbench.experiments.text import plural


def plugin_warnings(uses: Sequence[PluginUse]) -> list[str]:
    """Return a warning for each cell, and each plug-in, whose runs were made with different code.

    A run that went on from a checkpoint of other code is named too.
    """
    warnings = []
    for distribution in dict.fromkeys(use.distribution for use in uses):
        of_plugin = [use for use in uses if use.distribution == distribution]
        cells: dict[str, list[PluginUse]] = {}
        for use in of_plugin:
            cells.setdefault(use.label, []).append(use)
        mixed = [label for label, runs in cells.items() if _differ(runs)]
        warnings += [
            f"{label}: the code of the plug-in {distribution} changed between the runs: "
            f"{_counts(cells[label])}. Their mean is of different methods: do all of them "
            "with the same code, in a sweep with another --name."
            for label in mixed
        ]
        if not mixed and _differ(of_plugin):
            each = "; ".join(f"{label}: {_counts(runs)}" for label, runs in cells.items())
            warnings.append(
                f"The code of the plug-in {distribution} changed between the configurations "
                f"({each}): differences between these contain that."
            )
        warnings += [
            f"{use.label}, seed {use.seed}: the run was begun with other code of the plug-in "
            f"{distribution} ({joined(digest[:8] for digest in use.earlier)}) and went on with "
            f"{use.code}."
            for use in of_plugin
            if use.earlier
        ]
    return warnings


def promises_warnings(folder: Path) -> list[str]:
    """Return a warning for each plug-in method of a sweep that breaks the contract of methods.

    Args:
        folder: Of the sweep, with what was checked before its runs began.
    """
    return [
        f"{one.section['name']} of the plug-in {one.plugin}, {one.code}, breaks "
        f"{plural(len(one.broken), 'promise')} of the contract of methods, so its results may not "
        f"be what they seem: {joined(one.broken)}."
        for one in broken_promises.read(folder)
        if one.broken
    ]


def _differ(uses: Sequence[PluginUse]) -> bool:
    codes = list(dict.fromkeys(use.code for use in uses))
    return any(code.differs(other) for code in codes for other in codes)


def _counts(uses: Sequence[PluginUse]) -> str:
    counts: Counter[PluginCode] = Counter(use.code for use in uses)
    return joined(f"{plural(number, 'run')} with {code}" for code, number in counts.items())
