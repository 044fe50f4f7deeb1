"""Which plug-ins made the results of a sweep: their versions and the digests of their code."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from mixbench.experiments.store import plugin_code
from mixbench.experiments.store.plugin_code import PluginCode
from mixbench.experiments.store.run_folder import PlannedRun


@dataclass(frozen=True)
class PluginUse:
    """A plug-in, such as "mixbench-strip", of one finished run.

    earlier: digests of other code with which the run was trained before it went on.
    """

    distribution: str
    code: PluginCode
    label: str
    seed: int
    earlier: tuple[str, ...] = ()


def plugin_uses(
    plan: Iterable[PlannedRun],
    results: Mapping[str, Mapping[str, Any] | None],
    labels: Mapping[str, str],
) -> tuple[PluginUse, ...]:
    """Return the plug-ins of all finished runs, in the order of the plan.

    results: by run key; labels: by cell key.
    """
    done = [(run, result) for run in plan if (result := results[run.run_key])]
    used = {run.run_key: plugin_code.recorded(result, run.config) for run, result in done}
    known: dict[str, set[str]] = {}
    for run, _ in done:
        with_digest = {name for name, code in used[run.run_key].items() if code.digest}
        known.setdefault(run.cell_key, set()).update(with_digest)
    uses = []
    for run, result in done:
        for name, code in used[run.run_key].items():
            # An old result lists all plug-ins that were installed; a newer one of its cell knows.
            if known[run.cell_key] and name not in known[run.cell_key]:
                continue
            earlier = tuple(_earlier(result).get(name, ()))
            uses.append(PluginUse(name, code, labels[run.cell_key], run.config["seed"], earlier))
    return tuple(uses)


def _earlier(result: Mapping[str, Any]) -> Mapping[str, Any]:
    provenance = result.get("provenance")
    earlier = provenance.get(plugin_code.EARLIER) if isinstance(provenance, Mapping) else None
    return earlier if isinstance(earlier, Mapping) else {}
