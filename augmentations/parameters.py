"""The parameters of a method: declared once, checked, listed and resolved from the declaration."""

from __future__ import annotations

import dataclasses
import difflib
import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Rule:
    """What a parameter may be, and what it means."""

    doc: str
    kind: type
    above: float | None = None
    at_least: float | None = None
    below: float | None = None
    at_most: float | None = None
    choices: tuple[str, ...] | None = None
    words: tuple[str, ...] = ()

    def allowed(self) -> str:
        """What is allowed, in words, for messages and listings."""
        if self.kind is bool:
            return "true or false"
        if self.choices is not None:
            return "one of " + ", ".join(self.choices)
        kind = "a whole number" if self.kind is int else "a number"
        bounds = [
            f"{word} {value:g}"
            for word, value in (
                ("above", self.above),
                ("at least", self.at_least),
                ("below", self.below),
                ("at most", self.at_most),
            )
            if value is not None
        ]
        text = " ".join([kind, " and ".join(bounds)]).strip()
        return " or ".join([text, *self.words])

    def check(self, value: Any) -> Any:
        """`value` in its canonical type; ValueError with what came and what is allowed."""
        if self.kind is bool:
            if isinstance(value, bool):
                return value
        elif self.choices is not None or (isinstance(value, str) and self.words):
            if isinstance(value, str) and value in (*(self.choices or ()), *self.words):
                return value
        elif isinstance(value, (int, float)) and not isinstance(value, bool):
            if self.kind is int and isinstance(value, float) and not value.is_integer():
                pass
            elif math.isfinite(value) and self._within(value):
                return self.kind(value)
        raise ValueError(f"got {value!r}, expected {self.allowed()}")

    def _within(self, value: float) -> bool:
        return (
            (self.above is None or value > self.above)
            and (self.at_least is None or value >= self.at_least)
            and (self.below is None or value < self.below)
            and (self.at_most is None or value <= self.at_most)
        )


def parameter(
    default: Any,
    doc: str,
    *,
    above: float | None = None,
    at_least: float | None = None,
    below: float | None = None,
    at_most: float | None = None,
    choices: tuple[str, ...] | None = None,
    words: tuple[str, ...] = (),
) -> Any:
    """Declare a parameter of a method: a dataclass field that knows its meaning and its bounds.

    The kind (bool, int, float, str) is that of `default`. A number may also be one of `words`
    (for example `fill="mean"`), then give the kind by the bounds: it is a float.
    """
    kind = float if words else type(default)
    rule = Rule(doc, kind, above, at_least, below, at_most, choices, words)
    return dataclasses.field(default=default, metadata={"rule": rule})


def rules(method: type) -> dict[str, tuple[Rule, Any]]:
    """The parameters of a method class: name -> (rule, default), the method's own ones first."""
    common = set()
    for base in method.__mro__[1:]:
        if dataclasses.is_dataclass(base):
            common |= {field.name for field in dataclasses.fields(base)}
    declared = [
        (field.name, field.metadata["rule"], field.default)
        for field in dataclasses.fields(method)
        if "rule" in field.metadata
    ]
    declared.sort(key=lambda item: item[0] in common)
    return {name: (rule, default) for name, rule, default in declared}


def nearest(name: Any, valid: Iterable[str]) -> str:
    """'; did you mean 'x'?' for the closest valid name, or nothing when none is close."""
    match = difflib.get_close_matches(str(name), list(valid), n=1, cutoff=0.5)
    return f"; did you mean {match[0]!r}?" if match else ""
