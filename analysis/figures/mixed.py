"""Stack the strips of mixed images that the runs saved."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from PIL import Image

from mixbench.analysis.figures.canvas import png, settings, wrap
from mixbench.analysis.figures.palette import LIGHT, Paper

_STRIP_WIDTH, _GAP, _HEADING = 7.6, 0.07, 0.32
"""Inches: the width of a strip, the gap between two, and the height of a heading."""


def mixed_figure(strips: Sequence[tuple[str, str, Path]], paper: Paper = LIGHT) -> bytes:
    """Draw the strips, each with its method's name.

    strips: (heading, method, file); a heading is drawn where it changes and is not empty.
    """
    images = [_read(path) for _, _, path in strips]
    headings = [heading for heading, _, _ in strips]
    before = ["", *headings[:-1]]
    changed = [new if new != old else "" for new, old in zip(headings, before, strict=True)]
    longest = max(len(line) for _, name, _ in strips for line in wrap(name).split("\n"))
    label = max(0.9, 0.1 * longest + 0.1)
    width = label + _STRIP_WIDTH + 0.05
    heights = [_STRIP_WIDTH * image.shape[0] / image.shape[1] for image in images]
    height = sum(heights) + _HEADING * sum(map(bool, changed)) + _GAP * (len(images) + 1)
    with settings(paper):
        figure = Figure(figsize=(width, height))
        top = height - _GAP
        for heading, (_, name, _), image, tall in zip(
            changed, strips, images, heights, strict=True
        ):
            if heading:
                bold: dict[str, Any] = {"weight": "bold", "size": 10.5, "va": "center"}
                figure.text(0.0, (top - 0.16) / height, heading, **bold)
                top -= _HEADING
            axis = figure.add_axes(
                (label / width, (top - tall) / height, _STRIP_WIDTH / width, tall / height)
            )
            axis.imshow(image, aspect="auto", cmap="gray", vmin=0, vmax=255)
            axis.set_axis_off()
            beside: dict[str, Any] = {"ha": "right", "va": "center", "size": 10.5}
            figure.text((label - 0.1) / width, (top - tall / 2) / height, wrap(name), **beside)
            top -= tall + _GAP
        return png(figure)


def is_image(path: Path) -> bool:
    """Tell whether it is a complete image file."""
    try:
        with Image.open(path) as image:
            image.load()
            return image.width > 0 and image.height > 0
    except (OSError, ValueError, SyntaxError):
        return False


def _read(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        mode = "L" if image.mode in ("1", "L", "I", "F") else "RGB"
        return np.asarray(image.convert(mode))
