"""What the names of folders say: splits, parts of a data set, images beside their masks."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


TRAIN = ("train", "training", "trn", "trainval")
VALIDATION = ("val", "valid", "validation", "validate", "dev", "development")
TEST = ("test", "testing", "tst")
EITHER = ("eval", "evaluation", "holdout", "heldout")
"""Test images, or beside test images those to validate on."""

_KIND = {
    **dict.fromkeys(TRAIN, "train"),
    **dict.fromkeys(VALIDATION, "validation"),
    **dict.fromkeys(TEST, "test"),
    **dict.fromkeys(EITHER, "either"),
}
_WORDS_BESIDE = r"(data|dataset|folder|images?|imgs?|set|split)$"

CONTAINERS = _words("data dataset datasets image images img imgs jpeg jpg photos pictures png raw")
"""Names of folders that hold the data; nobody's class."""

UNLABELLED = _words("extra unlabeled unlabelled unsup unsupervised")

_IMAGES = _words("image images img imgs input inputs jpegimages")
_TARGETS = _words(
    "annotation annotations anno ann bbox bboxes boxes groundtruth gt label labels mask masks "
    "output outputs segmentation segmentationclass segmentationobject segmentations target targets"
)
_PART = re.compile(r"(batch|chunk|fold|shard|split|subset)(es|s)?\d*[a-z]?")
_WORD = "|".join(sorted([*TRAIN, *VALIDATION, *TEST, *EITHER], key=len, reverse=True))
_WITH_SPLIT = (
    re.compile(rf"(?P<split>{_WORD})[\s_.-]+\S.*", re.IGNORECASE),
    re.compile(rf".*\S[\s_.-]+(?P<split>{_WORD})", re.IGNORECASE),
    re.compile(r"(?P<split>[Tt]rain|[Vv]al|[Tt]est)[A-Z0-9]\w*"),
)


def normal(name: str) -> str:
    """The name in one of the ways that Unicode allows (NFC)."""
    return unicodedata.normalize("NFC", name)


def folded(name: str) -> str:
    """The name without what people type differently: upper case, spaces around it."""
    return normal(normal(name).strip().casefold())


def split_kind(name: str) -> str | None:
    """The split that a name stands for, "either" where that may be test or validation; or None."""
    word = _letters(name).lstrip("0123456789")
    return _KIND.get(word) or _KIND.get(re.sub(_WORDS_BESIDE, "", word))


def why_not_classes(names: Sequence[str]) -> str | None:
    """Why folders of these names can't be classes; None if they can."""
    if len(names) > 1 and all(split_kind(name) for name in names):
        return "look like splits, not classes"
    words = [_letters(name) for name in names]
    if len(names) > 1 and all(_PART.fullmatch(word) for word in words):
        return "look like parts of the data, not classes"
    if _IMAGES.intersection(words) and _TARGETS.intersection(words):
        return (
            "look like images and their masks or annotations, not classes (images with masks of "
            "classes: maskfolder:PATH)"
        )
    kinds = {_kind_within(name) for name in names}
    if None not in kinds and "train" in kinds and len(kinds) > 1:
        return "look like splits, not classes"
    return None


def listed(names: Iterable[str], most: int = 4) -> str:
    """The first few names, and how many more there are."""
    every = list(names)
    more = f" and {len(every) - most} more" if len(every) > most else ""
    return ", ".join(every[:most]) + more


def _letters(name: str) -> str:
    return re.sub(r"[\s_.-]+", "", folded(name))


def _kind_within(name: str) -> str | None:
    """The split that a part of the name stands for, as in `train_cats`; None without one."""
    if split_kind(name):
        return split_kind(name)
    for pattern in _WITH_SPLIT:
        match = pattern.fullmatch(normal(name).strip())
        if match:
            return _KIND[match["split"].casefold()]
    return None
