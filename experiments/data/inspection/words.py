"""An inspection as text and as JSON."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from typing import Any

import numpy as np

from mixbench.experiments.config.image_folder.files import shown
from mixbench.experiments.config.image_folder.names import listed
from mixbench.experiments.data.inspection.inspect import SPLITS, Inspection
from mixbench.experiments.data.inspection.training import Training
from mixbench.experiments.data.inspection.warn import warnings
from mixbench.experiments.text import plural

MOST_CLASSES = 24
MOST_REASONS = 12


def as_json(seen: Inspection) -> dict[str, Any]:
    """Return an inspection as JSON has it."""
    training = _training(seen)
    return {
        "folder": shown(seen.listing.source),
        "splits": seen.splits,
        "classes": seen.classes,
        "skipped": [{"file": name, "reason": reason} for name, reason in seen.skipped],
        "warnings": warnings(seen),
        "folders": {split: shown(name) for split, name in seen.listing.folders.items()},
        "by_class": seen.by_class,
        "modes": dict(_counted(picture.facts.mode for picture in seen.pictures)),
        "formats": dict(_counted(picture.facts.kind for picture in seen.pictures)),
        "sizes": _sizes(seen),
        "lost_by_the_square": _lost(seen),
        "training_sees": training.sees,
        "pixel_range": training.survey.scale.describe(),
        "cached_bytes": training.cached_bytes,
        "same_pixels": [[seen.name(picture) for picture in group] for group in seen.same],
        "other_files": dict(sorted(seen.listing.others.items())),
    }


def as_text(seen: Inspection) -> str:
    """Return an inspection as lines to be read."""
    training = _training(seen)
    rows = [
        ("sizes", _sizes_text(seen)),
        ("modes", _counts_text(picture.facts.mode for picture in seen.pictures)),
        ("formats", _counts_text(picture.facts.kind for picture in seen.pictures)),
        ("central square", _lost_text(seen)),
        ("pixels", training.range_text),
        ("training", training.sees.removeprefix("training ")),
        ("cache", training.cache_text),
        ("same pixels", _same_text(seen)),
        ("other files", _counts_text(seen.listing.others.elements())),
    ]
    images = sum(seen.splits.values())
    lines = [
        f"{shown(seen.listing.source)}: {plural(images, 'image')} of {len(seen.classes)} classes",
        "",
        *_class_table(seen),
        "",
        *_where_splits_come_from(seen),
        "",
        *(f"{term + ':':16}{text}" for term, text in rows if text),
    ]
    if seen.skipped:
        lines += ["", f"left out ({len(seen.skipped):,}; --json has them all):", *_skipped(seen)]
    if texts := warnings(seen):
        lines += ["", "warnings:", *(f"  - {text}" for text in texts)]
    return "\n".join(lines)


def _training(seen: Inspection) -> Training:
    return Training(
        seen.listing.name, seen.listing.root, [picture.path for picture in seen.pictures]
    )


def _skipped(seen: Inspection) -> list[str]:
    """Return the files that are not used, by reason, the most frequent first."""
    by_reason: dict[str, list[str]] = defaultdict(list)
    for name, reason in seen.skipped:
        by_reason[reason].append(name)
    reasons = sorted(by_reason, key=lambda reason: -len(by_reason[reason]))
    lines = [f"  {reason}: {listed(by_reason[reason])}" for reason in reasons[:MOST_REASONS]]
    more = len(reasons) - MOST_REASONS
    return [*lines, f"  and {plural(more, 'more reason')}"] if more > 0 else lines


def _class_table(seen: Inspection) -> list[str]:
    """Return the images of each class and split; of many classes the largest and the smallest."""
    names = list(seen.classes)
    if len(names) > MOST_CLASSES:
        by_size = sorted(names, key=lambda name: -seen.classes[name])
        half = MOST_CLASSES // 2
        names = [*by_size[:half], "", *by_size[-half:]]
    width = max(8, *(len(name) for name in names))
    lines = [f"  {'class':{width}}" + "".join(f"{split:>12}" for split in SPLITS)]
    for name in names:
        if not name:
            lines.append(f"  ... {len(seen.classes) - MOST_CLASSES} classes between")
            continue
        counts = seen.by_class[name]
        lines.append(f"  {name:{width}}" + "".join(f"{counts[split]:12,}" for split in SPLITS))
    return [*lines, f"  {'all':{width}}" + "".join(f"{seen.splits[s]:12,}" for s in SPLITS)]


def _where_splits_come_from(seen: Inspection) -> list[str]:
    folders = seen.listing.folders
    lines = []
    for split in SPLITS:
        if split in seen.listing.named:
            lines.append(f"{split + ':':16}as {shown(seen.listing.source.name)} says")
        elif split in folders:
            lines.append(f"{split + ':':16}the folder {shown(folders[split])}")
        elif split == "validation":
            lines.append(
                f"{'validation:':16}a part of the training images, by dataset.validation_fraction "
                f"and dataset.split_seed"
            )
        elif split == "test":
            lines.append(f"{'test:':16}a fifth of the images, split off: always the same")
    return lines


def _sizes(seen: Inspection) -> dict[str, list[int]]:
    """Return the smallest, the median and the largest width and height."""
    sizes = np.array([(one.facts.width, one.facts.height) for one in seen.pictures])
    low, median, high = np.quantile(sizes, (0, 0.5, 1), axis=0, method="nearest").tolist()
    return {name: [low[at], median[at], high[at]] for at, name in enumerate(("width", "height"))}


def _sizes_text(seen: Inspection) -> str:
    sizes = Counter((picture.facts.width, picture.facts.height) for picture in seen.pictures)
    if len(sizes) == 1:
        ((width, height),) = sizes
        return f"all {width} x {height} pixels"
    (width, height), number = sizes.most_common(1)[0]
    every = _sizes(seen)
    texts = (
        f"{name} {low} to {high}, median {median}" for name, (low, median, high) in every.items()
    )
    return f"{'; '.join(texts)} pixels; the most frequent: {width} x {height} ({number:,})"


def _lost(seen: Inspection) -> dict[str, float]:
    """Return the share of the pixels that the central square leaves out: median, 90 %, most."""
    lost = [picture.facts.lost for picture in seen.pictures]
    median, most_of_them, most = np.quantile(lost, (0.5, 0.9, 1)).tolist()
    return {"median": round(median, 4), "90%": round(most_of_them, 4), "most": round(most, 4)}


def _lost_text(seen: Inspection) -> str:
    lost = _lost(seen)
    if not lost["most"]:
        return "leaves nothing out: all images are square"
    return (
        f"leaves out {lost['median']:.0%} of an image's pixels in the median, {lost['90%']:.0%} or "
        f"more in a tenth of the images, {lost['most']:.0%} at most"
    )


def _same_text(seen: Inspection) -> str:
    if not seen.same:
        return ""
    names = ", ".join(seen.name(picture) for picture in seen.same[0][:3])
    return f"{plural(len(seen.same), 'group')} of images, such as {names}"


def _counted(words: Iterable[str]) -> list[tuple[str, int]]:
    return Counter(words).most_common()


def _counts_text(words: Iterable[str]) -> str:
    return ", ".join(f"{word} {number:,}" for word, number in _counted(words))
