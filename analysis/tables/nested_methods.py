"""Methods that are made of other methods: what these are called in labels and tables."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

KEY = "augmentation.methods"
"""Where a flattened configuration has the list of methods, as JSON text."""

_INHERITED = ("per_sample", "pairing")
"""What the methods take over from the whole: it goes unsaid where it is the same."""

Recipe = list[dict[str, Any]]
Shown = Callable[[str, Any], str]


def recipes(cells: Sequence[Mapping[str, Any]], shown: Shown) -> dict[str, str]:
    """Short names for the lists of methods in the cells of one method, by their JSON text.

    Each names its methods, with those parameters that differ in the cells; empty if all lists are
    the same. shown: a parameter's name and value as text.
    """
    read = {
        cell[KEY]: _own(json.loads(cell[KEY]), cell, "augmentation.")
        for cell in cells
        if KEY in cell
    }
    if len(read) < 2:
        return {}
    found: dict[str, list[dict[str, Any]]] = {}
    for method in (method for recipe in read.values() for method in _all(recipe)):
        found.setdefault(method["name"], []).append(method)
    differing = {
        (name, key)
        for name, methods in found.items()
        for key in dict.fromkeys(key for method in methods for key in method)
        if len({json.dumps(method.get(key)) for method in methods}) > 1
    }
    whole = cells[0]["augmentation.name"]
    texts = {
        text: _named(recipe, whole, lambda *pair: pair in differing, shown)
        for text, recipe in read.items()
    }
    return texts if len(set(texts.values())) > 1 else {}


def in_full(text: str, outer: Mapping[str, Any], shown: Shown) -> str:
    """A list of methods with all parameters. text: its JSON. outer: the whole's parameters."""
    recipe = _own(json.loads(text), outer, "")
    return _named(recipe, str(outer["name"]), lambda *_: True, shown)


def _own(recipe: Recipe, outer: Mapping[str, Any], prefix: str) -> Recipe:
    """The methods without what they take over from the whole, those within them likewise."""
    own = []
    for method in recipe:
        kept = {
            key: _own(value, method, "") if key == "methods" else value
            for key, value in method.items()
            if key not in _INHERITED or value != outer.get(f"{prefix}{key}")
        }
        own.append(kept)
    return own


def _all(recipe: Recipe) -> Iterator[dict[str, Any]]:
    for method in recipe:
        yield {key: value for key, value in method.items() if key != "methods"}
        yield from _all(method.get("methods", []))


def _named(recipe: Recipe, whole: str, is_said: Callable[[str, str], bool], shown: Shown) -> str:
    parts = []
    for method in recipe:
        name = method["name"]
        words = [name]
        for key, value in method.items():
            if key == "methods":
                words.append(f"({_named(value, name, is_said, shown)})")
            elif key != "name" and is_said(name, key):
                words.append(shown(key, value))
        parts.append(" ".join(words))
    return (" + " if whole == "compose" else " or ").join(parts)
