"""Plans of several views of each image, which a loss compares: AugMix."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from mixbench.augmentations.checks import (
    check_features,
    check_images,
    check_numbers,
    check_tensor,
)
from mixbench.augmentations.pixels.operations import apply_operation, changes
from mixbench.augmentations.plans.base import Plan, expand_rows
from mixbench.augmentations.plans.composite import Chain
from mixbench.augmentations.plans.in_place import InPlace
from mixbench.augmentations.plans.operations import (
    ImageOperations,
    check_channels,
    check_operations,
    from_levels,
    in_place_of,
    to_levels,
)
from mixbench.augmentations.tensor_types import keeps_type


@dataclass(frozen=True)
class Views(ImageOperations, InPlace):
    """Views of each image: a mean of the image and of chains of operations on it (AugMix).

    view = keep x + Σ_w weights_w chain_w(x). The plan applies the first of several views; `another`
    returns the plan of the next one. Moves interpolate. Masks, boxes and features stay as they are,
    and so do labels. Gradients go straight through.

    Attributes:
        size: Height and width of the images.
        operation: (B, V, W, D) int64, of V views with W chains of at most D operations.
        strength: (B, V, W, D) float32.
        keep: (B, V) float32, the share of the image itself.
        weights: (B, V, W) float32, the shares of the chains; with `keep` they sum to 1.
        mean: As of `Operations`, as is `std`.
        std: What images were divided by.
    """

    size: tuple[int, int]
    operation: Tensor
    strength: Tensor
    keep: Tensor
    weights: Tensor
    mean: Tensor
    std: Tensor

    def another(self) -> Views:
        """Return the plan of the next view: the same, with the views in turn."""
        return replace(
            self,
            **{
                name: getattr(self, name).roll(-1, dims=1)
                for name in ("operation", "strength", "keep", "weights")
            },
        )

    @keeps_type
    def mix_images(self, images: Tensor) -> Tensor:
        check_images(images, self.batch, self.size, self.device)
        check_channels(images, self.mean, self.std)
        with torch.no_grad():
            mixed = in_place_of(images, self._view(images), self.changed())
        if not (images.requires_grad and torch.is_grad_enabled()):
            return mixed
        return images + (mixed - images).detach()

    def _view(self, images: Tensor) -> Tensor:
        start = to_levels(images, self.mean, self.std)
        exact = images if images.dtype == torch.float64 else images.float()
        view = exact * self.keep[:, 0].view(-1, 1, 1, 1)
        for chain in range(self.operation.shape[2]):
            pixels = start
            for step in range(self.operation.shape[3]):
                pixels = apply_operation(
                    pixels,
                    self.operation[:, 0, chain, step],
                    self.strength[:, 0, chain, step],
                    smooth=True,
                )
            weight = self.weights[:, 0, chain].view(-1, 1, 1, 1)
            view = view + weight * from_levels(pixels, self.mean, self.std)
        return view

    def mix_features(self, features: Tensor) -> Tensor:
        check_features(features, self.batch, self.device)
        return features.clone()

    def changed(self) -> Tensor:
        does = changes(self.operation[:, 0], self.strength[:, 0]).any(dim=2)
        return (does & (self.weights[:, 0] > 0)).any(dim=1)

    def check_fields(self) -> None:
        check_operations(self, 4)
        shape = self.operation.shape[:3]
        check_tensor("keep", self.keep, shape[:2], torch.float32)
        check_tensor("weights", self.weights, shape, torch.float32)
        check_numbers("keep", self.keep, 0, 1)
        check_numbers("weights", self.weights, 0, 1)
        sums = self.keep + self.weights.sum(dim=2)
        check_numbers("keep and weights, in all", sums, 1 - 1e-4, 1 + 1e-4)

    def only_where(self, apply: Tensor) -> Views:
        keep = torch.where(apply.reshape(-1, 1), self.keep, 1.0)
        weights = torch.where(apply.reshape(-1, 1, 1), self.weights, 0.0)
        rows = len(keep)
        return replace(
            self,
            keep=keep,
            weights=weights,
            operation=self.operation.expand(rows, -1, -1, -1),
            strength=self.strength.expand(rows, -1, -1, -1),
        )

    def expand(self, batch: int) -> Views:
        return expand_rows(self, batch, "operation", "strength", "keep", "weights")


def another_view(plan: Plan) -> Plan:
    """Return a plan with the next of the views that it, or a stage of it, has."""
    if isinstance(plan, Views):
        return plan.another()
    if isinstance(plan, Chain):
        return Chain(tuple(another_view(stage) for stage in plan.stages))
    return plan
