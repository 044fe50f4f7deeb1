"""A picture of samples: some images of each class, with what the central square leaves out."""

from __future__ import annotations

import io
from collections import defaultdict
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from mixbench.experiments.data.inspection.inspect import Inspection, Picture
from mixbench.experiments.data.open_image import open_image, upright

SIDE = 96
GAP = 6
LINE = 15
COLUMNS = 8
MOST_CLASSES = 20
_PALE = 0.65


def samples(seen: Inspection) -> bytes:
    """Return a PNG with a row of evenly spaced images for each class, up to `MOST_CLASSES`.

    Of many classes the largest and the smallest are shown. What the central square leaves out is
    pale; transparency is white.
    """
    names = sorted(seen.classes, key=lambda name: -seen.classes[name])
    if len(names) > MOST_CLASSES:
        half = MOST_CLASSES // 2
        names = [*names[:half], *names[-half:]]
    by_class: dict[str, list[Picture]] = defaultdict(list)
    for picture in seen.pictures:
        by_class[picture.label].append(picture)
    height = LINE + len(names) * (SIDE + LINE + GAP) + GAP
    sheet = Image.new("RGB", (COLUMNS * (SIDE + GAP) + GAP, height), "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(size=11)
    shown = f"{len(names)} of {len(seen.classes)} classes" if len(names) < len(by_class) else ""
    title = f"{seen.listing.root.name}: pale is what the central square leaves out. {shown}"
    draw.text((GAP, 2), title, fill="black", font=font)
    for row, name in enumerate(names):
        top = LINE + GAP + row * (SIDE + LINE + GAP)
        caption = f"{name}: {seen.classes[name]:,}"
        draw.text((GAP, top), caption, fill="black", font=font)
        for column, picture in enumerate(_spread(by_class[name])):
            tile = _tile(picture)
            left = GAP + column * (SIDE + GAP) + (SIDE - tile.width) // 2
            sheet.paste(tile, (left, top + LINE + (SIDE - tile.height) // 2))
    png = io.BytesIO()
    sheet.save(png, "PNG", optimize=True)
    return png.getvalue()


def _spread(pictures: Sequence[Picture]) -> list[Picture]:
    """Return evenly spaced ones."""
    count = min(COLUMNS, len(pictures))
    return [pictures[number * len(pictures) // count] for number in range(count)]


def _tile(picture: Picture) -> Image.Image:
    """Return the whole picture, small, pale outside of its central square."""
    with open_image(picture.path) as image:
        image.draft(None, (2 * SIDE, 2 * SIDE))
        tile = upright(_on_white(image))
    tile.thumbnail((SIDE, SIDE))
    side = min(tile.size)
    x, y = (tile.width - side) // 2, (tile.height - side) // 2
    pale = Image.blend(tile, Image.new("RGB", tile.size, "white"), _PALE)
    pale.paste(tile.crop((x, y, x + side, y + side)), (x, y))
    return pale


def _on_white(image: Image.Image) -> Image.Image:
    """Return an image as RGB: transparency on white, many levels stretched to be seen."""
    image.load()
    if image.mode.startswith(("I", "F")):
        levels = np.nan_to_num(np.asarray(image, dtype=np.float64))
        low, high = np.quantile(levels, (0.01, 0.99))
        levels = ((levels - low) * (255 / max(high - low, 1e-12))).clip(0, 255)
        image = Image.fromarray(levels.astype(np.uint8))
    if image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info:
        layer = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer).convert("RGB")
    return image.convert("RGB")
