"""Reports that nobody looks at need no finished pictures."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import IO

import pytest
from matplotlib.figure import Figure

from mixbench.analysis.figures.canvas import ReportFigure
from mixbench.analysis.figures.palette import LIGHT, Paper
from mixbench.analysis.report import first_screen
from mixbench.analysis.report.build import SECTIONS
from mixbench.analysis.report.measurements import figures


def _set_up_once(
    name: str,
    title: str,
    caption: str,
    alt: str,
    draw: Callable[[Paper], bytes],
    draw_narrow: Callable[[Paper], bytes] | None = None,
) -> ReportFigure:
    drawn = draw(LIGHT)
    narrow = () if draw_narrow is None else (drawn, drawn)
    return ReportFigure(name, title, caption, alt, drawn, drawn, narrow)


@pytest.fixture
def without_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Set figures up, on light paper alone, but don't render them: that takes seconds each."""

    def save(_: Figure, stream: IO[bytes], **__: object) -> None:
        stream.write(b"no picture")

    monkeypatch.setattr(Figure, "savefig", save)
    _draw_once(monkeypatch)


@pytest.fixture(scope="module")
def on_light_paper() -> Iterator[None]:
    """Draw figures on light paper alone, which stands for both."""
    with pytest.MonkeyPatch.context() as patch:
        _draw_once(patch)
        yield


def _draw_once(patch: pytest.MonkeyPatch) -> None:
    sections = [section.__globals__ for section in SECTIONS.values()]
    for names in (vars(first_screen), vars(figures), *sections):
        if "on_both_papers" in names:
            patch.setitem(names, "on_both_papers", _set_up_once)
