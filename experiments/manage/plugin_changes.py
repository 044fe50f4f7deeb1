"""Say, before runs are done, that a plug-in is no longer the code that made the finished ones."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from mixbench.experiments.store import plugin_code
from mixbench.experiments.store.files import read_json
from mixbench.experiments.store.plugin_code import PluginCode
from mixbench.experiments.store.run_folder import PlannedRun
from mixbench.experiments.text import plural


def plugin_changes(plan: Iterable[PlannedRun]) -> list[str]:
    """Return a line for each plug-in that changed since runs of a sweep were done or begun.

    Reads the folders of runs of plug-ins alone.
    """
    cells: dict[str, dict[str, PluginCode]] = {}
    finished: Counter[tuple[str, PluginCode, PluginCode]] = Counter()
    begun: Counter[tuple[str, PluginCode, PluginCode]] = Counter()
    for run in plan:
        if run.cell_key not in cells:
            cells[run.cell_key] = plugin_code.current(run.config)
        code = cells[run.cell_key]
        if not code:
            continue
        result = run.folder.result()
        made = _unfinished(run) if result is None else result
        changes = plugin_code.changed(made, run.config, code)
        counted = begun if result is None else finished
        counted.update((name, then, now) for name, (then, now) in changes.items())
    lines = []
    for counted, what in ((finished, "finished run"), (begun, "unfinished run")):
        for (name, then, now), number in counted.items():
            verb = "was" if number == 1 else "were"
            lines.append(
                f"warning: the plug-in {name} has changed: {plural(number, what)} {verb} "
                f"{'made' if counted is finished else 'begun'} with {then}, it is {now} now; "
                "the report will name the cells that mix them"
            )
    return lines


def _unfinished(run: PlannedRun) -> Mapping[str, Any]:
    """Return the plug-ins that a run was begun with, as a result has them."""
    digests = (read_json(run.folder.path / "config.json") or {}).get(plugin_code.DIGESTS)
    return {"provenance": {plugin_code.DIGESTS: digests}} if digests else {}
