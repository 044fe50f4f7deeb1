"""Check the plug-in methods of a sweep against the contract before its runs begin."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from mixbench.experiments.store import broken_promises, plugin_code
from mixbench.experiments.store.broken_promises import Checked
from mixbench.experiments.store.run_folder import PlannedRun
from mixbench.experiments.text import plural

CHOSEN_BY_CONTRACT = ("prob", "per_sample", "pairing")
"""Parameters that the contract tries with values of its own."""


def contract_warnings(folder: Path, plan: Iterable[PlannedRun]) -> list[str]:
    """Return a line for each plug-in method of a sweep that breaks a promise; store what it breaks.

    mixbench's own methods are tested already. Each method is checked once for its code and
    parameters, which takes a few seconds.

    Args:
        folder: Of the sweep.
        plan: Its runs.
    """
    known = {one.what: one for one in broken_promises.read(folder)}
    wanted = {one.what: one for one in _to_check(plan)}
    new = {what: _check(one) for what, one in wanted.items() if what not in known}
    if new:
        broken_promises.write(folder, [*known.values(), *new.values()])
    found = known | new
    return [
        f"warning: {one.section['name']} of the plug-in {one.plugin} breaks "
        f"{plural(len(one.broken), 'promise')} of the contract: {one.broken[0]}; "
        f"`mixbench check {one.section['name']}` says all"
        for what in wanted
        if (one := found[what]).broken
    ]


def _to_check(plan: Iterable[PlannedRun]) -> Iterator[Checked]:
    from mixbench.augmentations import registry

    seen = set()
    for run in plan:
        if run.cell_key in seen:
            continue
        seen.add(run.cell_key)
        code = plugin_code.current(run.config)
        for section in plugin_code.method_sections(run.config) if code else ():
            plugin = registry.plugin_of(section["name"])
            if plugin is not None:
                checked = {k: v for k, v in section.items() if k not in CHOSEN_BY_CONTRACT}
                yield Checked(checked, plugin.distribution, str(code[plugin.distribution]))


def _check(one: Checked) -> Checked:
    from mixbench import augmentations
    from mixbench.augmentations import contract

    parameters: Mapping[str, Any] = {k: v for k, v in one.section.items() if k != "name"}
    findings = contract.check_method(
        partial(augmentations.create, one.section["name"], **parameters), devices=["cpu"]
    )
    broken = (f"{f.promise} ({f.reason})" for f in findings if f.verdict == "broken")
    return Checked(json.loads(json.dumps(one.section)), one.plugin, one.code, tuple(broken))
