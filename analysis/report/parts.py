"""What the pages are made of: cells and rows of tables, figures on two kinds of paper."""

from __future__ import annotations

import base64
from collections.abc import Callable
from dataclasses import dataclass

from mixbench.analysis.figures.palette import DARK, LIGHT, Paper


@dataclass(frozen=True)
class Cell:
    """One entry of a table. tone: "good", "bad" or "" (how a difference stands after Holm)."""

    text: str
    minor: str = ""
    tone: str = ""


@dataclass(frozen=True)
class Row:
    """One row of a table: a name, then entries, or a note across all of them."""

    name: str
    cells: tuple[Cell, ...] = ()
    note: str = ""
    is_baseline: bool = False
    heading: bool = False


@dataclass(frozen=True)
class Figure:
    """A figure on light and on dark paper."""

    name: str
    title: str
    caption: str
    alt: str
    light: bytes
    dark: bytes

    @property
    def light_uri(self) -> str:
        return _data_uri(self.light)

    @property
    def dark_uri(self) -> str:
        return _data_uri(self.dark)


def both(name: str, title: str, caption: str, alt: str, draw: Callable[[Paper], bytes]) -> Figure:
    """A figure from what draws it on one paper."""
    return Figure(name, title, caption, alt, draw(LIGHT), draw(DARK))


def _data_uri(png: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(png).decode()}"
