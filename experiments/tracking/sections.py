"""The sections `staging` and `transfer` as parameters and in names; many runs have neither."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import PurePath
from typing import Any

from mixbench.experiments.design.stream_names import UNLABELLED
from mixbench.experiments.store.run_folder import PlannedRun

NAME, PHASES, WEIGHTS = "staging.name", "staging.phases", "transfer.weights"
ALWAYS, CUSTOM = "always", "custom"


def settle(flat: Mapping[str, dict[str, Any]]) -> None:
    """Say in every flattened configuration what its schedule is, in place.

    A section that is not set is no parameter; a run without a schedule beside runs with one is
    "always", and one of its own "custom".
    """
    is_staged = any(PHASES in config for config in flat.values())
    for config in flat.values():
        for section in ("staging", "transfer"):
            if config.get(section, "") is None:
                del config[section]
        if PHASES in config:
            config[NAME] = config.get(NAME) or CUSTOM
        elif is_staged:
            config[NAME] = ALWAYS


def origins(runs: Iterable[PlannedRun]) -> dict[str, str]:
    """cell_key -> the data set that the cell was trained on."""
    return {run.cell_key: str((run.config.get("dataset") or {}).get("name")) for run in runs}


def is_in_names(key: str, config: Mapping[str, Any]) -> bool:
    """Does a run's name have to say this parameter?  Not what the name of a schedule tells."""
    if key in ("staging.match_dose", "staging.shape"):
        return False
    return key != PHASES or config.get(NAME) == CUSTOM


def phrase(key: str, value: Any, origin: Mapping[str, str]) -> str | None:
    """A parameter in a run's name, where it has words of its own; None elsewhere."""
    if key == UNLABELLED:
        return str(value)
    if key == PHASES:
        return "phases=" + "+".join(f"{_plain(one['from'])}-{_plain(one['to'])}" for one in value)
    if key == WEIGHTS:
        kind, colon, rest = str(value).partition(":")
        if not colon:
            return f"pretrained {value}"
        if kind == "cell":
            return f"pretrained on {origin.get(rest, 'an earlier cell')}"
        return f"pretrained {rest.partition('/')[0] if kind == 'run' else PurePath(rest).name}"
    if key == "transfer.unfreeze" and isinstance(value, list):
        return "unfreeze=" + "+".join(_plain(one.get("at")) for one in value)
    return None


def _plain(moment: Any) -> str:
    return f"{moment:g}" if isinstance(moment, float) else re.sub(r"\s+", "_", str(moment))
