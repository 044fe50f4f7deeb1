"""Use any method in a DataLoader, a torchvision transform, timm's or Lightning's training loop.

All return soft labels (B, num_classes) float32, for a loss that takes them
(`torch.nn.functional.cross_entropy`, timm's `SoftTargetCrossEntropy`).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import default_collate

from mixbench.augmentations.checks import IGNORED, check_classes, check_images
from mixbench.augmentations.integrations.workers import portable, reseed_in_worker
from mixbench.augmentations.method import Method
from mixbench.augmentations.plans import composite, paste
from mixbench.augmentations.registry import create
from mixbench.augmentations.sampling import boxes, draws
from mixbench.augmentations.sampling.operations import Normalisation
from mixbench.augmentations.targets import Targets
from mixbench.augmentations.tensor_types import plain

SHARED_WITH_WORKERS = (composite, paste, boxes, draws)
"""What most methods import when they first draw: here once, not in every worker of every epoch."""


class SoftTargets:
    """Mix a batch of images and return soft labels, called as `timm.data.Mixup` is.

    `SoftTargets.like_timm(...)` takes timm's own arguments. Set `mixup_enabled = False` to stop
    mixing, as timm's training script does for the last epochs; labels stay soft.

    In the workers of a DataLoader, a `generator` that was copied from the main process is reseeded
    once, from its own seed and the worker's. So workers and epochs differ, and a loader whose own
    `generator` is seeded (or that follows `torch.manual_seed`) repeats its batches.

    Args:
        mix: The method; it must mix images alone, not inside a network.
        num_classes: The number of classes.
        label_smoothing: The share of each label, from 0 to 1, that is spread over all classes.
        multi_label: Whether labels are (B, num_classes) with any number of ones; label smoothing
            then moves each towards 0.5, as in timm.
        generator: Source of the random numbers, on the images' device; None for the device's
            default generator. In a DataLoader's worker it is reseeded, as described above.
        normalisation: (mean, std) of the images, for methods that change colours.

    Raises:
        ValueError: An argument is not allowed, or the method mixes inside the network.

    Examples:
        >>> import mixbench, torch
        >>> soften = mixbench.SoftTargets(mixbench.create("cutmix"), num_classes=10)
        >>> images, soft = soften(torch.rand(4, 3, 32, 32), torch.arange(4))
        >>> images.shape, soft.shape
        (torch.Size([4, 3, 32, 32]), torch.Size([4, 10]))
    """

    def __init__(
        self,
        mix: Method,
        num_classes: int,
        *,
        label_smoothing: float = 0.0,
        multi_label: bool = False,
        generator: torch.Generator | None = None,
        normalisation: Normalisation | None = None,
    ) -> None:
        if not isinstance(mix, Method):
            raise ValueError(f"mix: expected mixbench.create(...), got {mix!r}")
        if mix.deepest:
            raise ValueError(
                f"mix: {mix.name} mixes inside the network too (down to layer {mix.deepest}), "
                "expected a method that mixes images alone; see mixbench.mixing_inside"
            )
        beyond = [need for need in ("masks", "model", "bank") if need in mix.needs]
        if mix.has_loss or beyond:
            reason = f"needs {' and '.join(beyond)}" if beyond else "has a loss of its own"
            raise ValueError(
                f"mix: {mix.name} {reason}, which soft labels can't carry; "
                "expected a method without; use mixbench.training_loss"
            )
        if "normalisation" in mix.needs and normalisation is None:
            raise ValueError(
                f"mix: {mix.name} needs normalisation=, the mean and the standard deviation of the "
                "images; (0, 1) for images from 0 to 1"
            )
        check_classes(num_classes)
        if not 0 <= label_smoothing <= 1:
            raise ValueError(f"label_smoothing: expected from 0 to 1, got {label_smoothing!r}")
        self.mix = mix
        self.num_classes = num_classes
        self.label_smoothing = label_smoothing
        self.multi_label = multi_label
        self.generator = generator
        self.normalisation = normalisation
        self.mixup_enabled = True
        self._process = os.getpid()

    @classmethod
    def like_timm(
        cls,
        mixup_alpha: float = 1.0,
        cutmix_alpha: float = 0.0,
        cutmix_minmax: Sequence[float] | None = None,
        prob: float = 1.0,
        switch_prob: float = 0.5,
        mode: str = "batch",
        correct_lam: bool = True,
        label_smoothing: float = 0.1,
        num_classes: int = 1000,
        multi_label: bool = False,
        *,
        generator: torch.Generator | None = None,
    ) -> SoftTargets:
        """Create one from the arguments of `timm.data.Mixup`, in its order, with its defaults.

        The batch is paired with its reverse, as in timm. Deviations from timm: any batch size (timm
        needs an even one), images are not changed in place, random numbers are torch's, not
        numpy's, and λ always belongs to the sample of the same index.

        Args:
            mixup_alpha: MixUp's α; 0 leaves MixUp out.
            cutmix_alpha: CutMix's α; 0 leaves CutMix out.
            cutmix_minmax: Must be None; timm's bounds of the box are not supported.
            prob: Probability of mixing, per batch or per sample as `mode` says.
            switch_prob: Probability of CutMix where both are in use, from 0 to 1.
            mode: "batch" draws once per batch, "elem" per sample; "pair" is not supported.
            correct_lam: Whether CutMix's label weights follow from the clipped box; else they are
                λ as drawn (`labels="uncorrected"`).
            label_smoothing: The share of each label that is spread over all classes.
            num_classes: The number of classes.
            multi_label: Whether labels are (B, num_classes) with any number of ones.
            generator: Source of the random numbers; None for the device's default generator.

        Returns:
            A `SoftTargets` of MixUp, CutMix, or `choice` of the two.

        Raises:
            ValueError: Both alphas are 0, or an argument has a value that is not supported.
        """
        refused = {
            "cutmix_minmax": (cutmix_minmax, cutmix_minmax is not None, "None"),
            "correct_lam": (correct_lam, correct_lam not in (True, False), "True or False"),
            "mode": (mode, mode not in ("batch", "elem"), "'batch' or 'elem'"),
            "switch_prob": (switch_prob, not 0 <= switch_prob <= 1, "from 0 to 1"),
        }
        for name, (value, wrong, allowed) in refused.items():
            if wrong:
                raise ValueError(f"{name}: expected {allowed}, got {value!r}")
        common: dict[str, Any] = {"per_sample": mode == "elem", "pairing": "flip"}
        labels = {} if correct_lam else {"labels": "uncorrected"}
        methods = [
            {"name": name, "alpha": alpha, **common, **rule}
            for name, alpha, rule in (
                ("mixup", mixup_alpha, {}),
                ("cutmix", cutmix_alpha, labels),
            )
            if alpha != 0
        ]
        if len(methods) == 2:
            weights = [1 - switch_prob, switch_prob]
            mix = create("choice", methods=methods, weights=weights, prob=prob, **common)
        elif methods:
            mix = create(**{**methods[0], "prob": prob})
        else:
            raise ValueError(
                "mixup_alpha, cutmix_alpha: expected at least one above 0, got "
                f"{mixup_alpha!r} and {cutmix_alpha!r}"
            )
        return cls(
            mix,
            num_classes,
            label_smoothing=label_smoothing,
            multi_label=multi_label,
            generator=generator,
        )

    def __call__(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Mix a batch.

        Args:
            images: (B, C, H, W) floating point, on any device.
            labels: (B,) int64 or (B, num_classes) floating point, on the images' device.

        Returns:
            Mixed images of the same shape and dtype, and soft labels (B, num_classes) float32.

        Raises:
            ValueError: Images or labels have another shape or dtype, or are on another device.
        """
        return self.mix_batch(images, labels)

    def mix_batch(
        self, images: Tensor, labels: Tensor, *, in_place: bool = False
    ) -> tuple[Tensor, Tensor]:
        """Mix a batch as the call does.

        Args:
            images: (B, C, H, W) floating point, on any device.
            labels: (B,) int64 or (B, num_classes) floating point, on the images' device.
            in_place: Whether the mixed images are written over `images`, which saves a copy.

        Returns:
            Mixed images and soft labels (B, num_classes) float32.
        """
        if self.generator is not None:
            reseed_in_worker(self.generator, self._process)
        mix, scale = self.mix if self.mixup_enabled else create("none"), self.normalisation
        if not in_place:
            batch = mix(images, labels, self.num_classes, self.generator, normalisation=scale)
            return batch.images, self._soft(batch.targets)
        check_images(images)
        plan = mix.sample(
            images.shape,
            device=images.device,
            generator=self.generator,
            images=images,
            labels=labels,
            normalisation=scale,
        )
        targets = plan.mix_labels(labels, self.num_classes)
        plan.mix_in_place(plain(images))
        return images, self._soft(targets)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "generator": portable(self.generator)}

    def _soft(self, targets: Targets) -> Tensor:
        soft = targets.dense(self.num_classes)
        if self.label_smoothing:
            # Smoothing before mixing and after it give the same. Ignored labels get none: their
            # weight must not reach a class this way either.
            counted = targets.weights.masked_fill(targets.labels == IGNORED, 0)
            left = 1 - (targets.weights - counted).sum(dim=1, keepdim=True)
            towards = left * (0.5 if self.multi_label else 1 / self.num_classes)
            soft = soft * (1 - self.label_smoothing) + self.label_smoothing * towards
        return soft


class MixTransform(torch.nn.Module):
    """Transform whole batches, as torchvision's `v2.CutMix` does; works inside `v2.Compose`.

    Args:
        mix: The method; it must mix images alone, not inside a network.
        num_classes: The number of classes.
        **options: Further arguments of `SoftTargets`.

    Raises:
        ValueError: As `SoftTargets`.

    Examples:
        >>> import mixbench, torch
        >>> transform = mixbench.MixTransform(mixbench.create("mixup"), num_classes=10)
        >>> images, soft = transform(torch.rand(4, 3, 8, 8), torch.arange(4))
        >>> soft.shape
        torch.Size([4, 10])
    """

    def __init__(self, mix: Method, num_classes: int, **options: Any) -> None:
        super().__init__()
        self.soft_targets = SoftTargets(mix, num_classes, **options)

    def forward(self, *inputs: Any) -> Any:
        """Mix a batch.

        Args:
            *inputs: Images (B, C, H, W) floating point and labels, (B,) int64 or (B, num_classes)
                floating point; as two arguments or as one pair.

        Returns:
            Mixed images, of the same subclass of tensor (such as `tv_tensors.Image`), and soft
            labels (B, num_classes) float32; a list where a list was given, else a tuple.

        Raises:
            ValueError: The inputs are not two tensors, or not such images and labels.
        """
        pair = inputs[0] if len(inputs) == 1 else inputs
        if not (isinstance(pair, (tuple, list)) and len(pair) == 2):
            raise ValueError(f"MixTransform: expected images and labels, got {_what(pair)}")
        images, labels = pair
        if not (isinstance(images, Tensor) and isinstance(labels, Tensor)):
            raise ValueError(
                f"MixTransform: expected two tensors, got {_what(images)} and {_what(labels)}"
            )
        result = self.soft_targets(images, plain(labels))
        return list(result) if isinstance(pair, list) else result

    def extra_repr(self) -> str:
        return f"{self.soft_targets.mix}, num_classes={self.soft_targets.num_classes}"


@dataclass(frozen=True)
class Collate:
    """Mix batches in a DataLoader, as its `collate_fn`; its samples are (image, label).

        DataLoader(dataset, batch_size=128, num_workers=4, collate_fn=Collate(mix, 10))

    Random numbers come from torch's default generator of the process. In a worker the DataLoader
    seeds it for every worker and epoch from its own `generator`, so a loader with a seeded
    `generator` repeats its batches. Mixing on the device, after the loader, is faster: see
    `SoftTargets`.

    Args:
        mix: The method; it must mix images alone, not inside a network.
        num_classes: The number of classes.
        label_smoothing: The share of each label, from 0 to 1, that is spread over all classes.
        collate: Stacks the samples to images and labels; torch's `default_collate`.
        normalisation: As of `SoftTargets`.

    Raises:
        ValueError: As `SoftTargets`.

    Examples:
        >>> import mixbench, torch
        >>> collate = mixbench.Collate(mixbench.create("mixup"), num_classes=10)
        >>> images, soft = collate([(torch.rand(3, 8, 8), label) for label in range(4)])
        >>> images.shape, soft.shape
        (torch.Size([4, 3, 8, 8]), torch.Size([4, 10]))
    """

    mix: Method
    num_classes: int
    label_smoothing: float = 0.0
    collate: Callable[[list[Any]], Any] = default_collate
    normalisation: Normalisation | None = None

    def __post_init__(self) -> None:
        self._soft_targets()

    def __call__(self, samples: list[Any]) -> tuple[Tensor, Tensor]:
        """Stack samples and mix the batch.

        Args:
            samples: B pairs of an image (C, H, W) floating point and a label.

        Returns:
            Mixed images (B, C, H, W) and soft labels (B, num_classes) float32.

        Raises:
            ValueError: The samples are not pairs, or not such images and labels.
        """
        batch = self.collate(samples)
        if isinstance(batch, Mapping) or not isinstance(batch, Sequence) or len(batch) != 2:
            raise ValueError(f"Collate: expected samples (image, label), got {_what(batch)}")
        # What torch collated is new, and nobody else has it.
        return self._soft_targets().mix_batch(*batch, in_place=self.collate is default_collate)

    def _soft_targets(self) -> SoftTargets:
        return SoftTargets(
            self.mix,
            self.num_classes,
            label_smoothing=self.label_smoothing,
            normalisation=self.normalisation,
        )


class MixBatches:
    """Mix training batches on the device in a Lightning callback.

        class Mix(MixBatches, lightning.Callback): ...
        Trainer(callbacks=[Mix(SoftTargets(mix, num_classes=10))])

    A batch must be a list [images, labels], as torch's `default_collate` returns it: its entries
    are replaced before `training_step` gets them. Validation and test batches are not mixed.

    Args:
        soft_targets: Mixes each training batch.
    """

    def __init__(self, soft_targets: SoftTargets) -> None:
        super().__init__()
        self.soft_targets = soft_targets

    def on_train_batch_start(
        self, _trainer: Any, _module: Any, batch: Any, _batch_idx: int
    ) -> None:
        """Replace images and labels in `batch` by mixed images and soft labels.

        Args:
            batch: A list [images, labels], changed in place.

        Raises:
            ValueError: The batch is no such list, or not of images and labels.
        """
        if not isinstance(batch, list) or len(batch) != 2:
            raise ValueError(f"MixBatches: expected a list [images, labels], got {_what(batch)}")
        batch[:] = self.soft_targets(*batch)


def _what(value: Any) -> str:
    """Describe a value for a message, such as "a list of 3"."""
    if isinstance(value, (tuple, list)):
        return f"a {type(value).__name__} of {len(value)}"
    return type(value).__name__
