"""Declare, check and list the parameters of a method."""

from __future__ import annotations

import dataclasses
import difflib
import math
import re
import struct
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

CLASS_PAIRINGS = ("same_class", "other_class")
"""Pairings that look at the labels."""
PAIRINGS = ("permute", "derange", "roll", "flip", *CLASS_PAIRINGS)
"""Who is mixed with whom; see `Draws.partners`."""


@dataclass(frozen=True)
class Rule:
    """The meaning and the allowed values of a parameter: a number, a word, or true or false.

    Attributes:
        doc: What the parameter means.
        kind: Its type: bool, int, float or str.
        above: It must be larger.
        at_least: It must be as large or larger.
        below: It must be smaller.
        at_most: It must be as small or smaller.
        choices: It must be one of these words.
        words: It may be one of these words instead of a number.
    """

    holds_methods: ClassVar[bool] = False

    doc: str
    kind: type
    above: float | None = None
    at_least: float | None = None
    below: float | None = None
    at_most: float | None = None
    choices: tuple[str, ...] | None = None
    words: tuple[str, ...] = ()

    def allowed(self) -> str:
        """Describe what is allowed, for messages and listings."""
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

    def parse(self, value: Any) -> Any:
        """Return `value` in its canonical type; ValueError with what is allowed."""
        value = as_python(value)
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
                # Adding 0 makes 0.0 of -0.0: they are one setting.
                return self.kind(value) + 0
        raise ValueError(f"got {value!r}, expected {self.allowed()}{decimal_comma(value)}")

    def to_json(self, value: Any) -> Any:
        """Return a checked value as a JSON value."""
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
    """A list whose items all follow one rule.

    Attributes:
        doc: What the parameter means.
        item: What each item may be.
        may_be_empty: Whether a list without items is allowed.
    """

    holds_methods: ClassVar[bool] = False

    doc: str
    item: Rule
    may_be_empty: bool

    def allowed(self) -> str:
        """Describe what is allowed, for messages and listings."""
        return f"a list{'' if self.may_be_empty else ', not empty'}, each {self.item.allowed()}"

    def parse(self, value: Any) -> tuple[Any, ...]:
        """Return `value` as a tuple of canonical items; ValueError with what is allowed."""
        if getattr(value, "ndim", None) == 1 and hasattr(value, "tolist"):
            value = [as_python(item) for item in value]
        if not isinstance(value, list | tuple) or not (value or self.may_be_empty):
            raise ValueError(f"got {value!r}, expected {self.allowed()}")
        try:
            return tuple(self.item.parse(item) for item in value)
        except ValueError:
            raise ValueError(f"got {list(value)!r}, expected {self.allowed()}") from None

    def to_json(self, value: Any) -> list[Any]:
        """Return a checked value as a JSON value."""
        return list(value)


class AnyRule(Protocol):
    """The interface of every kind of rule."""

    @property
    def doc(self) -> str:
        """What the parameter means."""
        ...

    @property
    def holds_methods(self) -> bool:
        """Whether the values are lists of methods (`nested.MethodsRule`)."""
        ...

    def allowed(self) -> str:
        """Describe what is allowed, for messages and listings."""
        ...

    def parse(self, value: Any) -> Any:
        """Return `value` in its canonical type; ValueError with what is allowed."""
        ...

    def to_json(self, value: Any) -> Any:
        """Return a checked value as a JSON value."""
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

    Args:
        default: The value of the original paper. Its type (bool, int, float, str) is that of the
            parameter. A tuple stands for a list of numbers of its items' type (float where it is
            empty), each within the bounds.
        doc: What the parameter means, in a few words for `mixbench list`.
        above: It must be larger.
        at_least: It must be as large or larger.
        below: It must be smaller.
        at_most: It must be as small or smaller.
        choices: It must be one of these words.
        words: It may be one of these words instead of a number, which is then a float
            (for example `fill="mean"`).
        later: Whether the parameter was added after the method had results. At its default it is
            then no part of a run's key (`registry.identifying`).

    Examples:
        >>> from dataclasses import dataclass
        >>> from mixbench import Method, parameter
        >>> @dataclass(frozen=True, kw_only=True)
        ... class Strip(Method):
        ...     name = "strip"
        ...     width: float = parameter(0.5, "share of the width", above=0, at_most=1)
        ...     def draw(self, draws): ...
        >>> Strip(width=2)
        Traceback (most recent call last):
        ValueError: strip.width: got 2, expected a number above 0 and at most 1
    """
    one = next(iter(default), 0.0) if isinstance(default, tuple) else default
    kind = float if words else type(one)
    item = Rule(doc, kind, above, at_least, below, at_most, choices, words)
    is_list = isinstance(default, tuple)
    rule = ListRule(doc, item, may_be_empty=not default) if is_list else item
    return dataclasses.field(default=default, metadata={"rule": rule, "later": later})


def prob_parameter(default: float) -> Any:
    """Declare `prob`; a method whose authors don't mix always declares it anew."""
    return parameter(
        default,
        "probability of mixing, applied once per batch, or once per sample with per_sample",
        at_least=0,
        at_most=1,
    )


def rules(method: type) -> dict[str, tuple[AnyRule, Any]]:
    """Return the rule and the default of each parameter of a method class; common ones last."""
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


def as_python(value: Any) -> Any:
    """Return a scalar of NumPy or torch as Python's number, and anything else as it is.

    A float32 becomes the shortest decimal that it stands for, so that settings from an array are
    those that were written.

    Examples:
        >>> import numpy as np
        >>> as_python(np.float32(0.2)), as_python(np.int64(3)), as_python("mean")
        (0.2, 3, 'mean')
    """
    if not hasattr(value, "item") or getattr(value, "ndim", None) != 0:
        return value
    form = {"float32": "f", "float16": "e"}.get(str(value.dtype).rpartition(".")[2])
    value = value.item()
    if form is not None and math.isfinite(value) and not (value % 1 == 0 and abs(value) < 2**24):
        bits = struct.pack(form, value)
        texts = (f"{value:.{digits}g}" for digits in range(1, 10))
        return next((float(t) for t in texts if struct.pack(form, float(t)) == bits), value)
    return value


def decimal_comma(value: Any) -> str:
    """Suggest the number where a text is one with a decimal comma, as the end of a message.

    Examples:
        >>> decimal_comma("0,5")
        '; did you mean 0.5?'
        >>> decimal_comma("half")
        ''
    """
    is_comma = isinstance(value, str) and re.fullmatch(r"[-+]?\d+,\d+", value.strip())
    return f"; did you mean {value.strip().replace(',', '.')}?" if is_comma else ""


def nearest(name: Any, valid: Iterable[str]) -> str:
    """Suggest the valid name that is closest to `name`, as the end of a message.

    Examples:
        >>> nearest("cutmx", ["cutmix", "mixup"])
        "; did you mean 'cutmix'?"
        >>> nearest("something", ["cutmix", "mixup"])
        '.'
    """
    match = difflib.get_close_matches(str(name), list(valid), n=1, cutoff=0.5)
    return f"; did you mean {match[0]!r}?" if match else "."
