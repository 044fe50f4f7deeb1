"""From stored uint8 images to a mixed batch: on a GPU in one pass over the pixels."""

from __future__ import annotations

import torch
from torch import Tensor

from mixbench.augmentations import pixels
from mixbench.augmentations.method import Method
from mixbench.augmentations.pixels.preparation import Preparation, check_raw
from mixbench.augmentations.plans.base import Batch, Plan
from mixbench.augmentations.plans.blend import Blend
from mixbench.augmentations.plans.paste import Paste


def mix_raw(
    mix: Method,
    raw: Tensor,
    labels: Tensor,
    preparation: Preparation,
    num_classes: int | None = None,
    generator: torch.Generator | None = None,
) -> Batch:
    """`mix(preparation(raw), labels, num_classes, generator)`, where it can be in one pass.

    raw: (B, C, H, W) uint8, untouched. The other arguments and the result are those of a method's
    call. On a GPU one kernel crops, flips, normalises and mixes; its result differs from that of
    the two steps by float32 rounding where images are blended, and for half precision by being
    rounded only once. Everywhere else, and for methods that look at the images, it is the two
    steps. Raises ValueError for other images or labels.
    """
    check_raw(raw)
    if mix.needs_images or not pixels.by_kernel(raw):
        return mix(preparation(raw), labels, num_classes, generator)
    plan = mix.sample(raw.shape, device=raw.device, generator=generator)
    return Batch(
        prepared_and_mixed(plan, raw, preparation), plan.mix_labels(labels, num_classes), plan
    )


def prepared_and_mixed(plan: Plan, raw: Tensor, preparation: Preparation) -> Tensor:
    """`plan.mix_images(preparation(raw))`, in one pass where a kernel does both.

    Raises ValueError for images that the plan or the preparation is not for.
    """
    preparation.check(raw)
    check_raw(raw, plan.batch, _size(plan))
    if raw.device != plan.device:
        raise ValueError(f"images: expected them on {plan.device}, as the plan, got {raw.device}")
    weights = [plan.keep] if isinstance(plan, Blend) else []
    if not pixels.by_kernel(raw, *weights) or not _in_one_pass(plan):
        return plan.mix_images(preparation(raw))
    from mixbench.augmentations.pixels import operators

    crop = preparation
    keep = target = source = None
    if isinstance(plan, Blend):
        keep = plan.keep
    elif isinstance(plan, Paste) and plan.target.shape[1]:
        target, source = plan.target, plan.source
    else:
        return preparation(raw)
    fill = 0.0 if plan.fill == "mean" else float(plan.fill)
    return operators.prepare(
        raw,
        crop.scale,
        crop.shift,
        crop.offsets,
        crop.mirrored,
        crop.padding,
        keep,
        target,
        plan.partner,
        source,
        fill,
        crop.dtype,
        crop.channels_last,
    )


def _size(plan: Plan) -> tuple[int, ...] | None:
    """The images' height and width, where the plan has one."""
    if isinstance(plan, Paste):
        return plan.size
    spatial = isinstance(plan, Blend) and plan.keep.shape[2:] != (1, 1)
    return tuple(plan.keep.shape[2:]) if isinstance(plan, Blend) and spatial else None


def _in_one_pass(plan: Plan) -> bool:
    """Does the kernel know this plan?  Not plans made of plans, scaled sources, a mean colour."""
    # The types themselves: a subclass may mix in its own way.
    if type(plan) is Paste:
        known = not plan.resize and plan.target.shape[1] <= pixels.MOST_RECTANGLES
        return known and (plan.partner is not None or plan.fill != "mean")
    return type(plan) is Blend and (plan.partner is not None or plan.fill != "mean")
