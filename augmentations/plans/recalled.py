"""A box of each image shows an image of an earlier batch, scaled down: plans with a memory."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from mixbench.augmentations.checks import check_features, check_images, check_labels, describe
from mixbench.augmentations.dense_targets import DenseTargets
from mixbench.augmentations.plans.base import Plan
from mixbench.augmentations.plans.paste import Paste
from mixbench.augmentations.targets import Targets
from mixbench.augmentations.tensor_types import keeps_type


@dataclass(frozen=True)
class Recalled(Plan):
    """A box of each image shows an earlier one, which is not in the batch, whole and scaled.

    Only images and labels of the earlier batch are known. Masks stay as they are, boxes of objects
    are dropped behind it, features are 0 there. In `sources` it has indices from B on, B for the
    first sample's.

    Attributes:
        size: Height and width of the images.
        box: (B, 4) int64, top, left, bottom and right; an empty one does nothing.
        images: (B, C, H, W), the earlier image that each sample shows.
        labels: Their labels, (B,) int64 or (B, num_classes) floating point.
        logits: (B, num_classes), what the network said of them; None if that is not known.
    """

    size: tuple[int, int]
    box: Tensor
    images: Tensor
    labels: Tensor
    logits: Tensor | None = None

    @property
    def batch(self) -> int:
        return self.box.shape[0]

    @property
    def device(self) -> torch.device:
        return self.box.device

    @property
    def is_spatial(self) -> bool:
        return True

    @property
    def _together(self) -> Paste:
        """The plan of the batch and the earlier images behind it, 2 B samples."""
        batch = self.batch
        target = torch.cat([self.box, torch.zeros_like(self.box)]).unsqueeze(1)
        partner = torch.arange(2 * batch, device=self.device).roll(batch).unsqueeze(1)
        return Paste(self.size, target, partner, _whole(self.size, target), resize=True)

    @property
    def _hidden(self) -> Paste:
        """The box filled with 0."""
        return Paste(self.size, self.box.unsqueeze(1))

    @keeps_type
    def mix_images(self, images: Tensor) -> Tensor:
        check_images(images, self.batch, self.size, self.device)
        if self.images.shape != images.shape:
            raise ValueError(
                f"images: expected {tuple(self.images.shape)}, as those of the earlier batch, got "
                f"{tuple(images.shape)}"
            )
        # Not by torch.cat, which autocast may refuse.
        both = images.new_empty(2 * self.batch, *images.shape[1:])
        both[: self.batch], both[self.batch :] = images, self.images.to(images.dtype)
        mixed = self._together.mix_images(both)[: self.batch]
        channels_last = images.is_contiguous(memory_format=torch.channels_last)
        layout = torch.contiguous_format
        if channels_last and not images.is_contiguous():
            layout = torch.channels_last
        return mixed.contiguous(memory_format=layout)

    def mix_masks(self, masks: Tensor) -> Tensor:
        return self._hidden.mix_masks(masks)

    def mix_dense(self, masks: Tensor | DenseTargets) -> DenseTargets:
        return self._hidden.mix_dense(masks)

    def mix_features(self, features: Tensor) -> Tensor:
        check_features(features, self.batch, self.device)
        if features.dim() == 2:
            exact = torch.promote_types(features.dtype, torch.float32)
            return (features.to(exact) * self.own_share().unsqueeze(1)).to(features.dtype)
        return self._hidden.mix_features(features)

    def mix_labels(self, labels: Tensor, num_classes: int | None = None) -> Targets:
        check_labels(labels, self.batch, num_classes, self.device)
        earlier = self.labels
        if labels.dim() == earlier.dim() == 1:
            both = torch.cat([labels, earlier])
        else:
            soft = earlier if earlier.dim() == 2 else labels
            classes = soft.shape[1]
            both = torch.cat([_soft(labels, classes), _soft(earlier, classes)])
        targets = self._together.mix_labels(both, num_classes)
        return Targets(targets.labels[: self.batch], targets.weights[: self.batch])

    def view(self, mixed: Tensor) -> Tensor:
        """Return what the box shows of each mixed image, scaled to the image's size again."""
        shown = self.shows_earlier().unsqueeze(1)
        whole = _whole(self.size, self.box)
        source = torch.where(shown, self.box, whole).unsqueeze(1)
        itself = torch.arange(self.batch, device=self.device).unsqueeze(1)
        plan = Paste(self.size, whole.unsqueeze(1), itself, source, tiles=True, resize=True)
        return plan.mix_images(mixed)

    def shows_earlier(self) -> Tensor:
        """Tell which samples show an earlier image: (B,) bool."""
        return (self.box[:, 2] > self.box[:, 0]) & (self.box[:, 3] > self.box[:, 1])

    def mix_boxes(
        self,
        targets: Sequence[Mapping[str, Any]],
        *,
        visibility: float = 0.1,
        per_box: Collection[str] = (),
        min_weight: float = 0.0,
    ) -> list[dict[str, Any]]:
        return self._hidden.mix_boxes(
            targets, visibility=visibility, per_box=per_box, min_weight=min_weight
        )

    def sources(self) -> tuple[Tensor, Tensor]:
        index, share = self._together.sources()
        return index[: self.batch], share[: self.batch]

    def pixel_shares(self, before: Tensor) -> Tensor:  # noqa: ARG002
        raise ValueError("an earlier batch can't be followed through another plan")

    def changed(self) -> Tensor:
        return self.shows_earlier()

    def changed_pixels(self) -> Tensor:
        return self._hidden.changed_pixels()

    def only_where(self, apply: Tensor) -> Recalled:
        box = torch.where(apply.reshape(-1, 1), self.box, torch.zeros_like(self.box))
        return replace(self, box=box)

    def expand(self, batch: int) -> Recalled:
        return replace(self, box=self.box.expand(batch, 4))

    def check_fields(self) -> None:
        shape = (self.batch, 4)
        if self.box.dtype != torch.int64 or tuple(self.box.shape) != shape:
            raise ValueError(f"box: expected (B, 4) int64, got {describe(self.box)}")
        for name in ("images", "labels", "logits"):
            value = getattr(self, name)
            if value is not None and len(value) != self.batch:
                raise ValueError(f"{name}: expected {self.batch} rows, got {len(value)}")
        self._hidden.check_fields()


def _whole(size: tuple[int, int], like: Tensor) -> Tensor:
    whole = torch.zeros_like(like)
    whole[..., 2], whole[..., 3] = size
    return whole


def _soft(labels: Tensor, classes: int) -> Tensor:
    """Return soft labels (B, classes) float32; an ignored label has no class."""
    if labels.dim() == 2:
        return labels.float()
    known = (labels >= 0).unsqueeze(1)
    soft = torch.zeros(len(labels), classes, device=labels.device, dtype=torch.float32)
    return soft.scatter_(1, labels.clamp(min=0).unsqueeze(1), 1.0) * known
