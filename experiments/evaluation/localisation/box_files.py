"""Read boxes in any of the three forms, which follow from the name: CSV, COCO or YOLO."""

from __future__ import annotations

from pathlib import Path

from mixbench.experiments.config.box_files.boxes import Box, BoxFile, checked, read
from mixbench.experiments.config.box_files.coco import read_coco
from mixbench.experiments.config.box_files.yolo import read_yolo
from mixbench.experiments.config.picture_list import csv_file
from mixbench.experiments.errors import UserError


def read_boxes(path: Path, folder: Path | None = None) -> BoxFile:
    """Read a CSV file, a COCO file (.json) or a YOLO data set (.yaml, or a folder with one).

    A CSV file is either one of boxes or that of a data set `csv:FILE` with the column `boxes`.

    Args:
        path: The file or folder.
        folder: Where the images of a COCO file lie; None: beside it.

    Raises:
        UserError: What is wrong, and where.
    """
    suffix = path.suffix.lower()
    if folder is not None and suffix != ".json":
        raise UserError(
            f"localisation.boxes_folder: is for COCO files (.json), and boxes is {path.name}"
        )
    if suffix == ".json":
        return read_coco(path, folder)
    if suffix in (".yaml", ".yml") or path.is_dir():
        return read_yolo(path)
    if csv_file.has_boxes(path):
        return BoxFile([checked(_of_row(row)) for row in csv_file.boxes_of(path)])
    return BoxFile(read(path))


def _of_row(row: csv_file.RowBox) -> Box:
    return Box(row.where, row.image, row.label, row.sides)
