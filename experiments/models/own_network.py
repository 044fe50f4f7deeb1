"""A network of the user's own, from a function that returns one."""

from __future__ import annotations

import inspect
from typing import Any

from torch import nn

from mixbench.experiments.config.own_code import function_of
from mixbench.experiments.errors import UserError
from mixbench.experiments.text import first_line

FIELD = "model.name"


def own_network(
    place: str, *, channels: int, classes: int, size: int | tuple[int, int], width: int | None
) -> nn.Module:
    """Call the function at `package.module:function` with those of these values that it takes.

    size: the side of squares, or height and width. UserError where it fails, takes other values, or
    returns no module.
    """
    function = function_of(place, FIELD)
    offered: dict[str, Any] = {"channels": channels, "classes": classes, "size": size}
    if width is not None:
        offered["width"] = width
    try:
        taken = inspect.signature(function).parameters
        takes_all = any(one.kind == one.VAR_KEYWORD for one in taken.values())
        if width is not None and "width" not in taken and not takes_all:
            raise UserError(f"model.width: got {width}, but {place} takes no width; leave it out")
        network = function(**{k: v for k, v in offered.items() if takes_all or k in taken})
    except UserError:
        raise
    except Exception as error:  # other people's code can raise anything
        reason = f"{type(error).__name__}: {first_line(error)}"
        raise UserError(
            f"{FIELD}: {place} failed ({reason}); it is called with those of "
            f"{', '.join(offered)} that it takes"
        ) from None
    if not isinstance(network, nn.Module):
        raise UserError(
            f"{FIELD}: {place} returned a {type(network).__name__}, expected a torch.nn.Module"
        )
    return network
