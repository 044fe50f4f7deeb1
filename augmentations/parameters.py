"""The parameters of a method: declared once, checked, listed and resolved from the declaration."""

from __future__ import annotations

import dataclasses
import difflib
import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Protocol


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

    def plain(self, value: Any) -> Any:
        """A checked value as JSON has it."""
        return value

    def _within(self, value: float) -> bool:
        return (
            (self.above is None or value > self.above)
            and (self.at_least is None or value >= self.at_least)
            and (self.below is None or value < self.below)
            and (self.at_most is None or value <= self.at_most)
        )


@dataclass(frozen=True)
class ListRule:
    """A list of which every item follows one rule; empty only where the default is."""

    doc: str
    item: Rule
    may_be_empty: bool

    def allowed(self) -> str:
        """What is allowed, in words, for messages and listings."""
        return f"a list{'' if self.may_be_empty else ', not empty'}, each {self.item.allowed()}"

    def check(self, value: Any) -> tuple[Any, ...]:
        """`value` as a tuple of canonical items; ValueError with what came and what is allowed."""
        if not isinstance(value, list | tuple) or not (value or self.may_be_empty):
            raise ValueError(f"got {value!r}, expected {self.allowed()}")
        try:
            return tuple(self.item.check(item) for item in value)
        except ValueError:
            raise ValueError(f"got {list(value)!r}, expected {self.allowed()}") from None

    def plain(self, value: Any) -> list[Any]:
        """A checked value as JSON has it."""
        return list(value)


class AnyRule(Protocol):
    """What every kind of rule can do."""

    @property
    def doc(self) -> str:
        """What the parameter means."""
        ...

    def allowed(self) -> str:
        """What is allowed, in words, for messages and listings."""
        ...

    def check(self, value: Any) -> Any:
        """`value` in its canonical type; ValueError with what came and what is allowed."""
        ...

    def plain(self, value: Any) -> Any:
        """A checked value as JSON has it."""
        ...


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
    later: bool = False,
) -> Any:
    """Declare a parameter of a method: a dataclass field that knows its meaning and its bounds.

    The kind (bool, int, float, str) is that of `default`. A number may also be one of `words`
    (for example `fill="mean"`), then give the kind by the bounds: it is a float. A tuple stands for
    a list of numbers of its items' kind (float where it is empty), each within the bounds.

    `later`: the method had results before it had this parameter, so that at its default it is no
    part of what identifies a run (`registry.identifying`).
    """
    one = next(iter(default), 0.0) if isinstance(default, tuple) else default
    kind = float if words else type(one)
    item = Rule(doc, kind, above, at_least, below, at_most, choices, words)
    is_list = isinstance(default, tuple)
    rule = ListRule(doc, item, may_be_empty=not default) if is_list else item
    return dataclasses.field(default=default, metadata={"rule": rule, "later": later})


def rules(method: type) -> dict[str, tuple[AnyRule, Any]]:
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
    """'; did you mean 'x'?' for the closest valid name, or a full stop when none is close."""
    match = difflib.get_close_matches(str(name), list(valid), n=1, cutoff=0.5)
    return f"; did you mean {match[0]!r}?" if match else "."
