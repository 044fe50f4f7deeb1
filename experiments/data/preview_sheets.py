"""The sheets of `mixbench preview`: what one method does, and several methods side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from PIL import Image, ImageDraw
from torch import Tensor

from mixbench.augmentations.forward import unmixed
from mixbench.experiments.config.method_text import parameter_text
from mixbench.experiments.data import pictures
from mixbench.experiments.data.box_pictures import outlined
from mixbench.experiments.data.crops import Scale
from mixbench.experiments.data.dataset import Dataset
from mixbench.experiments.data.mask_pictures import soft_masks, tinted
from mixbench.experiments.data.mixed_objects import mixed_boxes
from mixbench.experiments.data.object_rows import Objects
from mixbench.experiments.data.pictures import Font
from mixbench.experiments.design.tasks import BOXES, MASKS, PAIRS
from mixbench.experiments.errors import UserError

SIDE = 130
GAP = 6
MOST_PIXELS = 60_000_000
"""Of a sheet: more take more memory than a picture is worth."""
_BESIDE = 4


@dataclass(frozen=True)
class Look:
    """How a sheet is drawn.

    Attributes:
        seed: Of what is drawn.
        side: Pixels of a picture.
        crops: The shares of the area that random crops have; None for whole images.
        seen: What else becomes of training images, for the title.
    """

    seed: int = 0
    side: int = SIDE
    crops: Scale | None = None
    seen: str = ""

    @property
    def letters(self) -> int:
        """Pixels of the letters: larger below larger pictures."""
        return min(28, max(11, 11 * self.side // SIDE))

    @property
    def line(self) -> int:
        """Pixels from a line of text to the next."""
        return self.letters + 3

    @property
    def font(self) -> Font:
        """The font of all texts."""
        return pictures.font_of(self.letters)


USUAL = Look()


def preview(
    dataset: Dataset,
    augmentation: Mapping[str, Any],
    *,
    rows: int,
    columns: int,
    look: Look = USUAL,
) -> bytes:
    """A PNG grid of mixed training images with their label weights, beside the unmixed ones."""
    raw, labels = pictures.one_per_class(dataset, rows * columns, look.crops, look.seed)
    mixed, targets, depth = pictures.mix_batch(dataset, dict(augmentation), raw, labels, look.seed)
    side, font = look.side, look.font
    captions = [pictures.caption(dataset, targets, n, side, font) for n in range(len(mixed))]
    tall = look.line * (1 + max(map(len, captions))) + GAP
    block = 2 * side + _BESIDE
    width = GAP + columns * (block + 2 * GAP)
    title = (
        f"{augmentation['name']} ({_settings(augmentation)}), drawn per sample, on {dataset.name}"
    )
    notes = [title, *([pictures.inside(depth)] if depth else []), look.seen]
    sheet, draw, head = _sheet(notes, width, rows * (side + tall), look)
    shown = _unmixed(dataset, raw, labels)
    for number in range(len(mixed)):
        left = GAP + (number % columns) * (block + 2 * GAP)
        top = head + (number // columns) * (side + tall)
        sheet.paste(pictures.tile_of(shown[number], side), (left, top))
        sheet.paste(pictures.tile_of(mixed[number], side), (left + side + _BESIDE, top))
        own = pictures.short(pictures.target_text(dataset, labels[number]))
        pictures.write_lines(draw, (left, top + side + 1), [own], font, look.line, "#555555")
        corner = (left + side + _BESIDE, top + side + 1)
        pictures.write_lines(draw, corner, captions[number], font, look.line)
    return pictures.png_of(sheet)


def comparison(
    dataset: Dataset, methods: Sequence[Mapping[str, Any]], *, rows: int, look: Look = USUAL
) -> bytes:
    """A PNG of the same training images, a row each, mixed by several methods, a column each."""
    raw, labels = pictures.one_per_class(dataset, rows, look.crops, look.seed)
    side, font, line = look.side, look.font, look.line
    batches = [pictures.mix_batch(dataset, dict(one), raw, labels, look.seed) for one in methods]
    captions = [
        [pictures.caption(dataset, targets, n, side, font) for _, targets, _ in batches]
        for n in range(len(raw))
    ]
    tall = line * max(1, max(len(lines) for row in captions for lines in row)) + GAP
    width = GAP + (1 + len(methods)) * (side + 2 * GAP)
    names = [pictures.wrapped(str(one["name"]), side, font) for one in methods]
    above = line * max(map(len, names))
    notes = [f"the same images of {dataset.name}, drawn per sample"]
    for one, (_, _, depth) in zip(methods, batches, strict=True):
        where = f"; {pictures.inside(depth)}" if depth else ""
        notes.append(f"{one['name']}: {_settings(one) or 'no parameters'}{where}")
    sheet, draw, head = _sheet([*notes, look.seen], width, above + len(raw) * (side + tall), look)
    columns = [GAP + place * (side + 2 * GAP) for place in range(1 + len(methods))]
    for left, lines in zip(columns, [["unmixed"], *names], strict=True):
        pictures.write_lines(draw, (left, head), lines, font, line)
    shown = _unmixed(dataset, raw, labels)
    for number in range(len(raw)):
        top = head + above + number * (side + tall)
        own = pictures.short(pictures.target_text(dataset, labels[number]))
        texts = [[own], *captions[number]]
        images = [shown[number], *(mixed[number] for mixed, _, _ in batches)]
        for left, image, lines in zip(columns, images, texts, strict=True):
            sheet.paste(pictures.tile_of(image, side), (left, top))
            pictures.write_lines(draw, (left, top + side + 1), lines, font, line)
    return pictures.png_of(sheet)


def _unmixed(dataset: Dataset, raw: Tensor, labels: Tensor) -> Tensor:
    if dataset.targets == MASKS:
        return tinted(raw, soft_masks(labels, len(dataset.classes)))
    if dataset.targets == BOXES:
        return outlined(raw, mixed_boxes(unmixed(raw), Objects.of(labels, dataset.shape[1:])))
    return pictures.beside(raw, labels) if dataset.targets == PAIRS else raw


def _settings(augmentation: Mapping[str, Any]) -> str:
    return ", ".join(
        f"{name}={parameter_text(value)}"
        for name, value in augmentation.items()
        if name not in ("name", "per_sample")
    )


def _sheet(
    notes: Sequence[str], width: int, height: int, look: Look
) -> tuple[Image.Image, ImageDraw.ImageDraw, int]:
    """A white sheet with its notes, what draws on it, and where the pictures begin."""
    lines = [
        line
        for text in filter(None, notes)
        for line in pictures.wrapped(text, width - 2 * GAP, look.font)
    ]
    head = 10 + look.line * len(lines)
    if width * (head + height) > MOST_PIXELS:
        raise UserError(
            f"--size: got {look.side}, a sheet of {width:,} x {head + height:,} pixels; "
            f"expected at most {MOST_PIXELS // 1_000_000} million, so fewer --rows or a smaller "
            "--size"
        )
    sheet = Image.new("RGB", (width, head + height), "white")
    draw = ImageDraw.Draw(sheet)
    pictures.write_lines(draw, (GAP, 6), lines, look.font, look.line)
    return sheet, draw, head
