"""What a training would see of a folder with the usual keys, and what the cache has of it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from mixbench.experiments.config import resolve
from mixbench.experiments.config.data_text import training_images
from mixbench.experiments.data import picture_cache
from mixbench.experiments.data.pixel_range import Survey, survey
from mixbench.experiments.store import cache
from mixbench.experiments.text import plural


@dataclass(frozen=True)
class Training:
    """What becomes of the images of a folder.

    name: of the data set; root: its folder; paths: those of its images that can be read.
    """

    name: str
    root: Path
    paths: list[Path]

    @cached_property
    def sees(self) -> str:
        """Size, crops and flips where no key of `dataset` and `training` says otherwise."""
        return training_images(resolve.parse({"dataset": {"name": self.name}}))

    @cached_property
    def survey(self) -> Survey:
        """The scale of the pixels."""
        return survey(self.paths)

    @property
    def range_text(self) -> str:
        """The values of black and white."""
        return "; ".join(self.survey.notes) or "8 bits: 0 (black) to 255 (white)"

    @cached_property
    def cached_bytes(self) -> int:
        """What decoded pictures of the folder take on the disk."""
        return sum(entry.size for entry in picture_cache.entries(self.root))

    @property
    def cache_text(self) -> str:
        """The same in words; empty where nothing is cached."""
        entries = picture_cache.entries(self.root)
        if not entries:
            return ""
        return (
            f"{self.cached_bytes / 1e6:,.1f} MB of decoded pictures in "
            f"{plural(len(entries), 'set')}, below {cache.folder()}"
        )
