"""Digits of many fonts of Debian, as images: synthetic glyphs beside handwriting.

Fonts and their licences: see the card in `data/sets/README.md`. Nothing of them is distributed.
"""

from __future__ import annotations

import io
import os
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mixbench.experiments.data.debian_package import unpack
from mixbench.experiments.data.download import Unavailable, data_folder, work_folder
from mixbench.experiments.errors import UserError

PACKAGES = ("fonts-dejavu-core", "fonts-freefont-ttf", "fonts-lato", "fonts-liberation")
FILE = "digits_of_fonts.npz"
SIDE = 28
_INNER = 20
"""Glyphs fill a square of this side in the middle, as MNIST's digits do."""
_FEWEST = 40


class Fonts:
    """The digits of all fonts of the packages."""

    def glyphs(self) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
        """Return the glyphs (N,1,28,28) and their digits; fetched where they are not here."""
        path = data_folder() / FILE
        if not path.is_file():
            self._fetch(path)
        try:
            with np.load(path, allow_pickle=False) as file:
                images, labels = file["images"], file["labels"]
        except (KeyError, OSError, ValueError) as error:
            raise UserError(
                f"fonts: cannot read {path} ({error}); remove it to have it made again"
            ) from None
        return images, labels

    def _fetch(self, path: Path) -> None:
        try:
            with work_folder() as work:
                folders = []
                for package in PACKAGES:
                    place = work / package
                    place.mkdir()
                    folders.append(unpack(package, place))
                packed = _packed(folders)
                whole = work / FILE
                whole.write_bytes(packed)
                os.replace(whole, path)
        except Unavailable as error:
            raise UserError(
                f"fonts: not on this machine and not to be had: {error}; they are taken from the "
                f"packages {', '.join(PACKAGES)} (Debian, Ubuntu) with apt-get"
            ) from None
        except OSError as error:
            raise UserError(
                f"fonts: cannot write to {path.parent} ({error.strerror or error})"
            ) from None


def _packed(folders: list[Path]) -> bytes:
    files = [file for folder in folders for file in folder.rglob("*.[to]tf")]
    images = [glyphs_of(file) for file in sorted(files, key=lambda file: file.name)]
    # A slanted twin may have the same digits.
    kept = {one.tobytes(): one for one in images if one is not None}
    if len(kept) < _FEWEST:
        raise Unavailable(f"{len(kept)} fonts with digits in them, expected {_FEWEST} and more")
    buffer = io.BytesIO()
    np.savez_compressed(
        buffer,
        allow_pickle=False,
        images=np.concatenate(list(kept.values())),
        labels=np.tile(np.arange(10, dtype=np.int64), len(kept)),
    )
    return buffer.getvalue()


def glyphs_of(file: Path) -> NDArray[np.uint8] | None:
    """Draw the ten digits of a font, white on black (10,1,28,28); None where it has none."""
    from PIL import Image, ImageDraw, ImageFont

    try:
        font = ImageFont.truetype(str(file), 60)
    except OSError:
        return None
    drawn = []
    for digit in "0123456789":
        canvas = Image.new("L", (120, 120))
        ImageDraw.Draw(canvas).text((30, 20), digit, fill=255, font=font)
        box = canvas.getbbox()
        if box is None:
            return None
        glyph = canvas.crop(box)
        scale = _INNER / max(glyph.size)
        size = max(1, round(glyph.width * scale)), max(1, round(glyph.height * scale))
        image = Image.new("L", (SIDE, SIDE))
        image.paste(
            glyph.resize(size, Image.Resampling.BOX),
            ((SIDE - size[0]) // 2, (SIDE - size[1]) // 2),
        )
        drawn.append(np.asarray(image))
    # A font without digits draws the same box for all.
    return None if len({one.tobytes() for one in drawn}) < 10 else np.stack(drawn)[:, None]


FONTS = Fonts()
