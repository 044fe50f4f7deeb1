"""Small image folders for tests."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import cache
from io import BytesIO
from pathlib import Path

from PIL import Image


@cache
def png(name: str) -> bytes:
    """A PNG of 4 x 4 pixels, another for every name."""
    content = BytesIO()
    pixels = hashlib.sha512(name.encode("utf-8", "surrogateescape")).digest()
    Image.frombytes("RGB", (4, 4), pixels[:48]).save(content, "PNG")
    return content.getvalue()


def fill(root: Path, classes: Sequence[str] = ("cat", "dog"), images: int = 5) -> Path:
    """Write so many different pictures, 00.png and so on, for each class; return the folder."""
    for name in classes:
        (root / name).mkdir(parents=True, exist_ok=True)
        for number in range(images):
            path = root / name / f"{number:02}.png"
            path.write_bytes(png(f"{root.name}/{name}/{number}"))
    return root
