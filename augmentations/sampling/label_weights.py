"""The label rule `labels` of the methods that mix regions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mixbench.augmentations.parameters import parameter

if TYPE_CHECKING:
    from torch import Tensor


NEEDED = {"objects": "masks", "saliency": "images"}
"""What the rules that look at images need, of `Method.needs`."""


def label_rule(*, drawn: bool = True) -> Any:
    """Declare the parameter `labels`.

    Args:
        drawn: Whether the method draws the share of the region, which "uncorrected" then takes.
    """
    uncorrected = ", or by the share as drawn, which rounding and clipping don't correct"
    return parameter(
        "area",
        "labels weigh by the area that is mixed, by how much of each image's object or of its "
        f"saliency is seen{uncorrected if drawn else ''}",
        choices=("area", *(("uncorrected",) if drawn else ()), *NEEDED),
        later=True,
    )


def declare_label_rule(method: Any, labels: str) -> None:
    """Set the method's `label_rule` to "declared" unless labels weigh by area.

    Args:
        method: The method, while its parameters are checked.
        labels: The value of its parameter `labels`.
    """
    if labels != "area":
        object.__setattr__(method, "label_rule", "declared")
    if labels in NEEDED:
        method.also_needs(NEEDED[labels])


def uncorrected(own_share: Tensor) -> Tensor:
    """Return label weights that are the shares as drawn.

    Args:
        own_share: The share of the sample itself: (rows,), from 0 to 1.

    Returns:
        The weights of the sample and of its partner: (rows, 2) float32.

    Examples:
        >>> import torch
        >>> uncorrected(torch.tensor([0.75, 1.0]))
        tensor([[0.7500, 0.2500],
                [1.0000, 0.0000]])
    """
    import torch

    own = own_share.float()
    return torch.stack([own, 1 - own], dim=1)
