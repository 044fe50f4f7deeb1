"""A plan: a decision about a batch, drawn once, applied to as many things as needed.

A plan holds no randomness. `Blend` (blend.py) is a weighted mean with a partner; `Paste` (paste.py)
copies rectangles; the plans of composite.py are made of others. Labels follow from the plan's
pixels, so a label can't disagree with its image.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import Tensor

from mixbench.augmentations.checks import check_labels, check_weights
from mixbench.augmentations.dense_targets import DenseTargets, by_soft_masks, dense_targets
from mixbench.augmentations.plans.quantiles import comes_from_itself, distribution
from mixbench.augmentations.targets import Targets, weighted

if TYPE_CHECKING:
    from mixbench.augmentations.plans.fragments import Fragments

P = TypeVar("P", bound="Plan")


class Plan(ABC):
    """What is done to a batch of B samples, in tensors with one row per sample.

    A kind of plan is a frozen dataclass of tensors, numbers, words and other plans, so that it can
    be saved. It defines the abstract methods, and overrides `is_spatial`, `pixel_shares` and
    `changed_pixels` if it treats the pixels of an image differently. Only `mix_boxes` and
    `check_fields` make the host wait for a device.
    """

    @property
    @abstractmethod
    def batch(self) -> int:
        """The number of samples that the plan is for."""

    @property
    @abstractmethod
    def device(self) -> torch.device:
        """The device of the plan's tensors."""

    @property
    def depth(self) -> int:
        """The layer of a network at which the plan applies; 0 is the input, the images."""
        return 0

    @property
    def is_spatial(self) -> bool:
        """Whether the shares of the sources differ between the pixels of an image."""
        return False

    @property
    def is_linear(self) -> bool:
        """Whether mixing is linear, plus a fill: means of pixels, not an exchange of moments."""
        return True

    @property
    def has_free_weights(self) -> bool:
        """Whether the label weights of a sample may sum to something else than 1."""
        return False

    @property
    def is_small(self) -> bool:
        """Whether `sum_realised` may merge plans of this kind: a few numbers per sample."""
        return False

    @abstractmethod
    def mix_images(self, images: Tensor) -> Tensor:
        """Mix images.

        Args:
            images: (B, C, H, W) floating point, on the plan's device; not changed.

        Returns:
            (B, C, H, W) of the same dtype, device and memory format.

        Raises:
            ValueError: The images have another shape or dtype, or are on another device.

        Examples:
            >>> import mixbench, torch
            >>> plan = mixbench.Blend(torch.full((2, 1, 1, 1), 0.75), partner=torch.tensor([1, 0]))
            >>> images = torch.tensor([0.0, 8.0]).view(2, 1, 1, 1)
            >>> plan.mix_images(images).flatten()
            tensor([2., 6.])
        """

    def mix_in_place(self, images: Tensor) -> None:
        """Mix images as `mix_images`, in their own memory; not for `tv_tensors`."""
        mixed = self.mix_images(images)
        if mixed is not images:
            images.copy_(mixed)

    @abstractmethod
    def mix_masks(self, masks: Tensor) -> Tensor:
        """Mix segmentation masks, at any resolution.

        Class indices (an integer dtype) can't be averaged: each pixel takes the class of the source
        that has the larger share of it. Floating-point masks (one-hot, soft) mix as images do.
        Filled pixels don't change masks, as they don't change labels.

        Args:
            masks: (B, H, W) or (B, C, H, W), on the plan's device; not changed.

        Returns:
            Mixed masks of the same shape, dtype and device.

        Raises:
            ValueError: The masks have another shape, or are on another device.
        """

    @abstractmethod
    def mix_features(self, features: Tensor) -> Tensor:
        """Mix feature maps with the geometry scaled to them, or feature vectors as labels.

        Args:
            features: (B, ..., h, w) at any resolution, or (B, D), floating point, on the plan's
                device; not changed.

        Returns:
            Mixed features of the same shape, dtype and device.

        Raises:
            ValueError: The features have another shape or dtype, or are on another device.
        """

    @abstractmethod
    def sources(self) -> tuple[Tensor, Tensor]:
        """Return the samples that each mixed sample is made of, and their shares.

        Returns:
            Indices into the batch (B, K) int64, and shares (B, K) float32, which sum to 1 per row.

        Examples:
            >>> import mixbench, torch
            >>> plan = mixbench.Blend(torch.full((2, 1, 1, 1), 0.75), partner=torch.tensor([1, 0]))
            >>> plan.sources()[1][0]
            tensor([0.7500, 0.2500])
        """

    @abstractmethod
    def changed(self) -> Tensor:
        """Tell which samples the plan changes: (B,) bool. A blend with itself is no change."""

    @abstractmethod
    def mix_boxes(
        self,
        targets: Sequence[Mapping[str, Any]],
        *,
        visibility: float = 0.1,
        per_box: Collection[str] = (),
        min_weight: float = 0.0,
    ) -> list[dict[str, Any]]:
        """Return the detection targets of the mixed images, by the rules in detection_boxes.py.

        The number of remaining boxes decides the shapes, so the host waits for the device.

        Args:
            targets: One mapping per sample with `boxes` (N, 4) floating point, in pixels of the
                image, and `labels` (N,). A plain tensor of boxes holds x1, y1, x2, y2; of
                `tv_tensors.BoundingBoxes` the format is read (XYXY, XYWH or CXCYWH).
            visibility: Drop boxes of which less than this share of the area is visible, from 0 to
                1.
            per_box: Further keys with one row per box, tensors or lists, which go along with their
                boxes. `labels`, `weights`, `area`, `iscrowd`, `masks` and `keypoints` always do;
                everything else stays with the sample.
            min_weight: Drop boxes to which mixing leaves a weight below this, from 0 to 1, as a
                blend leaves to those of an image of which little is seen.

        Returns:
            New dictionaries with the same keys and types, each target's boxes in its own format,
            and `weights` (N,) float32, multiplied by the weights given, if any.

        Raises:
            ValueError: The number of targets is not B, one has other shapes, dtypes or a rotated
                format, a box has its edges the wrong way round or is not finite, or boxes or masks
                are of images of another size.

        Examples:
            >>> import mixbench, torch
            >>> left_half = torch.tensor([[[0, 0, 8, 4]]]).expand(2, -1, -1)
            >>> plan = mixbench.Paste((8, 8), left_half, partner=torch.tensor([[1], [0]]))
            >>> box = torch.tensor([[2.0, 0.0, 8.0, 8.0]])
            >>> targets = [{"boxes": box, "labels": torch.tensor([n])} for n in (5, 6)]
            >>> mixed = plan.mix_boxes(targets)
            >>> mixed[0]["boxes"], mixed[0]["labels"]
            (tensor([[4., 0., 8., 8.],
                    [2., 0., 4., 8.]]), tensor([5, 6]))
        """

    @property
    def traces_boxes(self) -> bool:
        """Whether `trace_boxes` is defined, so that a chain can follow boxes through this plan."""
        return False

    def trace_boxes(self, fragments: Fragments) -> Fragments:
        """Return what the mixed images show of boxes, given what the images before showed of them.

        A chain judges what can be seen of a box once, after its last stage. A plan that does not
        define this is asked for `mix_boxes`, and boxes are judged before it and after it.

        Args:
            fragments: Visible pieces of boxes; `Fragments.through` follows them through patches.
        """
        raise NotImplementedError(f"{type(self).__name__} does not trace boxes")

    @abstractmethod
    def only_where(self, apply: Tensor) -> Plan:
        """Return the plan that mixes only where `apply` ((B,) or (1,) bool) is true."""

    @abstractmethod
    def expand(self, batch: int) -> Plan:
        """Return the same plan with `batch` rows (a view: one shared row costs nothing)."""

    def pixel_shares(self, before: Tensor) -> Tensor:
        """Return what each source contributes to quantities that every pixel has.

        `Chain.sources` counts shares with this: a box of a partner may hold more or less than its
        share of what was pasted into the partner.

        Args:
            before: (B, M, h, w) float32, M quantities of every pixel; h = w = 1 if all pixels of a
                sample have the same.

        Returns:
            (B, K, M, h, w) in the order of `sources`; the sum over K is `before` mixed by the plan.
            Here, for a plan that is not spatial, every pixel has the shares of `sources`.
        """
        index, share = self.sources()
        return share[:, :, None, None, None] * before[index]

    def changed_pixels(self) -> Tensor:
        """Tell which pixels get another source or a fill, whatever their values.

        Returns:
            (B, H, W) bool, or (B, 1, 1) if it is all pixels of a sample or none. Here, for a plan
            that is not spatial: those of the changed samples. For a plan inside a network it is
            about the features.
        """
        return self.changed().view(-1, 1, 1)

    def changed_area(self) -> Tensor:
        """Return the share of pixels that the plan changes: (B,) float32, from 0 to 1."""
        return self.changed_pixels().float().mean(dim=(1, 2))

    def own_share(self) -> Tensor:
        """Return each sample's own label weight, the realised λ: (B,) float32."""
        index, share = self.sources()
        return (share * comes_from_itself(index)).sum(dim=1)

    def statistics(self) -> dict[str, Tensor]:
        """Summarise what the plan does to its batch.

        Returns:
            0-dimensional float32 tensors on the plan's device: `own_mean`, `own_std` (with n in the
            denominator), `own_min`, `own_q05`, `own_q25`, `own_q50`, `own_q75`, `own_q95`,
            `own_max`: of each sample's own label weight, the realised λ; quantiles interpolate
            linearly. `self_pair`: of the visible parts after the first of `sources`, the share that
            comes from the sample itself; 0 if there are none. `changed`: the share of samples whose
            image changes.
        """
        index, share = self.sources()
        of_itself = comes_from_itself(index)
        visible = share[:, 1:] > 0
        self_pairs = (visible & of_itself[:, 1:]).sum()
        return {
            **distribution((share * of_itself).sum(dim=1).float()),
            "self_pair": self_pairs / visible.sum().clamp(min=1),
            "changed": self.changed().float().mean(),
        }

    def check_fields(self) -> None:  # noqa: B027  (optional hook)
        """Check that the plan's tensors match each other and have allowed values.

        This is for plans from a file. It reads the tensors, so the host waits for the device.

        Raises:
            ValueError: They don't; the message names the field.
        """

    def mix_labels(self, labels: Tensor, num_classes: int | None = None) -> Targets:
        """Return the weighted labels of the mixed images.

        Args:
            labels: (B,) int64, classes or -100 (ignored), or (B, num_classes) floating point, soft
                or multi-label; on the plan's device.
            num_classes: The number of classes, to check the labels with; None leaves that out.

        Returns:
            The labels of all sources of each sample, with their weights.

        Raises:
            ValueError: The labels have another shape, dtype or device, a class is out of range, or
                a label weight is NaN or outside [0, 1]. Values are checked only on the CPU, so that
                nothing waits for a device.

        Examples:
            >>> import mixbench, torch
            >>> plan = mixbench.Blend(torch.full((2, 1, 1, 1), 0.75), partner=torch.tensor([1, 0]))
            >>> plan.mix_labels(torch.tensor([2, 0]), num_classes=3).dense(3)
            tensor([[0.2500, 0.0000, 0.7500],
                    [0.7500, 0.0000, 0.2500]])
        """
        check_labels(labels, self.batch, num_classes, self.device)
        if labels.dim() == 1:
            classes, share = self._classes(labels)
            targets = Targets(classes, share, free=self.has_free_weights)
        else:
            index, share = self.sources()
            targets = weighted(labels, index, share, free=self.has_free_weights)
        if not self._weights_are_checked:
            check_weights("weights", share)
        return targets

    def mix_dense(self, masks: Tensor | DenseTargets) -> DenseTargets:
        """Return the weighted labels of every pixel of the mixed images, for segmentation.

        A blended pixel has the labels of both images, by their shares; filled ones keep theirs.

        Args:
            masks: (B, H, W) of an integer dtype, at any resolution, on the plan's device; or what
                another plan returned, to go on from there.

        Raises:
            ValueError: The masks have another shape or dtype, or are on another device.
        """
        given = dense_targets(masks, self.batch, self.device)
        return by_soft_masks(given, self.mix_masks)

    def _classes(self, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Return the classes of each sample's sources, and their shares: both (B, K)."""
        index, share = self.sources()
        return labels.take(index), share

    @property
    def _weights_are_checked(self) -> bool:
        """Whether the label weights are all 1, or were computed and checked on the host."""
        return False

    def _mix_vectors(self, features: Tensor) -> Tensor:
        index, share = self.sources()
        if not self._weights_are_checked:
            check_weights("weights", share)
        # Not a matrix product: autocast would take it to half precision.
        exact = torch.promote_types(features.dtype, torch.float32)
        mixed = (share.unsqueeze(-1) * features[index].to(exact)).sum(dim=1)
        return mixed.to(features.dtype)


@dataclass(frozen=True)
class Batch:
    """A mixed batch.

    Attributes:
        images: (B, C, H, W), mixed.
        targets: Their weighted labels.
        plan: The decision that images and labels follow; it mixes masks, boxes and features too.
        drawn: The methods that a `choice` per batch drew, the outermost first.
    """

    images: Tensor
    targets: Targets
    plan: Plan
    drawn: tuple[Any, ...] = ()


def expand_rows(plan: P, batch: int, *names: str) -> P:
    """Return the plan with `batch` rows in the tensors of these names."""
    if plan.batch == batch:
        return plan
    # This runs for every batch, and `dataclasses.replace` takes ten times as long.
    expanded = object.__new__(type(plan))
    expanded.__dict__.update(plan.__dict__)
    for name in names:
        rows = getattr(plan, name)
        if rows is not None:
            expanded.__dict__[name] = rows.expand(batch, *rows.shape[1:])
    return expanded


def weights_where(apply: Tensor, weights: Tensor | None) -> Tensor | None:
    """Return the declared weights where the plan applies; elsewhere all weight is the sample's."""
    if weights is None:
        return None
    unmixed = torch.zeros_like(weights)
    unmixed[:, 0] = 1
    return torch.where(apply.reshape(-1, 1), weights, unmixed)


def with_channel(tensor: Tensor) -> Tensor:
    """Reshape (B, ..., H, W) to (B, C, H, W)."""
    if tensor.dim() == 4:
        return tensor
    return tensor.reshape(tensor.shape[0], -1, *tensor.shape[-2:])
