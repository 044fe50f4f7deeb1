"""Claims and their files: a sentence about mixing, and the contrast that would show it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from mixbench.analysis.claims import patterns
from mixbench.analysis.claims.formula import Formula, parse, parse_metric
from mixbench.experiments import yaml_file
from mixbench.experiments.errors import UserError, unknown

FOLDER = Path(__file__).parent
HIGHER, LOWER, EQUAL = "higher", "lower", "equal"
NOT_LOWER, NOT_HIGHER = "not lower", "not higher"
DIRECTIONS = (HIGHER, LOWER, EQUAL, NOT_LOWER, NOT_HIGHER)
_OF_CONTRAST = ("metric", "direction", "margin")
_WHERE_MEASURED = "where_measured"
_TESTED = ("metric", "cells", "contrast", "direction", "margin", "sweep", "command")
_ALWAYS = ("sentence", "source")
_OPTIONAL = ("regime", "may_differ", "note")
KEYS = (*_ALWAYS, *_TESTED, *_OPTIONAL, "missing")


@dataclass(frozen=True)
class ClaimContrast:
    """One contrast of a claim.

    Attributes:
        name: Its name where the claim has several, else empty.
        formula: The difference, of groups of cells.
        metric: A metric, or several that are added and subtracted, as it is written.
        direction: What is claimed of the difference: "higher", "lower", "equal", "not lower" or
            "not higher".
        margin: The smallest difference that matters, in the metric's own unit.
        where_measured: Whether a study without the metric judges the claim by the other contrasts.
    """

    name: str
    formula: Formula
    metric: str
    direction: str
    margin: float
    where_measured: bool = False


@dataclass(frozen=True)
class Claim:
    """Something that is said about mixing.

    Attributes:
        name: The file's name.
        sentence: What is said.
        source: Who says it, with the published numbers where there are any.
        cells: name -> pattern of a group of cells, dotted key -> value.
        contrasts: What must all hold; empty where it can't be tested yet.
        regime: Patterns: only cells that fit one of them count; all of them where there is none.
        may_differ: Keys that need not be alike in the groups, such as epochs that change with the
            size of the training set.
        sweep: The shipped sweep that tests it; empty where none does.
        command: What makes the runs that test it.
        missing: What mixbench lacks to test it; empty where nothing is missing.
        note: What a reader should know.
    """

    name: str
    sentence: str
    source: str
    cells: Mapping[str, Mapping[str, Any]]
    contrasts: tuple[ClaimContrast, ...]
    regime: tuple[Mapping[str, Any], ...]
    may_differ: tuple[str, ...]
    sweep: str
    command: str
    missing: str
    note: str

    @property
    def is_testable(self) -> bool:
        """Tell whether mixbench has what a test needs."""
        return not self.missing


@cache
def shipped() -> tuple[Claim, ...]:
    """Return the claims that ship, by their files' names."""
    return tuple(read(path) for path in sorted(FOLDER.glob("*.yaml")))


def chosen(names: Sequence[str]) -> tuple[Claim, ...]:
    """Return the shipped claims of these names, all if none is given; UserError if unknown."""
    known = {claim.name: claim for claim in shipped()}
    for name in names:
        if name not in known:
            raise unknown("claim", name, known)
    return tuple(known[name] for name in dict.fromkeys(names)) if names else shipped()


def read(path: Path) -> Claim:
    """Return the claim in a file.

    Raises:
        UserError: A key is unknown or missing, or a value is none that is allowed; the message
            names the file and the key.
    """
    given = yaml_file.load(path, f"a claim: {', '.join(_ALWAYS)}, ...")
    try:
        return _claim(path.stem, given)
    except UserError as error:
        raise UserError(f"{path}: {error}") from None


def _claim(name: str, given: Mapping[str, Any]) -> Claim:
    for key in given:
        if key not in KEYS:
            raise unknown("key of a claim", key, KEYS)
    is_missing = "missing" in given
    for key in (*_ALWAYS, *(("missing",) if is_missing else ("cells", "contrast", "sweep"))):
        if key not in given:
            raise UserError(f"{key}: missing")
    if is_missing and (wrong := [key for key in _TESTED if key in given]):
        raise UserError(f"{wrong[0]}: not allowed beside missing, as there is nothing to run yet")
    texts = {
        key: _text(key, given[key])
        for key in (*_ALWAYS, "sweep", "command", "missing", "note")
        if key in given
    }
    cells = {} if is_missing else _cells(given["cells"])
    contrasts = () if is_missing else _contrasts(given, cells)
    used = {group for contrast in contrasts for group in contrast.formula.groups}
    if unused := [group for group in cells if group not in used]:
        raise UserError(f"cells.{unused[0]}: in no contrast")
    sweep = texts.get("sweep", "")
    return Claim(
        name=name,
        sentence=texts["sentence"],
        source=texts["source"],
        cells=cells,
        contrasts=contrasts,
        regime=_regime(given.get("regime", [])),
        may_differ=_keys(given.get("may_differ", [])),
        sweep=sweep,
        command=texts.get("command", f"mixbench sweep {sweep}" if sweep else ""),
        missing=texts.get("missing", ""),
        note=texts.get("note", ""),
    )


def _text(key: str, value: Any) -> str:
    if not isinstance(value, str) or not value.strip():
        raise UserError(f"{key}: got {value!r}, expected text")
    return " ".join(value.split())


def _cells(given: Any) -> dict[str, dict[str, Any]]:
    if not isinstance(given, Mapping) or len(given) < 2:
        raise UserError(f"cells: got {given!r}, expected two groups of cells or more")
    return {str(name): patterns.read(f"cells.{name}", one) for name, one in given.items()}


def _regime(given: Any) -> tuple[dict[str, Any], ...]:
    found = [given] if isinstance(given, Mapping) else given
    if not isinstance(found, list):
        raise UserError(f"regime: got {given!r}, expected keys and values, or a list of such")
    return tuple(patterns.read("regime", one) for one in found)


def _contrasts(given: Mapping[str, Any], cells: Mapping[str, Any]) -> tuple[ClaimContrast, ...]:
    contrast = given["contrast"]
    if isinstance(contrast, str):
        return (_contrast("contrast", "", {"difference": contrast}, given, cells),)
    if not isinstance(contrast, Mapping) or not contrast:
        raise UserError(
            f"contrast: got {contrast!r}, expected such as cutmix - none, or names with contrasts"
        )
    found = tuple(
        _contrast(
            f"contrast.{name}",
            str(name),
            {"difference": one} if isinstance(one, str) else one,
            given,
            cells,
        )
        for name, one in contrast.items()
    )
    if all(one.where_measured for one in found):
        raise UserError(f"contrast: expected one without {_WHERE_MEASURED}, which always counts")
    return found


def _contrast(
    where: str, name: str, own: Any, claim: Mapping[str, Any], cells: Mapping[str, Any]
) -> ClaimContrast:
    allowed = ("difference", *_OF_CONTRAST, _WHERE_MEASURED)
    if not isinstance(own, Mapping):
        raise UserError(f"{where}: got {own!r}, expected a difference such as cutmix - none")
    for key in own:
        if key not in allowed:
            raise unknown(f"key of {where}", key, allowed)
    where_measured = own.get(_WHERE_MEASURED, False)
    if not isinstance(where_measured, bool):
        raise UserError(
            f"{where}.{_WHERE_MEASURED}: got {where_measured!r}, expected true or false"
        )
    for key in ("difference", *_OF_CONTRAST):
        if key not in own and key not in claim:
            raise UserError(f"{key}: missing")
    try:
        formula = parse(_text("difference", own["difference"]))
    except UserError as error:
        raise UserError(f"{where}: {error}") from None
    for group in formula.groups:
        if group not in cells:
            raise unknown(f"group in {where}", group, cells)
    metric, direction, margin = (own.get(key, claim.get(key)) for key in _OF_CONTRAST)
    if direction not in DIRECTIONS:
        raise unknown("direction", direction, DIRECTIONS)
    is_number = isinstance(margin, int | float) and not isinstance(margin, bool)
    if not is_number or not math.isfinite(margin) or margin <= 0:
        raise UserError(f"margin: got {margin!r}, expected a number above 0")
    metric = _text("metric", metric)
    parse_metric(metric)
    return ClaimContrast(name, formula, metric, direction, float(margin), where_measured)


def _keys(given: Any) -> tuple[str, ...]:
    if not isinstance(given, list) or not all(isinstance(key, str) and key for key in given):
        raise UserError(f"may_differ: got {given!r}, expected a list of keys")
    return tuple(given)
