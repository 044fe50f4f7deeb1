"""Whether a run has what its methods need: masks of objects, classes to pair by."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from mixbench.experiments.config import datasets
from mixbench.experiments.config.schema import RunConfig
from mixbench.experiments.design.tasks import BOXES, MASKS
from mixbench.experiments.staging.methods import methods_of

if TYPE_CHECKING:
    from mixbench.augmentations import Method


def check_method_needs(config: RunConfig, facts: datasets.DatasetInfo) -> None:
    """Raise ValueError where a method needs what the run doesn't have."""
    for where, mix in methods_of(config.augmentation, config.phases):
        targets = config.task_info.targets
        has_masks = facts.black_background or targets == MASKS
        if targets == BOXES:
            has_masks = MASKS in facts.targets
        if "masks" in mix.needs and not has_masks:
            having = [
                name
                for name in datasets.names()
                if (targets == BOXES and {BOXES, MASKS} <= {*datasets.info(name).targets})
                or (targets != BOXES and datasets.info(name).black_background)
            ]
            raise ValueError(
                f"{where}: {mix.name} needs masks of the objects, and {facts.name} has none; data "
                f"sets with masks: {', '.join(having)}"
            )
        size = config.dataset.train_size
        if pairs_by(mix, "same_class") and size is not None:
            share = facts.validation_share(
                config.dataset.validation_fraction, config.dataset.validation_size
            )
            if round(size * (1 - share)) <= facts.classes:
                raise ValueError(
                    f"{where}: {mix.name} has pairing: same_class, expected more than one training "
                    f"image of a class, got dataset.train_size {size} for {facts.classes} classes"
                )


def pairs_by(mix: Method, pairing: str) -> bool:
    """Tell whether a method, or one that it is made of, has this pairing."""
    return any(one.pairing == pairing for one in _all_of(mix))


def _all_of(mix: Method) -> Iterator[Method]:
    inner: tuple[Method, ...] = getattr(mix, "methods", ())
    if not inner:
        yield mix
    for method in inner:
        yield from _all_of(method)
