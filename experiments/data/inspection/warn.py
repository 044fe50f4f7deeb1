"""Say what is odd about an image folder before anybody trains on it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence

import numpy as np

from mixbench.experiments.config.datasets import info
from mixbench.experiments.config.image_folder.names import folded, listed
from mixbench.experiments.data.inspection.inspect import SPLITS, Inspection, Picture
from mixbench.experiments.text import plural

FEW_TO_TEST = 100
FEW_TO_TRAIN = 10
UNEVEN_CLASSES = 10.0
UNEVEN_SIZES = 4.0
MUCH_CUT_OFF = 1 / 3


def warnings(seen: Inspection) -> list[str]:
    """Return the warnings about a folder, the gravest first."""
    parts = (_skipped, _shared, _two_classes, _few, _uneven, _names, _sizes, _cut_off, _frames)
    return [*seen.listing.notes, *(text for part in parts for text in part(seen))]


def _skipped(seen: Inspection) -> Iterator[str]:
    if seen.skipped:
        number = plural(len(seen.skipped), "file or folder", "files or folders")
        yield f"{number} left out: {listed((name for name, _ in seen.skipped), 3)}"


def _shared(seen: Inspection) -> Iterator[str]:
    """Images that are in two splits: what is measured on them was learnt by heart."""
    for one, other in (("train", "test"), ("train", "validation"), ("validation", "test")):
        pairs = []
        for group in seen.same:
            first = [picture for picture in group if picture.split == one]
            pairs += [(picture, first[0]) for picture in group if first and picture.split == other]
        if pairs:
            number = plural(len(pairs), f"{other} image")
            verb = "has" if len(pairs) == 1 else "have"
            yield (
                f"{number} {verb} the same pixels as one of the {one} split, such as "
                f"{seen.name(pairs[0][0])} and {seen.name(pairs[0][1])}"
            )


def _two_classes(seen: Inspection) -> Iterator[str]:
    groups = [group for group in seen.same if len({picture.label for picture in group}) > 1]
    if groups:
        pair = _of_two_classes(groups[0])
        yield (
            f"{plural(len(groups), 'image')} in more than one class, such as "
            f"{listed(map(seen.name, pair))}"
        )


def _of_two_classes(group: Sequence[Picture]) -> list[Picture]:
    return list({picture.label: picture for picture in reversed(group)}.values())[:2]


def _few(seen: Inspection) -> Iterator[str]:
    test = seen.splits["test"]
    if test < FEW_TO_TEST:
        yield (
            f"the test set has {plural(test, 'image')}: each is {100 / test:.1f} points of accuracy"
        )
    few = {name: count["train"] for name, count in seen.by_class.items()}
    few = {name: count for name, count in few.items() if count < FEW_TO_TRAIN}
    if few:
        texts = [f"{name} ({count})" for name, count in sorted(few.items(), key=lambda one: one[1])]
        yield (
            f"{plural(len(few), 'class', 'classes')} with fewer than {FEW_TO_TRAIN} images to "
            f"train on: {listed(texts)}"
        )
    for split in SPLITS[1:]:
        none = [name for name, count in seen.by_class.items() if not count[split]]
        if none:
            yield f"no {split} images of {plural(len(none), 'class', 'classes')}: {listed(none)}"


def _uneven(seen: Inspection) -> Iterator[str]:
    by_size = sorted(seen.classes, key=lambda name: seen.classes[name])
    small, large = by_size[0], by_size[-1]
    ratio = seen.classes[large] / max(1, seen.classes[small])
    if ratio >= UNEVEN_CLASSES:
        yield (
            f"the largest class ({large}, {seen.classes[large]:,}) has {ratio:.0f} times the "
            f"images of the smallest ({small}, {seen.classes[small]:,}): accuracy says little of "
            f"small ones"
        )


def _names(seen: Inspection) -> Iterator[str]:
    groups: dict[str, list[str]] = defaultdict(list)
    for name in seen.classes:
        groups[folded(name)].append(name)
    for names in groups.values():
        if len(names) > 1:
            yield f"the classes {listed(map(repr, names))} differ in case or spaces alone"


def _sizes(seen: Inspection) -> Iterator[str]:
    shorter = np.array([min(one.facts.width, one.facts.height) for one in seen.pictures])
    low, median, high = (int(value) for value in np.quantile(shorter, (0.05, 0.5, 0.95)))
    if high > UNEVEN_SIZES * low:
        yield f"sizes differ much: shorter sides of {low} to {high} pixels in nine of ten images"
    usual = info(seen.listing.name).sides[0]
    if median < usual / 2:
        yield (
            f"half of the images have a shorter side of at most {median} pixels, and are enlarged "
            f"to {usual} unless dataset.image_size says otherwise"
        )


def _cut_off(seen: Inspection) -> Iterator[str]:
    lost = np.array([picture.facts.lost for picture in seen.pictures])
    share = float((lost > MUCH_CUT_OFF).mean())
    if share >= 0.1:
        yield (
            f"the central square leaves out more than a third of the pixels of {share:.0%} of the "
            f"images"
        )


def _frames(seen: Inspection) -> Iterator[str]:
    several = [picture for picture in seen.pictures if picture.facts.frames > 1]
    if several:
        yield (
            f"{plural(len(several), 'file')} with several pictures, of which the first is used: "
            f"{listed(map(seen.name, several), 3)}"
        )
