"""Keep what is made of the test images and is the same for every network: corrupted images, say.

A process measures one network after the other on the same images. Up to `LIMIT` bytes are kept;
what does not fit is made anew each time.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Hashable

from torch import Tensor

LIMIT = 2**28
"""256 MiB for each process: 85 corruptions of 1,000 grey images of 28 x 28 pixels."""

Tensors = tuple[Tensor, ...]


class Kept:
    """Tensors by the images that they are made of, and a key for how."""

    def __init__(self, limit: int = LIMIT) -> None:
        self._limit = limit
        self._size = 0
        self._tensors: dict[str, dict[Hashable, Tensors]] = {}

    def get(self, images: Tensor, key: Hashable, make: Callable[[], Tensors]) -> Tensors:
        """Return `make()`, or what it gave before; nobody may change it.

        Args:
            images: What it is made of. Those on a GPU are not looked at, and nothing is kept.
            key: Says, with the images, all that it depends on.
            make: Makes it.
        """
        if not images.is_cpu:
            return make()
        digest = hashlib.sha256(images.contiguous().numpy().data).hexdigest()
        found = self._tensors.get(digest, {}).get(key)
        if found is not None:
            return found
        made = make()
        size = sum(one.nbytes for one in made)
        if self._size + size > self._limit and digest not in self._tensors:
            # Of another data set: what is there is of no use any more.
            self._tensors, self._size = {}, 0
        if self._size + size <= self._limit:
            self._tensors.setdefault(digest, {})[key] = made
            self._size += size
        return made


KEPT = Kept()
"""What this process keeps."""
