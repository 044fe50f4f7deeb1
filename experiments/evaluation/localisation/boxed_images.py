"""The user's own images with boxes, as a network sees them: cut, padded or stretched, resized."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from mixbench.experiments.config.box_files.boxes import Box
from mixbench.experiments.config.datasets import has_files
from mixbench.experiments.data.decode import Form, Pixels, as_batch, decode
from mixbench.experiments.data.folder_listing import listing_of
from mixbench.experiments.data.geometry import Shape, window
from mixbench.experiments.data.open_image import open_image, orientation, why_unreadable
from mixbench.experiments.errors import UserError, unknown
from mixbench.experiments.evaluation.localisation.box_files import read_boxes


@dataclass(frozen=True)
class Boxed:
    """Images, each with the boxes of one class.

    Attributes:
        rows: One row of the file for each image.
        labels: (N,) int64, the classes.
        boxes: (N,K,4) float64: left, top, right, bottom as fractions of what the network sees.
        outside: Pairs of image and class left out because no box reaches into that.
        trained: Those left out because the network was trained or chosen on the image.
        crowds: Boxes left out because they are around many objects.
        form: What becomes of the images.
    """

    rows: tuple[Box, ...]
    labels: Tensor
    boxes: Tensor
    outside: int
    trained: int
    crowds: int
    form: Form

    def __len__(self) -> int:
        return len(self.rows)

    def batches(self, batch_size: int) -> Iterator[tuple[Tensor, slice]]:
        """Decode the images.

        Args:
            batch_size: How many at once.

        Yields:
            (B,3,H,W) from 0 to 255 on the CPU, and which images they are.

        Raises:
            UserError: A file is broken.
        """
        with ThreadPoolExecutor(max(1, torch.get_num_threads())) as pool:
            for start in range(0, len(self), batch_size):
                part = slice(start, min(start + batch_size, len(self)))
                images = pool.map(partial(_decoded, form=self.form), self.rows[part])
                yield as_batch(list(images)), part


def boxed(
    path: Path, images: Path | None, dataset: str, classes: Sequence[str], form: Form
) -> Boxed:
    """Read the boxes for a run on an image folder; those of one image and class belong together.

    Args:
        path: The file, as `read_boxes` takes it.
        images: Where the images of a COCO file lie.
        dataset: The run's, such as "imagefolder:PATH".
        classes: Those that the network knows.
        form: What becomes of the pictures of the run.

    Raises:
        UserError: A class is unknown, a box is not in its image, or nothing is left.
    """
    if not has_files(dataset):
        raise UserError(
            f"localisation.boxes: {dataset} has no image files, expected a run on an image folder, "
            "or on a list of image files"
        )
    listing = listing_of(dataset)
    used = [*listing.train[0], *(listing.validation or ([], None))[0]]
    # A folder's images may be links, and below links.
    trained = {name for file in used for name in (str(file), os.path.realpath(file))}
    groups: dict[tuple[str, str], list[Box]] = {}
    file_of_boxes = read_boxes(path, images)
    for row in file_of_boxes.boxes:
        if row.label not in classes:
            raise unknown(f"class in {row.where}: class:", row.label, classes)
        groups.setdefault((str(row.image.resolve()), row.label), []).append(row)
    rows, boxes_by_image, outside, known = [], [], 0, 0
    for (file, _), group in groups.items():
        if trained & {file, os.path.abspath(group[0].image)}:
            known += 1
            continue
        size = _upright_size(group[0])
        squares = [square for row in group if (square := _seen(row, size, form.shape)) is not None]
        if squares:
            rows.append(group[0])
            boxes_by_image.append(squares)
        else:
            outside += 1
    if not rows:
        raise UserError(
            f"localisation.boxes: {path}: no image is left: {known} are of the training or "
            f"validation split, and {outside} have their boxes outside of what the network sees"
        )
    boxes = torch.zeros(len(rows), max(map(len, boxes_by_image)), 4, dtype=torch.float64)
    for number, squares in enumerate(boxes_by_image):
        boxes[number, : len(squares)] = torch.tensor(squares, dtype=torch.float64)
    labels = torch.tensor([list(classes).index(row.label) for row in rows])
    return Boxed(tuple(rows), labels, boxes, outside, known, file_of_boxes.crowds, form)


def _seen(
    row: Box, size: tuple[int, int], shape: Shape
) -> tuple[float, float, float, float] | None:
    """The box in fractions of what is seen of an image of `size`; None if it is outside."""
    width, height = size
    left, top, right, bottom = row.pixels(width, height)
    x, y, across, down = window(width, height, shape)
    edges = [(left - x) / across, (top - y) / down, (right - x) / across, (bottom - y) / down]
    left, top, right, bottom = (min(max(edge, 0.0), 1.0) for edge in edges)
    return (left, top, right, bottom) if left < right and top < bottom else None


def _upright_size(row: Box) -> tuple[int, int]:
    try:
        with open_image(row.image) as image:
            turned = orientation(image) in (5, 6, 7, 8)
            return (image.height, image.width) if turned else image.size
    except Exception as error:  # a broken file can raise anything
        raise _broken(row, error) from None


def _decoded(row: Box, form: Form) -> Pixels:
    try:
        return decode(row.image, form)
    except Exception as error:  # a broken file can raise anything
        raise _broken(row, error) from None


def _broken(row: Box, error: Exception) -> UserError:
    return UserError(f"{row.where}: image: not readable ({why_unreadable(row.image, error)})")
