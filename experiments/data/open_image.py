"""Open image files: plug-ins of Pillow, the way up, and why a file can't be read."""

from __future__ import annotations

import importlib
import io
from functools import cache
from pathlib import Path
from typing import IO

from PIL import Image, UnidentifiedImageError

from mixbench.experiments.config.member_file import content, member_of
from mixbench.experiments.text import first_line

ORIENTATION = 0x0112
"""The EXIF tag that says how a picture is to be turned."""

_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_PLUGINS = {
    ".heic": "pillow_heif",
    ".heif": "pillow_heif",
    ".hif": "pillow_heif",
    ".avif": "pillow_avif",
    ".avifs": "pillow_avif",
    ".jxl": "pillow_jxl",
}
"""Packages that teach Pillow a kind of file, by suffix."""


def open_image(path: Path, source: IO[bytes] | None = None) -> Image.Image:
    """Open an image file, with the plug-in of its suffix if that is installed.

    source: the content of the file, where it was read already. Raises whatever Pillow does.
    """
    package = _PLUGINS.get(path.suffix.lower())
    if package is not None:
        _register(package)
    member = member_of(path) if source is None else None
    if member is not None:
        source = io.BytesIO(content(member))
    return Image.open(path if source is None else source)


def orientation(image: Image.Image) -> int:
    """What the EXIF data say of the way up, 1 to 8; 1 where they are damaged or say nothing."""
    try:
        number = image.getexif().get(ORIENTATION, 1)
    except Exception:  # damaged EXIF data can raise anything, and the pixels are good
        return 1
    return int(number) if isinstance(number, int) and number in _TURNS else 1


def upright(image: Image.Image) -> Image.Image:
    """The image turned as its EXIF data say.

    Unlike Pillow's `exif_transpose` it does not write the EXIF data anew, which fails on odd ones.
    """
    turn = _TURNS.get(orientation(image))
    return image if turn is None else image.transpose(turn)


def why_unreadable(path: Path, error: Exception) -> str:
    """Say in a few words why a file was not read as an image."""
    package = _PLUGINS.get(path.suffix.lower())
    if isinstance(error, UnidentifiedImageError):
        if package is not None and not _register(package):
            return f"needs the package {package.replace('_', '-')}, which is not installed"
        return "not an image that Pillow can read"
    if isinstance(error, Image.DecompressionBombError):
        return "more pixels than Pillow opens, as an image made to fill the memory would have"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return first_line(error)


@cache
def _register(package: str) -> bool:
    """Register a plug-in of Pillow; False if it is not installed."""
    try:
        plugin = importlib.import_module(package)
    except ImportError:
        return False
    if package == "pillow_heif":
        plugin.register_heif_opener()
    return True
