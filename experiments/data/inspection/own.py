"""Inspect a data set of the user's own code: what its function returns."""

from __future__ import annotations

from collections import Counter
from typing import Any

from mixbench.experiments.config import own_data
from mixbench.experiments.data.check_own import check_dataset
from mixbench.experiments.data.inspection.inspect import SPLITS
from mixbench.experiments.design.tasks import LABELS


def own_as_json(name: str) -> dict[str, Any]:
    """Return what a function returns as JSON has it."""
    data = own_data.read(name)
    counts = {split: Counter[int]() for split in SPLITS}
    for split, (_, labels) in data.parts.items():
        counts[split].update(labels.tolist() if data.targets == LABELS else [-1] * len(labels))
    by_class = {
        label: {split: counts[split][number] for split in SPLITS}
        for number, label in enumerate(data.classes)
    }
    return {
        "dataset": name,
        "source": data.digest,
        "targets": data.targets,
        "shape": list(data.parts["train"][0].shape[1:]),
        "splits": {split: counts[split].total() for split in SPLITS},
        "by_class": by_class if data.targets == LABELS else {},
        "warnings": [broken for _, broken in check_dataset(name) if broken],
    }


def own_as_text(name: str) -> str:
    """Return what a function returns as lines to be read."""
    seen = own_as_json(name)
    channels, height, width = seen["shape"]
    rows = {**seen["by_class"], "all": seen["splits"]}
    long = max(8, *map(len, rows))
    lines = [
        f"{name}: {sum(seen['splits'].values()):,} images of {height} x {width} pixels, "
        f"{'grey' if channels == 1 else 'colour'}, with {seen['targets'].replace('_', ' ')}",
        "",
        f"  {'class':{long}}" + "".join(f"{split:>12}" for split in SPLITS),
    ]
    lines += [
        f"  {label:{long}}" + "".join(f"{counts[split]:12,}" for split in SPLITS)
        for label, counts in rows.items()
    ]
    if not seen["splits"]["validation"]:
        lines += ["", "validation:     a part of the training images (dataset.validation_fraction)"]
    lines += ["", f"runs have dataset.source {seen['source']}, by pixels, labels and classes"]
    if seen["warnings"]:
        lines += ["", "warnings:", *(f"  - {text}" for text in seen["warnings"])]
    return "\n".join(lines)
