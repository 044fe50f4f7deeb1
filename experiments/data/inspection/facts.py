"""Look at every image of a folder: its size, mode and content, or why it can't be read."""

from __future__ import annotations

import hashlib
import os
import warnings
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from PIL import Image

from mixbench.experiments.data.open_image import open_image, orientation, why_unreadable

WIDE = ("I", "F")
_DRAFTED = ("JPEG", "MPO")
_SIDE = 64
"""Large JPEG files are decoded to no less than this: quicker, and a broken one is found as well."""


@dataclass(frozen=True)
class Facts:
    """What is known of an image file.

    Attributes:
        width, height: In pixels, upright.
        mode: Pillow's name of its colours, such as RGB, L, RGBA or I;16.
        kind: Pillow's name of the file's format, such as PNG.
        frames: How many pictures it holds; the first is used.
        content: Identifies the pixels, whatever the format and the metadata.
        problem: Why it can't be read; "" if it can, and then the others are known.
    """

    width: int = 0
    height: int = 0
    mode: str = ""
    kind: str = ""
    frames: int = 1
    content: str = ""
    problem: str = ""

    @property
    def lost(self) -> float:
        """The share of the pixels that the central square leaves out."""
        return 1 - min(self.width, self.height) / max(self.width, self.height)


def examine(paths: Sequence[Path], tell: Callable[[int], None] | None = None) -> list[Facts]:
    """Decode every file, several at once; `tell` hears how many are done."""
    facts = []
    with warnings.catch_warnings():
        # Of odd metadata and large images; what can't be read has a problem.
        warnings.simplefilter("ignore")
        with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
            for number, one in enumerate(pool.map(_facts, paths), start=1):
                facts.append(one)
                if tell is not None:
                    tell(number)
            alike = _to_decode_in_full(facts)
            in_full = pool.map(partial(_facts, side=0), [paths[number] for number in alike])
            for number, one in zip(alike, in_full, strict=True):
                facts[number] = one
    return facts


def _to_decode_in_full(facts: Sequence[Facts]) -> list[int]:
    """The JPEG files that may be the same as others: their small versions don't tell."""
    seen = Counter(one.content for one in facts)
    sizes = {(one.width, one.height) for one in facts if one.kind not in _DRAFTED}
    return [
        number
        for number, one in enumerate(facts)
        if one.kind in _DRAFTED
        and (seen[one.content] > 1 or {(one.width, one.height), (one.height, one.width)} & sizes)
    ]


def _facts(path: Path, side: int = _SIDE) -> Facts:
    """Decode a file; side: that of large JPEG files, 0 for their own."""
    try:
        with open_image(path) as image:
            width, height, mode = image.width, image.height, image.mode
            if side:
                image.draft(None, (side, side))
            pixels = _colours(image)
            total = hashlib.blake2b(f"{width} {height} {pixels.mode}".encode(), digest_size=16)
            total.update(pixels.tobytes())
            if orientation(image) >= 5:
                width, height = height, width
            kind, content = image.format or "", total.hexdigest()
            return Facts(width, height, mode, kind, _frames(image), content)
    except Exception as error:  # a broken file can raise anything
        return Facts(problem=why_unreadable(path, error))


def _frames(image: Image.Image) -> int:
    try:
        return int(getattr(image, "n_frames", 1))
    except Exception:  # the first picture is whole, and no other is used
        return 1


def _colours(image: Image.Image) -> Image.Image:
    """The pixels in one of few modes, so that formats can be compared."""
    image.load()
    if image.mode.startswith(WIDE):
        return image
    has_alpha = image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info
    return image.convert("RGBA" if has_alpha else "RGB")
