"""Which cell is compared with which: the baseline of each cell."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import pandas as pd

from mixbench.analysis.tables.labels import value_text
from mixbench.analysis.tables.schedules import ALWAYS, NAME, TOLD_BY_NAME
from mixbench.experiments.design.question import TUNE
from mixbench.experiments.errors import UserError
from mixbench.experiments.merge import flatten

Baseline = Mapping[str, Any] | str | None
"""Dotted or nested keys and values, or as text "cutmix" or "key=value,key=value"."""

_USUAL = (("augmentation.name", "none"), (NAME, ALWAYS))
"""The baseline where nobody names one, the first that there is."""
_OF_MIXING = (NAME, *TOLD_BY_NAME, "task.mixing", "transfer.mixing", "transfer.cache")
"""Fields that mean nothing in a run without augmentation."""


def parse_baseline(baseline: Baseline) -> dict[str, Any] | None:
    """Return a baseline in any of its spellings as dotted keys and values.

    Args:
        baseline: A method's name, "key=value,key=value", or a mapping, nested or dotted.

    Returns:
        dotted key -> value; None for None.

    Raises:
        UserError: The baseline is empty, or neither text nor a mapping.

    Examples:
        >>> parse_baseline("cutmix")
        {'augmentation.name': 'cutmix'}
        >>> parse_baseline("augmentation.name=cutmix, augmentation.alpha=0.2")
        {'augmentation.name': 'cutmix', 'augmentation.alpha': 0.2}
    """
    if baseline is None:
        return None
    if isinstance(baseline, str) and "=" not in baseline:
        return {"augmentation.name": baseline}
    if isinstance(baseline, str):
        pairs = [part.partition("=") for part in baseline.split(",")]
        baseline = {key.strip(): _read_value(value.strip()) for key, _, value in pairs}
    if not isinstance(baseline, Mapping) or not baseline:
        raise UserError(
            f"baseline: got {baseline!r}, expected keys and values, such as augmentation.name=none"
        )
    if isinstance(baseline.get("augmentation"), str):
        baseline = {**baseline, "augmentation": {"name": baseline["augmentation"]}}
    if "staging" in baseline and not isinstance(baseline["staging"], Mapping):
        baseline = {**baseline, "staging": {"name": baseline["staging"] or ALWAYS}}
    return flatten(baseline)


def assign_baselines(
    cells: pd.DataFrame, spec_baseline: Baseline, baseline: Baseline
) -> tuple[dict[str, str | None], str]:
    """Find the baseline of each cell.

    Args:
        cells: One row per cell: cell_key, label, and the configuration as dotted columns.
        spec_baseline: The sweep's own baseline, used where `baseline` is None.
        baseline: The baseline that the user asked for.

    Returns:
        cell_key -> the cell_key of its baseline (None where it has none), and why there is nothing
        to compare (empty where there is).

    Raises:
        UserError: `baseline` fits no cell, or several that would serve one cell. A
            `spec_baseline` that doesn't fit only leaves a note.
    """
    unassigned: dict[str, str | None] = dict.fromkeys(cells["cell_key"])
    if baseline is not None:
        return _match(cells, parse_baseline(baseline) or {}), ""
    if spec_baseline is not None:
        try:
            return _match(cells, parse_baseline(spec_baseline) or {}), ""
        except UserError as error:
            return unassigned, f"the sweep's {error}"
    for key, value in _USUAL:
        if key in cells and value in set(cells[key]) and (key != NAME or cells[key].nunique() > 1):
            try:
                return _match(cells, {key: value}), ""
            except UserError as error:
                return unassigned, str(error)
    return unassigned, "no cell trains without augmentation, and the sweep names no other baseline"


def _read_value(text: str) -> Any:
    constants = {"true": True, "false": False, "null": None, "default": None}
    if text.lower() in constants:
        return constants[text.lower()]
    try:
        number = float(text)
    except ValueError:
        return text
    return int(number) if number.is_integer() else number


def _match(cells: pd.DataFrame, wanted: Mapping[str, Any]) -> dict[str, str | None]:
    fields = [column for column in cells.columns if "." in column]
    rows = cells[["cell_key", "label", *fields]].to_dict("records")
    candidates = _candidates(rows, fields, wanted)
    # First only the wanted fields may differ; then their whole sections, because the parameters
    # of one method are not those of another.
    sections = {key.partition(".")[0] for key in wanted}
    narrow = [key for key in fields if key not in wanted]
    wide = [key for key in fields if key.partition(".")[0] not in sections]
    wider = [key for key in wide if "augmentation" not in sections or key not in _OF_MIXING]
    assigned: dict[str, str | None] = {}
    by_shared = [(shared, _grouped(candidates, shared)) for shared in (narrow, wide, wider)]
    for row in rows:
        for shared, groups in by_shared:
            bases = groups.get(_setting(row, shared), [])
            if bases:
                break
        itself = [base for base in bases if base["cell_key"] == row["cell_key"]]
        if len(bases) > 1 and not itself:
            names = ", ".join(repr(base["label"]) for base in bases)
            raise UserError(
                f"baseline: {_shown(wanted)} fits several cells ({names}); name one field more"
            )
        assigned[row["cell_key"]] = (itself or bases)[0]["cell_key"] if bases else None
    return assigned


def _candidates(
    rows: Sequence[dict[Hashable, Any]], fields: Sequence[str], wanted: Mapping[str, Any]
) -> list[dict[Hashable, Any]]:
    """Return the cells that have the wanted values; UserError where none has."""
    for key in wanted:
        if key not in fields:
            varying = [
                field for field in fields if len({_distinct(row[field]) for row in rows}) > 1
            ]
            raise UserError(
                f"baseline: no cell has the field {key!r}; what varies: {', '.join(varying)}"
            )
    candidates = [row for row in rows if all(_same(row[k], value) for k, value in wanted.items())]
    if not candidates:
        values = {key: sorted({value_text(row[key]) for row in rows}) for key in wanted}
        known = "; ".join(f"{key}: {', '.join(texts)}" for key, texts in values.items())
        raise UserError(f"baseline: {_shown(wanted)} fits no cell of the sweep (there are {known})")
    if TUNE in fields and any(row[TUNE] == "tuned" for row in candidates):
        # Of a baseline that is tuned too, the tuned cell: all have the same chance.
        candidates = [row for row in candidates if row[TUNE] != "default" or TUNE in wanted]
    return candidates


def _shown(wanted: Mapping[str, Any]) -> str:
    return ", ".join(f"{key}={value_text(value)}" for key, value in wanted.items())


def _distinct(value: Any) -> Any:
    return None if pd.isna(value) else value


def _same(one: Any, other: Any) -> bool:
    return bool(_comparable(one) == _comparable(other))


def _comparable(value: Any) -> tuple[bool, Any]:
    return isinstance(value, bool), _distinct(value)


def _setting(row: Mapping[Hashable, Any], fields: Sequence[str]) -> tuple[Any, ...]:
    return tuple(_comparable(row[field]) for field in fields)


def _grouped(
    rows: Sequence[dict[Hashable, Any]], fields: Sequence[str]
) -> dict[tuple[Any, ...], list[dict[Hashable, Any]]]:
    groups: dict[tuple[Any, ...], list[dict[Hashable, Any]]] = {}
    for row in rows:
        groups.setdefault(_setting(row, fields), []).append(row)
    return groups
