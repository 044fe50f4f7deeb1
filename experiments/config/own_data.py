"""Data sets of the user's own: a function, named `package.module:function` or by an entry point.

It returns {"train": (images, labels), "test": (images, labels)} and, where there are any,
"validation", "classes" (their names) and "targets" (`multi_label` or `regression`). A part may also
be a map-style data set of torch, of pairs of image and label. What the function returns identifies
runs, so that changed data give other runs.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from mixbench.experiments.config import own_code
from mixbench.experiments.config.own_arrays import OwnData, checked
from mixbench.experiments.errors import UserError
from mixbench.experiments.text import first_line

DATASETS = "mixbench.datasets"
"""The group of entry points that data sets have: `leaves = "mypackage.data:load"`."""
FIELD = "dataset.name"
_OF_NETWORKS = ("channels", "classes", "size", "width")


@dataclass(frozen=True)
class OwnFacts:
    """What is known of a data set without its images; `counts` are those of its parts."""

    classes: int
    shape: tuple[int, int, int]
    counts: dict[str, int]
    targets: str
    digest: str


def entry_points() -> dict[str, str]:
    """Return name -> `package.module:function` of what installed packages register."""
    return own_code.entry_points(DATASETS)


def own_place(name: str) -> str | None:
    """Return `package.module:function` of a data set of the user's own; None for others."""
    return own_code.place_of(name, DATASETS)


def current_source(name: str, planned: str | None) -> str:
    """Return the digest of a data set; UserError where a run was planned for other data."""
    now = facts(name).digest
    if planned not in (None, now):
        raise UserError(
            f"dataset.source: {name} returns other data than before: the run is planned for "
            f"{planned}, and they are {now} now; plan the sweep again for new runs"
        )
    return now


def is_dataset(name: str) -> bool:
    """Return whether a name is of a data set: registered as one, or of a function that gives one.

    A function is called where it takes none of what networks are built with.
    """
    place = own_place(name)
    if place is None or name in own_code.entry_points(own_code.NETWORKS):
        return False
    if name in entry_points():
        return True
    try:
        taken = inspect.signature(own_code.function_of(place, "check")).parameters.values()
    except (TypeError, ValueError):  # a class or a builtin
        return False
    is_network = any(one.name in _OF_NETWORKS or one.kind == one.VAR_KEYWORD for one in taken)
    return not is_network and isinstance(_called(place), Mapping)


@cache
def facts(name: str) -> OwnFacts:
    """Read a data set once in a process to see what it is."""
    data = read(name)
    counts = {part: len(labels) for part, (_, labels) in data.parts.items()}
    channels, height, width = data.parts["train"][0].shape[1:]
    shape = (channels, height, width)
    return OwnFacts(len(data.classes), shape, counts, data.targets, data.digest)


def read(name: str) -> OwnData:
    """Call the function of a data set; UserError where it fails, or returns something else."""
    place = own_place(name) or name
    try:
        return checked(_called(place))
    except ValueError as error:
        raise UserError(f"{FIELD}: {place}: {first_line(error)}") from None


def _called(place: str) -> Any:
    function = own_code.function_of(place, FIELD)
    try:
        return function()
    except UserError:
        raise
    except (Exception, SystemExit) as error:  # other people's code can raise anything
        reason = f"{type(error).__name__}: {first_line(error)}"
        raise UserError(
            f"{FIELD}: {place} failed ({reason}); it is called without arguments"
        ) from None
