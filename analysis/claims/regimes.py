"""The regimes in which a claim can be judged: settings in which all its groups of cells are there.

Groups are compared where all else is alike, as far as it means something for both: the parameters
of CutMix mean nothing without mixing, and a parameter whose values two methods don't share is each
method's own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mixbench.analysis.claims.claim import Claim
from mixbench.analysis.claims.patterns import fits, value_of
from mixbench.experiments.design.question import TUNE, Flat

_METHOD = "augmentation.name"
_SCHEDULES = ("staging.name", "staging.phases", "staging.match_dose", "staging.shape")
_OF_MIXING = (*_SCHEDULES, "task.mixing", "transfer.mixing", "transfer.cache")
"""Fields that mean nothing without augmentation."""
_OF_BACKBONE = ("transfer.backbone_rate", "transfer.layer_decay")
"""Fields that mean nothing where the backbone is never trained."""

Setting = dict[str, Any]
"""What a cell has in the keys that must be alike; a key that means nothing for it is not there."""
_Joined = tuple[Setting, dict[str, tuple[str, ...]]]
"""A setting, and the cells of the groups that have it."""


@dataclass(frozen=True)
class Regime:
    """A setting with the cells of each group.

    Attributes:
        setting: key -> value, of the keys in which the regimes of this claim differ.
        cells: group -> its cells; their mean counts where there are several.
    """

    setting: Mapping[str, Any]
    cells: Mapping[str, tuple[str, ...]]


def regimes(claim: Claim, rows: Mapping[str, Flat]) -> list[Regime]:
    """Return where a claim can be judged among the cells of a sweep.

    Args:
        claim: The claim.
        rows: cell_key -> its configuration with dotted keys.
    """
    # A claim is about a method with settings, not about what is best for it on some data.
    rows = {
        cell: row
        for cell, row in rows.items()
        if is_within(row, claim.regime) and row.get(TUNE) != "tuned"
    }
    members = {
        group: [cell for cell, row in rows.items() if fits(row, pattern)]
        for group, pattern in claim.cells.items()
    }
    if not all(members.values()):
        return []
    keys = _keys(claim, rows, members)
    own = _own_keys(keys, rows, members)
    joined: list[_Joined] = [({}, {})]
    for group, cells in members.items():
        settings: dict[str, tuple[Setting, list[str]]] = {}
        for cell in cells:
            setting = _setting(rows[cell], group, keys, own)
            settings.setdefault(repr(setting), (setting, []))[1].append(cell)
        joined = _join(joined, group, list(settings.values()))
    varying = {key for setting, _ in joined for key in setting}
    varying = {key for key in varying if len({repr(other.get(key)) for other, _ in joined}) > 1}
    return [
        Regime({k: v for k, v in setting.items() if k in varying}, cells)
        for setting, cells in joined
    ]


def _join(
    joined: Sequence[_Joined], group: str, settings: Sequence[tuple[Setting, list[str]]]
) -> list[_Joined]:
    """Put each setting of a group to those before that are alike in all that both have."""
    found: list[_Joined] = []
    indices: dict[tuple[str, ...], dict[str, list[tuple[Setting, list[str]]]]] = {}
    kinds = dict.fromkeys(tuple(setting) for setting, _ in settings)
    for before, cells in joined:
        for kind in kinds:
            common = tuple(key for key in kind if key in before)
            name = (*kind, "", *common)
            if name not in indices:
                indices[name] = {}
                for setting, more in settings:
                    if tuple(setting) == kind:
                        values = repr([setting[key] for key in common])
                        indices[name].setdefault(values, []).append((setting, more))
            for setting, more in indices[name].get(repr([before[k] for k in common]), ()):
                found.append(({**before, **setting}, {**cells, group: tuple(more)}))
    return found


def is_within(row: Flat, regime: Sequence[Flat]) -> bool:
    """Tell whether a cell fits one of the patterns of a claim's regime; any cell, without one."""
    return not regime or any(fits(row, pattern) for pattern in regime)


def _keys(
    claim: Claim, rows: Mapping[str, Flat], members: Mapping[str, Sequence[str]]
) -> list[str]:
    """Return the keys that vary among the cells and must be alike."""
    free = {key for pattern in claim.cells.values() for key in pattern}
    if any(key.startswith("staging.") for key in free):
        free |= {"staging.name", "staging.phases"}
    used = dict.fromkeys(cell for cells in members.values() for cell in cells)
    keys = dict.fromkeys(key for cell in used for key in rows[cell] if "." in key)
    return [
        key
        for key in keys
        if key not in free
        and not any(key == one or key.startswith(f"{one}.") for one in claim.may_differ)
        and len({repr(value_of(rows[cell], key)) for cell in used}) > 1
    ]


def _own_keys(
    keys: Sequence[str], rows: Mapping[str, Flat], members: Mapping[str, Sequence[str]]
) -> set[str]:
    """Return the parameters of methods whose values the methods of the groups don't share."""
    own = set()
    for key in keys:
        if not key.startswith("augmentation."):
            continue
        values: dict[str, set[str]] = {}
        for cells in members.values():
            for cell in cells:
                if _has(rows[cell], key):
                    method = str(rows[cell].get(_METHOD))
                    values.setdefault(method, set()).add(repr(value_of(rows[cell], key)))
        if any(one != other for one in values.values() for other in values.values()):
            own.add(key)
    return own


def _setting(row: Flat, group: str, keys: Sequence[str], own: set[str]) -> Setting:
    return {
        f"{group}: {key}" if key in own else key: value_of(row, key)
        for key in keys
        if _has(row, key)
    }


def _has(row: Flat, key: str) -> bool:
    """Tell whether a key means something for a cell."""
    section = key.partition(".")[0]
    if row.get(_METHOD) == "none" and (section == "augmentation" or key in _OF_MIXING):
        return False
    if key in _OF_BACKBONE and row.get("transfer.freeze") == "all":
        return value_of(row, "transfer.unfreeze") is not None
    return section != "augmentation" or value_of(row, key) is not None
