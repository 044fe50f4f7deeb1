"""The user's own images, ready to train on: decoded into memory, or streamed from their files."""

from __future__ import annotations

import hashlib
import logging
import os
from pathlib import Path

import torch
from torch import Tensor

from mixbench.experiments.config import datasets
from mixbench.experiments.config.member_file import name_below, size_and_time
from mixbench.experiments.config.schema import DatasetConfig
from mixbench.experiments.data.crops import Scale
from mixbench.experiments.data.dataset import Dataset
from mixbench.experiments.data.folder_listing import check_readable, listing_of, used_files
from mixbench.experiments.data.folder_pixels import FolderPixels
from mixbench.experiments.data.named import everything
from mixbench.experiments.data.split import Split
from mixbench.experiments.errors import UserError

log = logging.getLogger(__name__)


def load_folder(
    config: DatasetConfig, device: torch.device, workers: int | None, crops: Scale | None = None
) -> Dataset:
    """Load the image folder, or list of images, of a configuration; see `load.load`."""
    listing = listing_of(config.name)
    if listing.kind != datasets.FOLDER:
        for note in listing.notes:
            log.warning("%s", note)
    used = used_files(config, listing)
    check_readable(used, listing)
    files = {split: (paths, torch.from_numpy(labels)) for split, (paths, labels) in used.items()}
    pixels = FolderPixels(
        listing.root, listing.files, config, device, crops, workers, dict(listing.left_out)
    )
    decoded = pixels.decode(files)
    scale = decoded.survey.scale
    return Dataset(
        name=config.name,
        classes=listing.classes,
        train=decoded.splits["train"],
        validation=decoded.splits["validation"],
        test=decoded.splits["test"],
        mean=decoded.mean.to(device),
        std=decoded.std.to(device),
        source=str(listing.source),
        digest=_digest(listing.base, files, scale.text()),
        skipped=pixels.skipped,
        notes=decoded.survey.notes,
        scale=scale,
    )


def rest_images(
    config: DatasetConfig, device: torch.device, crops: Scale | None
) -> tuple[Split, str]:
    """Return the training images that neither train nor validate, and where they are."""
    listing = listing_of(config.name)
    used = used_files(config, listing)
    taken = {path for paths, _ in used.values() for path in paths}
    whole = used_files(everything(config), listing)["train"][0]
    return _without_classes(config, [path for path in whole if path not in taken], device, crops)


def images_of(
    config: DatasetConfig, device: torch.device, crops: Scale | None
) -> tuple[Split, str]:
    """Return all images of a folder but those in a test or validation folder, and where it is.

    They have the size of a configuration.
    """
    listing = listing_of(config.name)
    files = listing.undivided or listing.train
    return _without_classes(config, list(files[0]), device, crops)


def _without_classes(
    config: DatasetConfig, paths: list[Path], device: torch.device, crops: Scale | None
) -> tuple[Split, str]:
    if not paths:
        raise UserError(f"{config.name}: no training images are left that have no labels")
    listing = listing_of(config.name)
    # Splits of which nothing is used have one image: there are always three.
    parts = {"train": paths, "validation": paths[:1], "test": paths[:1]}
    files = {name: (some, torch.full((len(some),), -1)) for name, some in parts.items()}
    pixels = FolderPixels(listing.root, listing.files, config, device, crops, None)
    return pixels.decode(files).splits["train"], str(listing.source)


def _digest(root: Path, files: dict[str, tuple[list[Path], Tensor]], scale: str) -> str:
    """Identifies the files used, by name and size, wherever the folder is, and their scale."""
    total = hashlib.sha256(scale.encode())
    for split, (paths, _) in files.items():
        for path in paths:
            name = os.fsencode(name_below(path, root))
            total.update(b"%s\0%s\0%d\n" % (split.encode(), name, size_and_time(path)[0]))
    return total.hexdigest()[:16]
