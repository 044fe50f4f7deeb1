"""Localisation: where class activation maps point."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field, field_validator

from mixbench.experiments.evaluation.declaration import Measurement
from mixbench.experiments.evaluation.localisation.boxes import read
from mixbench.experiments.section import Number, Section


class LocalisationSettings(Section):
    """Which scenes and photographs are measured.

    Attributes:
        images: How many test images are the objects of composed scenes; all are held in memory.
        seed: Which images, and which scenes.
        grid: Cells of a scene along a side.
        threshold: The share of a map's maximum above which it gets a box.
        boxes: A CSV file with boxes in your own images (see `localisation/boxes.py`), for runs on
            an image folder.
    """

    images: int = Field(500, ge=1, le=10_000)
    seed: int = Field(0, ge=0)
    grid: int = Field(2, ge=2, le=8)
    threshold: Number = Field(0.2, ge=0, lt=1)
    boxes: str | None = None

    @field_validator("boxes")
    @classmethod
    def _readable(cls, given: str | None) -> str | None:
        if given is None:
            return None
        # Processes that measure may start elsewhere.
        path = Path(given).expanduser().resolve()
        read(path)
        return str(path)


MEASUREMENT = Measurement(
    "localisation",
    "where class activation maps point, in composed scenes and in own images with boxes",
    LocalisationSettings,
    order=80,
)
