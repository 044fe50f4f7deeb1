"""Code of the user's own, named `package.module:function` or by an entry point.

The source of a network's package is identified by its contents (`augmentations.plugin_source`),
so that changed code gives other runs.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import sys
from collections.abc import Callable
from functools import cache
from typing import Any

from mixbench.augmentations import plugin_source
from mixbench.experiments.errors import UserError
from mixbench.experiments.text import first_line

NETWORKS = "mixbench.networks"
"""The group of entry points that networks have: `my_net = "mypackage.nets:build"`."""


@cache
def entry_points(group: str) -> dict[str, str]:
    """Return name -> `package.module:function` of what installed packages register."""
    return {entry.name: entry.value for entry in importlib.metadata.entry_points(group=group)}


def place_of(name: str, group: str) -> str | None:
    """Return `package.module:function` of a name; None where it is no code of the user's own."""
    if name in entry_points(group):
        return entry_points(group)[name]
    module, colon, function = name.partition(":")
    is_dotted = all(part.isidentifier() for part in f"{module}.{function}".split("."))
    return name if colon and is_dotted else None


@cache
def function_of(place: str, field: str) -> Callable[..., Any]:
    """Import a function of the user's own; UserError, which names the field, where that fails."""
    module, _, name = place.partition(":")
    try:
        found: Any = importlib.import_module(module)
        for part in name.split("."):
            found = getattr(found, part)
    except ModuleNotFoundError as error:
        raise UserError(
            f"{field}: {place}: there is no module {error.name!r}; install its package, or name "
            "its folder in PYTHONPATH"
        ) from None
    except AttributeError as error:
        raise UserError(f"{field}: {place}: {error}") from None
    except Exception as error:  # a module can raise anything
        reason = f"{type(error).__name__}: {first_line(error)}"
        raise UserError(f"{field}: {place} can't be imported ({reason})") from None
    if not callable(found):
        raise UserError(f"{field}: {place} is a {type(found).__name__}, expected a function")
    return found  # type: ignore[no-any-return]


def source_digest(place: str, field: str) -> str:
    """Return 16 hexadecimal digits that identify the source of a function's package."""
    function_of(place, field)
    module = sys.modules[place.partition(":")[0]]
    digest = plugin_source.module_digest(module.__name__)
    if digest is None:
        raise UserError(f"{field}: {place}: its source can't be read, which is to identify runs")
    return digest
