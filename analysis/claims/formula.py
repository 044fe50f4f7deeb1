"""Contrasts as they are written in claim files: `(cutmix - none) - (cutmix_large - none_large)`.

A formula adds and subtracts named groups of cells; `|late - early| - |strong - weak|` compares two
differences by their size, whatever their signs.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from mixbench.experiments.errors import UserError

Weights = Mapping[str, int]
"""group -> how often it is added (or, below 0, subtracted)."""

_TOKEN = re.compile(r"\s*([A-Za-z_][A-Za-z0-9_]*|[-+()|])")
_MEAN = "mean of "
_METRIC_SIGN = re.compile(r"\s+([+-])\s+")


@dataclass(frozen=True)
class Formula:
    """A contrast of groups.

    Attributes:
        text: As it is written.
        first: The contrast, or the first of two that are compared by size.
        second: The other one; None in a plain contrast.
    """

    text: str
    first: Weights
    second: Weights | None = None

    @property
    def groups(self) -> tuple[str, ...]:
        """The names in it, in order."""
        return tuple(dict.fromkeys((*self.first, *(self.second or {}))))

    @property
    def parts(self) -> tuple[Weights, ...]:
        """The plain contrasts to be estimated.

        |A| - |B| is above 0 just where A - B and A + B have the same sign.
        """
        if self.second is None:
            return (self.first,)
        return _sum(self.first, self.second, -1), _sum(self.first, self.second, 1)


def parse(text: str) -> Formula:
    """Read a formula.

    Raises:
        UserError: It is none, or what it adds is not what it subtracts.

    Examples:
        >>> parse("(a - b) - (c - d)").first
        {'a': 1, 'b': -1, 'c': -1, 'd': 1}
        >>> parse("|a - b| - |c - d|").parts
        ({'a': 1, 'b': -1, 'c': -1, 'd': 1}, {'a': 1, 'b': -1, 'c': 1, 'd': -1})
    """
    reader = _Reader(text)
    if reader.peek() == "|":
        first = reader.size()
        reader.expect("-")
        second: Weights | None = reader.size()
    else:
        first, second = reader.added(), None
    reader.expect("")
    for part in (first, second):
        if part is not None and (sum(part.values()) != 0 or not any(part.values())):
            raise UserError(
                f"got {text!r}, expected a difference: as many groups added as subtracted, "
                "such as cutmix - none"
            )
    return Formula(text, first, second)


def parse_metric(text: str) -> dict[str, float]:
    """Read a metric, several that are added and subtracted, or the mean of several.

    Signs have spaces around them.

    Examples:
        >>> parse_metric("train/accuracy - test/accuracy")
        {'train/accuracy': 1.0, 'test/accuracy': -1.0}
        >>> parse_metric("attack/pgd/8-255"), parse_metric("mean of a, b")
        ({'attack/pgd/8-255': 1.0}, {'a': 0.5, 'b': 0.5})
    """
    if text.startswith(_MEAN):
        names = [name.strip() for name in text.removeprefix(_MEAN).split(",")]
        return {name: 1 / len(names) for name in names}
    first, *rest = _METRIC_SIGN.split(text.strip())
    weights = {first: 1.0}
    for sign, name in zip(rest[::2], rest[1::2], strict=True):
        weights[name] = weights.get(name, 0.0) + (1.0 if sign == "+" else -1.0)
    return weights


class _Reader:
    """Reads sums of names and brackets."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.tokens = _TOKEN.findall(text)
        if "".join(self.tokens) != re.sub(r"\s", "", text):
            raise self.wrong()

    def peek(self) -> str:
        return self.tokens[0] if self.tokens else ""

    def expect(self, token: str) -> None:
        if self.peek() != token:
            raise self.wrong()
        self.tokens = self.tokens[1:]

    def size(self) -> Weights:
        self.expect("|")
        inner = self.added()
        self.expect("|")
        return inner

    def added(self) -> Weights:
        weights: Weights = self.term()
        while self.peek() in ("+", "-"):
            sign = 1 if self.tokens[0] == "+" else -1
            self.tokens = self.tokens[1:]
            weights = _sum(weights, self.term(), sign)
        return weights

    def term(self) -> Weights:
        token = self.peek()
        if token == "(":
            self.expect("(")
            inner = self.added()
            self.expect(")")
            return inner
        if not token or token in "+-|)":
            raise self.wrong()
        self.expect(token)
        return {token: 1}

    def wrong(self) -> UserError:
        return UserError(
            f"got {self.text!r}, expected groups with + and - between them, such as cutmix - none, "
            "(a - b) - (c - d) or |a - b| - |c - d|"
        )


def _sum(one: Weights, other: Weights, sign: int) -> dict[str, int]:
    names = dict.fromkeys((*one, *other))
    return {name: one.get(name, 0) + sign * other.get(name, 0) for name in names}
