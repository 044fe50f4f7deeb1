"""Localisation: where class activation maps point."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field, field_validator, model_validator

from mixbench.experiments.evaluation.declaration import Measurement
from mixbench.experiments.evaluation.localisation.box_files import read_boxes
from mixbench.experiments.section import Number, Section


class LocalisationSettings(Section):
    """Which scenes and photographs are measured.

    Attributes:
        images: How many test images are the objects of composed scenes; all are held in memory.
        seed: Which images, and which scenes.
        grid: Cells of a scene along a side.
        validation_images: How many validation images are the objects of scenes on which thresholds
            are chosen.
        threshold: The share of a map's maximum above which it gets a box.
        boxes: Boxes in your own images (see `localisation/box_files.py`), as CSV, COCO or YOLO, for
            runs on an image folder.
        boxes_folder: Where the images of a COCO file lie; None: beside it.
    """

    images: int = Field(500, ge=1, le=10_000)
    seed: int = Field(0, ge=0)
    grid: int = Field(2, ge=2, le=8)
    validation_images: int = Field(200, ge=2, le=10_000)
    threshold: Number = Field(0.2, ge=0, lt=1)
    boxes: str | None = None
    boxes_folder: str | None = None

    @field_validator("boxes", "boxes_folder")
    @classmethod
    def _absolute(cls, given: str | None) -> str | None:
        # Processes that measure may start elsewhere.
        return None if given is None else str(Path(given).expanduser().resolve())

    @model_validator(mode="after")
    def _readable(self) -> LocalisationSettings:
        if self.boxes is not None:
            read_boxes(Path(self.boxes), self.images_of_boxes)
        elif self.boxes_folder is not None:
            raise ValueError("boxes_folder: is where the images of boxes lie; give boxes too")
        return self

    @property
    def images_of_boxes(self) -> Path | None:
        """Return `boxes_folder` as a path."""
        return None if self.boxes_folder is None else Path(self.boxes_folder)


MEASUREMENT = Measurement(
    "localisation",
    "where class activation maps point, in composed scenes and in own images with boxes",
    LocalisationSettings,
    order=80,
    tasks=("classification", "multi_label"),
    seconds=2.0,
)
