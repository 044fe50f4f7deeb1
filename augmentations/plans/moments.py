"""Plans that give each sample the moments of another: MoEx, MixStyle."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from mixbench.augmentations.checks import (
    check_features,
    check_images,
    check_label_weights,
    check_numbers,
    check_tensor,
    check_weights,
    describe,
)
from mixbench.augmentations.dense_targets import DenseTargets, dense_targets
from mixbench.augmentations.plans.base import expand_rows, weights_where
from mixbench.augmentations.plans.in_place import InPlace
from mixbench.augmentations.tensor_types import keeps_type

OVER = ("channels", "positions")


@dataclass(frozen=True)
class Moments(InPlace):
    """Mean and standard deviation of each sample replaced by a mean with those of a partner.

    out = (x - μ) / σ * σ' + μ', where μ' = keep μ + (1 - keep) μ[partner], σ' likewise, and σ is
    the root of the variance, with n - 1 in its denominator, plus `epsilon`. Where `keep` is 1, or
    the partner is the sample itself, a sample is returned bit for bit.

    Shapes stay where they are, so that masks and boxes do. Features (B, N, C) are tokens with their
    channels last; feature vectors, which have no moments, are mixed as labels.

    Attributes:
        keep: (B,) float32 in [0, 1], how much of its own moments each sample keeps.
        partner: (B,) int64, whose moments it gets.
        over: What the moments are taken over: "channels", of every position (positional
            normalisation), or "positions", of every channel (instance normalisation).
        epsilon: Added to variances, above 0.
        detach: Whether the moments are constants for the gradient.
        weights: (B, 2) float32, the label weights of the sample and of its partner; None if labels
            are kept.

    Examples:
        >>> import mixbench, torch
        >>> plan = mixbench.Moments(torch.zeros(2), partner=torch.tensor([1, 0]), over="positions")
        >>> images = torch.tensor([[0.0, 2.0], [10.0, 14.0]]).view(2, 1, 1, 2)
        >>> plan.mix_images(images).flatten().round().long()
        tensor([10, 14,  0,  2])
    """

    keep: Tensor
    partner: Tensor
    over: str = "channels"
    epsilon: float = 1e-5
    detach: bool = False
    weights: Tensor | None = None

    @property
    def batch(self) -> int:
        return self.keep.shape[0]

    @property
    def device(self) -> torch.device:
        return self.keep.device

    @keeps_type
    def mix_images(self, images: Tensor) -> Tensor:
        check_images(images, self.batch, None, self.device)
        return self._exchange(images, 1)

    def mix_dense(self, masks: Tensor | DenseTargets) -> DenseTargets:
        return dense_targets(masks, self.batch, self.device)

    def mix_features(self, features: Tensor) -> Tensor:
        check_features(features, self.batch, self.device)
        if features.dim() == 2:
            return self._mix_vectors(features)
        return self._exchange(features, 2 if features.dim() == 3 else 1)

    def _exchange(self, features: Tensor, channels: int) -> Tensor:
        """Exchange moments of maps whose channels are on this axis."""
        check_weights("keep", self.keep)
        exact = features.float() if features.dtype != torch.float64 else features
        positions = [axis for axis in range(1, features.dim()) if axis != channels]
        axes = [channels] if self.over == "channels" else positions
        # A single number has no variance, instead of NaN.
        count = 1
        for axis in axes:
            count *= features.shape[axis]
        variance, mean = torch.var_mean(exact, axes, correction=int(count > 1), keepdim=True)
        deviation = (variance + self.epsilon).sqrt()
        if self.detach:
            mean, deviation = mean.detach(), deviation.detach()
        keep = self.keep.to(exact.dtype).view(-1, *[1] * (features.dim() - 1))
        new_mean = torch.lerp(mean[self.partner], mean, keep)
        new_deviation = torch.lerp(deviation[self.partner], deviation, keep)
        scale = new_deviation / deviation
        mixed = exact * scale + (new_mean - mean * scale)
        stays = ~self.changed().view(keep.shape)
        return torch.where(stays, exact, mixed).to(features.dtype)

    def sources(self) -> tuple[Tensor, Tensor]:
        samples = torch.arange(self.batch, device=self.device)
        if self.weights is None:
            return samples.unsqueeze(1), torch.ones(
                self.batch, 1, dtype=torch.float32, device=self.device
            )
        return torch.stack([samples, self.partner], dim=1), self.weights

    def changed(self) -> Tensor:
        samples = torch.arange(self.batch, device=self.device)
        return (self.keep < 1) & (self.partner != samples)

    def check_fields(self) -> None:
        if not isinstance(self.keep, Tensor) or self.keep.dim() != 1:
            raise ValueError(f"keep: expected (B,) float32, got {describe(self.keep)}")
        check_tensor("keep", self.keep, self.keep.shape, torch.float32)
        check_numbers("keep", self.keep, 0, 1)
        check_tensor("partner", self.partner, (self.batch,), torch.int64)
        check_numbers("partner", self.partner, 0, self.batch - 1)
        if self.over not in OVER:
            raise ValueError(f"over: got {self.over!r}, expected {' or '.join(OVER)}")
        if not isinstance(self.epsilon, float) or not 0 < self.epsilon < float("inf"):
            raise ValueError(f"epsilon: got {self.epsilon!r}, expected a number above 0")
        if self.weights is not None:
            check_tensor("weights", self.weights, (self.batch, 2), torch.float32)
            check_label_weights(self.weights)

    def only_where(self, apply: Tensor) -> Moments:
        keep = torch.where(apply.reshape(-1), self.keep, 1.0)
        return replace(self, keep=keep, weights=weights_where(apply, self.weights))

    def expand(self, batch: int) -> Moments:
        return expand_rows(self, batch, "keep", "weights")
