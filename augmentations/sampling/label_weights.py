"""The label rule `labels` of the methods that mix regions: by the realised area, or as drawn."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mixbench.augmentations.parameters import parameter

if TYPE_CHECKING:
    from torch import Tensor


def label_rule() -> Any:
    """Declare the parameter `labels` of a method that draws the share of a region."""
    return parameter(
        "area",
        "labels weigh by the area that is mixed, or by the share as drawn, which rounding and "
        "clipping don't correct",
        choices=("area", "uncorrected"),
        later=True,
    )


def declare_label_rule(method: object, labels: str) -> None:
    """Set the method's `label_rule` to "declared" unless labels weigh by area.

    Args:
        method: The method, while its parameters are checked.
        labels: The value of its parameter `labels`.
    """
    if labels != "area":
        object.__setattr__(method, "label_rule", "declared")


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
