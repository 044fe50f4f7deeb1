"""Any method where people already mix: in a DataLoader, a transform, timm's or Lightning's loop.

They all give soft labels (B, num_classes) float32, for a loss that takes them
(`torch.nn.functional.cross_entropy`, timm's `SoftTargetCrossEntropy`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import default_collate

from mixbench.augmentations.checks import IGNORED, check_classes
from mixbench.augmentations.method import Method
from mixbench.augmentations.registry import create
from mixbench.augmentations.targets import Targets


class SoftTargets:
    """Called with (images, labels), gives (mixed images, soft labels), as `timm.data.Mixup` does.

        mix = SoftTargets(augmentations.create("cutmix"), num_classes=10)
        images, soft = mix(images, labels)

    images (B, C, H, W) floating point, on any device; labels (B,) int64 or (B, num_classes).
    `label_smoothing` is spread over all classes; with `multi_label` (labels are (B, num_classes)
    with any number of ones) each moves towards 0.5, as in timm. `generator`: None for torch's
    default one of the device. ValueError as `Method.__call__`. `mixup_enabled = False` turns mixing
    off, as in timm, whose training script does so for the last epochs; labels stay soft.

    `SoftTargets.like_timm(...)` takes timm's own arguments.
    """

    def __init__(
        self,
        mix: Method,
        num_classes: int,
        *,
        label_smoothing: float = 0.0,
        multi_label: bool = False,
        generator: torch.Generator | None = None,
    ) -> None:
        if not isinstance(mix, Method):
            raise ValueError(f"mix: expected augmentations.create(...), got {mix!r}")
        if mix.deepest:
            raise ValueError(
                f"mix: {mix.name} mixes inside the network too (down to layer {mix.deepest}), "
                "expected a method that mixes images alone; see augmentations.mixing_inside"
            )
        check_classes(num_classes)
        if not 0 <= label_smoothing <= 1:
            raise ValueError(f"label_smoothing: expected from 0 to 1, got {label_smoothing!r}")
        self.mix = mix
        self.num_classes = num_classes
        self.label_smoothing = label_smoothing
        self.multi_label = multi_label
        self.generator = generator
        self.mixup_enabled = True

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
        """With the arguments, the order and the defaults of `timm.data.Mixup`.

        An alpha of 0 leaves its method out; with both, `switch_prob` is CutMix's. The batch is
        paired with its reverse, as timm does; `mode` "batch" or "elem". Deviations: any batch size
        (timm asks for an even one), images that are not written to, torch's random numbers and not
        numpy's, and λ for the sample of the same index throughout. ValueError for what timm has and
        this has not: `mode="pair"`, `cutmix_minmax`, `correct_lam=False`.
        """
        refused = {
            "cutmix_minmax": (cutmix_minmax, cutmix_minmax is not None, "None"),
            "correct_lam": (correct_lam, not correct_lam, "True"),
            "mode": (mode, mode not in ("batch", "elem"), "'batch' or 'elem'"),
            "switch_prob": (switch_prob, not 0 <= switch_prob <= 1, "from 0 to 1"),
        }
        for name, (value, wrong, allowed) in refused.items():
            if wrong:
                raise ValueError(f"{name}: expected {allowed}, got {value!r}")
        common: dict[str, Any] = {"per_sample": mode == "elem", "pairing": "flip"}
        methods = [
            {"name": name, "alpha": alpha, **common}
            for name, alpha in (("mixup", mixup_alpha), ("cutmix", cutmix_alpha))
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
        mix = self.mix if self.mixup_enabled else create("none")
        batch = mix(images, labels, self.num_classes, generator=self.generator)
        return batch.images, self._soft(batch.targets)

    def _soft(self, targets: Targets) -> Tensor:
        soft = targets.dense(self.num_classes)
        if self.label_smoothing:
            # Smoothing before mixing and after it give the same. What is ignored gets none: its
            # weight must not reach a class this way either.
            counted = targets.weights.masked_fill(targets.labels == IGNORED, 0)
            left = 1 - (targets.weights - counted).sum(dim=1, keepdim=True)
            towards = left * (0.5 if self.multi_label else 1 / self.num_classes)
            soft = soft * (1 - self.label_smoothing) + self.label_smoothing * towards
        return soft


class MixTransform(torch.nn.Module):
    """A transform of whole batches, as torchvision's `v2.CutMix`; also inside `v2.Compose`.

        transform = v2.Compose([v2.ToDtype(torch.float32, scale=True), MixTransform(mix, 10)])
        images, soft = transform(images, labels)

    Takes `(images, labels)` as two arguments or as one pair, and gives a tuple or a list
    accordingly. Arguments and errors as `SoftTargets`. A subclass of a tensor (`tv_tensors.Image`)
    comes back as what it was.
    """

    def __init__(self, mix: Method, num_classes: int, **options: Any) -> None:
        super().__init__()
        self.soft_targets = SoftTargets(mix, num_classes, **options)

    def forward(self, *inputs: Any) -> Any:
        pair = inputs[0] if len(inputs) == 1 else inputs
        if not (isinstance(pair, (tuple, list)) and len(pair) == 2):
            raise ValueError(f"MixTransform: expected images and labels, got {_what(pair)}")
        images, labels = pair
        if not (isinstance(images, Tensor) and isinstance(labels, Tensor)):
            raise ValueError(
                f"MixTransform: expected two tensors, got {_what(images)} and {_what(labels)}"
            )
        mixed, soft = self.soft_targets(images.as_subclass(Tensor), labels.as_subclass(Tensor))
        result = (mixed.as_subclass(type(images)), soft)
        return list(result) if isinstance(pair, list) else result

    def extra_repr(self) -> str:
        return f"{self.soft_targets.mix}, num_classes={self.soft_targets.num_classes}"


@dataclass(frozen=True)
class Collate:
    """A `collate_fn` for a DataLoader whose samples are (image, label): the batch comes out mixed.

        DataLoader(dataset, batch_size=128, num_workers=4, collate_fn=Collate(mix, 10))

    Gives (images, soft labels). `collate` stacks the samples (torch's `default_collate`). Random
    numbers: in a worker process torch's default generator, which the DataLoader seeds anew for
    every worker and epoch from its own `generator`; without workers the default one of this
    process. A DataLoader with a seeded `generator` therefore gives the same batches again. Mixing
    on the device, after the loader, is faster: see `SoftTargets`.
    """

    mix: Method
    num_classes: int
    label_smoothing: float = 0.0
    collate: Callable[[list[Any]], Any] = default_collate

    def __post_init__(self) -> None:
        self._soft_targets()

    def __call__(self, samples: list[Any]) -> tuple[Tensor, Tensor]:
        batch = self.collate(samples)
        if isinstance(batch, Mapping) or not isinstance(batch, Sequence) or len(batch) != 2:
            raise ValueError(f"Collate: expected samples (image, label), got {_what(batch)}")
        return self._soft_targets()(batch[0], batch[1])

    def _soft_targets(self) -> SoftTargets:
        return SoftTargets(self.mix, self.num_classes, label_smoothing=self.label_smoothing)


class MixBatches:
    """The hooks of a Lightning callback that mixes training batches on the device.

        class Mix(MixBatches, lightning.Callback): ...
        Trainer(callbacks=[Mix(SoftTargets(mix, num_classes=10))])

    A batch must be a list [images, labels], as torch's `default_collate` makes it: its entries are
    replaced before `training_step` sees them. Validation and test batches stay as they are.
    """

    def __init__(self, soft_targets: SoftTargets) -> None:
        super().__init__()
        self.soft_targets = soft_targets

    def on_train_batch_start(
        self, _trainer: Any, _module: Any, batch: Any, _batch_idx: int
    ) -> None:
        """Replace images and labels in `batch`."""
        if not isinstance(batch, list) or len(batch) != 2:
            raise ValueError(f"MixBatches: expected a list [images, labels], got {_what(batch)}")
        batch[:] = self.soft_targets(*batch)


def _what(value: Any) -> str:
    if isinstance(value, (tuple, list)):
        return f"a {type(value).__name__} of {len(value)}"
    return type(value).__name__
