"""What methods need beside images and labels, as arguments of a call."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from mixbench.augmentations import Method
from mixbench.augmentations.contract import Case


def beside(mix: Method, images: Tensor) -> dict[str, Any]:
    """What `mix` needs for a call with images and labels."""
    return Case(type(mix)).given(mix, images)


def all_needed(mix: Method, images: Tensor) -> dict[str, Any]:
    """What `mix` may need for `sample`, images and labels included."""
    labels = Case(type(mix)).labels(batch=len(images)).to(images.device)
    return {"images": images, "labels": labels, **beside(mix, images)}
