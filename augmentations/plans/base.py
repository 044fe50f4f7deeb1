"""A plan: a decision about a batch, drawn once, applied to as many things as needed.

A plan holds no randomness. `Blend` (blend.py) is a weighted mean with a partner; `Paste` (paste.py)
copies rectangles. Labels follow from the plan's pixels, so a label can't disagree with its image.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor

from mixbench.augmentations.checks import check_labels, check_weights
from mixbench.augmentations.plans.statistics import statistics
from mixbench.augmentations.targets import Targets, weighted

P = TypeVar("P", bound="Plan")


class Plan(ABC):
    """What will be done to a batch, in tensors; rows are one per sample, or one for all."""

    @property
    @abstractmethod
    def batch(self) -> int:
        """How many samples the plan is for."""

    @property
    @abstractmethod
    def device(self) -> torch.device:
        """Where the plan's tensors are."""

    @property
    def depth(self) -> int:
        """At which layer of a network the plan applies: 0 is its input, the images."""
        return 0

    @abstractmethod
    def mix_images(self, images: Tensor) -> Tensor:
        """Mixed copy of `images` (B, C, H, W): same dtype, device and memory format."""

    @abstractmethod
    def mix_masks(self, masks: Tensor) -> Tensor:
        """Mixed copy of segmentation masks (B, H, W) or (B, C, H, W), at any resolution.

        Class indices (an integer dtype) can't be averaged: each pixel takes the class of the source
        that has the larger share of it. Floating-point masks (one-hot, soft) mix as images do.
        What is filled leaves masks as they are, as it leaves labels.
        """

    @abstractmethod
    def mix_features(self, features: Tensor) -> Tensor:
        """Mixed copy of `features`: (B, ..., h, w) at any resolution, or plain vectors (B, D).

        The geometry is scaled to h x w; vectors are averaged with the label weights.
        """

    @abstractmethod
    def sources(self) -> tuple[Tensor, Tensor]:
        """Who is in each sample, and how much: (B, K) int64 indices, (B, K) float32 shares."""

    @abstractmethod
    def changed(self) -> Tensor:
        """Which samples the plan changes: (B,) bool. A self-pair of a blend is not a change."""

    @abstractmethod
    def mix_boxes(
        self, targets: Sequence[Mapping[str, Any]], *, visibility: float = 0.1
    ) -> list[dict[str, Any]]:
        """Detection targets of the mixed images: see `augmentations/plans/detection_boxes.py`.

        targets: one mapping per sample with `boxes` (N, 4) floating point, x1, y1, x2, y2 in pixels
        of the image, and `labels` (N,); any further tensor with a row per box goes along. Returns
        new dictionaries of the same keys and `weights` (N,) float32, multiplied by those that came.
        Boxes of which less than `visibility` can still be seen are dropped.
        Raises ValueError for another number of targets, other shapes or dtypes.
        """

    @abstractmethod
    def only_where(self, apply: Tensor) -> Plan:
        """The plan that mixes where `apply` ((B,) or (1,) bool) and leaves the rest as they are."""

    @abstractmethod
    def expand(self, batch: int) -> Plan:
        """The same plan with `batch` rows (a view: one shared row costs nothing)."""

    def own_share(self) -> Tensor:
        """How much of each sample is its own, by its label weights (the realised λ): (B,)."""
        index, share = self.sources()
        own = torch.arange(index.shape[0], device=index.device).unsqueeze(1)
        return (share * (index == own)).sum(dim=1)

    def statistics(self) -> dict[str, Tensor]:
        """What the plan realised, as float32 numbers on its device (nothing waits for it)."""
        return statistics(self)

    def prepare(self) -> None:  # noqa: B027  (optional hook)
        """Work out now what labels will need, for a plan that is drawn some time before them."""

    def check(self) -> None:  # noqa: B027  (optional hook)
        """Raise ValueError unless the plan's tensors fit each other and hold possible values.

        For plans that come from elsewhere (a file): it reads the tensors, so the host waits.
        """

    def mix_labels(self, labels: Tensor, num_classes: int | None = None) -> Targets:
        """Weighted labels of the mixed images.

        labels: (B,) int64, classes or -100 (ignored), or (B, num_classes) floating point, soft or
        multi-label. `num_classes` is used to check them.
        Raises ValueError for other shapes, dtypes, devices or classes, and for a weight that is
        NaN or outside [0, 1] (values are read only on the CPU: nothing waits for a device).
        """
        check_labels(labels, self.batch, num_classes, self.device)
        if labels.dim() == 1:
            classes, share = self._classes(labels)
            targets = Targets(classes, share)
        else:
            index, share = self.sources()
            targets = weighted(labels, index, share)
        if not self._counted:
            check_weights("weights", share)
        return targets

    def _classes(self, labels: Tensor) -> tuple[Tensor, Tensor]:
        """The classes of each sample's sources, and their shares: both (B, K)."""
        index, share = self.sources()
        return labels.take(index), share

    @property
    def _counted(self) -> bool:
        """Are the label weights all 1, or counted, and checked, as numbers of the host?"""
        return False

    def _mix_vectors(self, features: Tensor) -> Tensor:
        index, share = self.sources()
        if not self._counted:
            check_weights("weights", share)
        # Not a matrix product: autocast would take it to half precision.
        exact = torch.promote_types(features.dtype, torch.float32)
        mixed = (share.unsqueeze(-1) * features[index].to(exact)).sum(dim=1)
        return mixed.to(features.dtype)


@dataclass(frozen=True)
class Batch:
    """A mixed batch: `images` (B, C, H, W), `targets`, and the `plan` that made them."""

    images: Tensor
    targets: Targets
    plan: Plan


def expanded(plan: P, batch: int, *names: str) -> P:
    """The plan with `batch` rows in the tensors of these names, where there are any."""
    if plan.batch == batch:
        return plan
    # Every batch comes this way, and `dataclasses.replace` takes ten times as long.
    made = object.__new__(type(plan))
    made.__dict__.update(plan.__dict__)
    for name in names:
        rows = getattr(plan, name)
        if rows is not None:
            made.__dict__[name] = rows.expand(batch, *rows.shape[1:])
    return made


def first_alone(apply: Tensor, weights: Tensor | None) -> Tensor | None:
    """The declared weights where the plan applies, and all of it the sample's own elsewhere."""
    if weights is None:
        return None
    alone = torch.zeros_like(weights)
    alone[:, 0] = 1
    return torch.where(apply.reshape(-1, 1), weights, alone)


def with_channel(tensor: Tensor) -> Tensor:
    """(B, ..., H, W) as (B, C, H, W)."""
    if tensor.dim() == 4:
        return tensor
    return tensor.reshape(tensor.shape[0], -1, *tensor.shape[-2:])
