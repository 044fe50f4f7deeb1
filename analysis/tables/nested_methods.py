"""Name methods made of other methods, in labels and tables."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

KEY = "augmentation.methods"
"""The key of the list of methods, as JSON text, in a flattened configuration."""

_INHERITED = ("per_sample", "pairing")
"""Parameters that the methods take over from the whole; left out where they are the same."""

Methods = list[dict[str, Any]]
Shown = Callable[[str, Any], str]


def short_names(cells: Sequence[Mapping[str, Any]], shown: Shown) -> dict[str, str]:
    """Return short names for the lists of methods in the cells of one method, by their JSON text.

    Each names its methods, with those parameters that differ in the cells; empty if all lists are
    the same. shown: a parameter's name and value as text.
    """
    lists = {
        cell[KEY]: _without_inherited(json.loads(cell[KEY]), cell, "augmentation.")
        for cell in cells
        if KEY in cell
    }
    if len(lists) < 2:
        return {}
    by_name: dict[str, Methods] = {}
    for methods in lists.values():
        for method in _flattened(methods):
            by_name.setdefault(method["name"], []).append(method)
    differing = {
        (name, key)
        for name, methods in by_name.items()
        for key in dict.fromkeys(key for method in methods for key in method)
        if len({json.dumps(method.get(key)) for method in methods}) > 1
    }
    whole = cells[0]["augmentation.name"]
    names = {
        text: _text(methods, whole, lambda *pair: pair in differing, shown)
        for text, methods in lists.items()
    }
    return names if len(set(names.values())) > 1 else {}


def in_full(text: str, outer: Mapping[str, Any], shown: Shown) -> str:
    """Return a list of methods with all their parameters as text.

    text: the list as JSON. outer: the parameters of the method that is made of them.
    """
    methods = _without_inherited(json.loads(text), outer, "")
    return _text(methods, str(outer["name"]), lambda *_: True, shown)


def _without_inherited(methods: Methods, outer: Mapping[str, Any], prefix: str) -> Methods:
    """Leave out what methods take over from the one they are part of, in nested ones too."""
    return [
        {
            key: _without_inherited(value, method, "") if key == "methods" else value
            for key, value in method.items()
            if key not in _INHERITED or value != outer.get(f"{prefix}{key}")
        }
        for method in methods
    ]


def _flattened(methods: Methods) -> Iterator[dict[str, Any]]:
    for method in methods:
        yield {key: value for key, value in method.items() if key != "methods"}
        yield from _flattened(method.get("methods", []))


def _text(methods: Methods, whole: str, is_shown: Callable[[str, str], bool], shown: Shown) -> str:
    texts = []
    for method in methods:
        name = method["name"]
        words = [name]
        for key, value in method.items():
            if key == "methods":
                words.append(f"({_text(value, name, is_shown, shown)})")
            elif key != "name" and is_shown(name, key):
                words.append(shown(key, value))
        texts.append(" ".join(words))
    return (" + " if whole == "compose" else " or ").join(texts)
