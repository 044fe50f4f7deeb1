"""Where a run is at home: what the images of its training showed in place of hidden parts."""

from __future__ import annotations

from collections.abc import Iterable
from functools import reduce
from operator import or_

from mixbench import augmentations
from mixbench.augmentations.method import Home
from mixbench.experiments.config.schema import RunConfig
from mixbench.experiments.staging.methods import method_at


def home_of(config: RunConfig) -> Home | None:
    """What the methods of a run's training show, over all of its phases.

    Args:
        config: Of the run.

    Returns:
        All shapes and fills of methods that mix at any time; None if one does not declare them.

    Examples:
        >>> from mixbench.experiments.config import resolve
        >>> home = home_of(
        ...     resolve.parse({"dataset": {"name": "digits"}, "augmentation": {"name": "cutmix"}})
        ... )
        >>> sorted(home.shapes), sorted(home.fills)
        (['boundary', 'centre', 'square'], ['image'])
    """
    if config.phases is None:
        methods = [augmentations.create(**config.augmentation)]
    else:
        # What grows from nothing, or shrinks to nothing, is there in between.
        methods = [
            method_at(phase, config.augmentation, share)
            for phase in config.phases
            for share in (0.0, 1.0)
        ]
    homes = [method.home for method in methods if method.prob > 0]
    known = [home for home in homes if home is not None]
    return reduce(or_, known, Home()) if len(known) == len(homes) else None


def away(home: Home, cases: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    """The pairs of shape and fill of which a run's training showed neither.

    Args:
        home: Of the run.
        cases: Pairs of a shape and a fill.

    Examples:
        >>> away(Home(frozenset({"blobs"})), [("blobs", "mean"), ("centre", "mean")])
        [('centre', 'mean')]
    """
    return [
        (shape, fill)
        for shape, fill in cases
        if shape not in home.shapes and fill not in home.fills
    ]
