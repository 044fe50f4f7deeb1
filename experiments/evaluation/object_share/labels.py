"""How far labels by area are from what is seen of the objects, and labels of unseen ones."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import torch
from torch import Tensor

from mixbench.augmentations import Method, Plan
from mixbench.experiments.data.split import Split
from mixbench.experiments.evaluation.object_share.framing import objects

AT_ONCE = 500
"""Images that are mixed with each other; not those of the run's batches, so that results are the
same for every batch size."""


def label_errors(plan: Plan, masks: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Compare the labels of a plan with the objects that its images show.

    A source's share of the objects is the number of its object's pixels that are seen, over that of
    all sources (OA-CutMix, Nauen et al. 2026, arXiv:2606.04820). The error is half the sum of the
    absolute differences to the label weights; for two images, the difference of one's. What a plan
    blanks counts as seen, as labels do not change by it.

    Args:
        plan: Of B images.
        masks: (B,H,W) bool, their objects.

    Returns:
        Errors (B,) from 0 to 1, NaN where nothing is seen of any object; where a label has weight
        though nothing of its object is seen (B,) bool; and where there are two labels or more (B,)
        bool.
    """
    count = plan.batch
    weights = plan.mix_labels(torch.arange(count, device=masks.device)).dense(count)
    index, _ = plan.sources()
    seen = plan.pixel_shares(masks[:, None].float()).sum(dim=(2, 3, 4))
    pixels = torch.zeros_like(weights).scatter_add_(1, index, seen)
    errors = (weights - pixels / pixels.sum(dim=1, keepdim=True)).abs().sum(dim=1) / 2
    ghosts = ((weights > 0) & (pixels == 0)).any(dim=1)
    return errors, ghosts, (weights > 0).sum(dim=1) > 1


def errors_of(
    method: Method,
    split: Split,
    normalised: Callable[[Tensor], Tensor],
    pairs: int,
    seed: int,
) -> tuple[float | None, float | None]:
    """The mean label error of a method, and the share of its images with a ghost label.

    Of images with two labels or more; it mixes always, and draws for each image by itself.

    Args:
        method: What mixes.
        split: Images to be mixed, of the pixels 0 to 255.
        normalised: From images in [0,1] to those that a training mixes.
        pairs: How many images to mix.
        seed: Which of them, and what is drawn.

    Returns:
        Both from 0 to 1; None where it mixes no labels, or needs the training.
    """
    if method.needs - {"images", "labels", "masks"}:
        return None, None  # what it draws depends on the training
    method = replace(method, prob=1.0).varied()
    device = next(split.subset(torch.tensor([0])).batches(1))[0].device
    generator = torch.Generator(device).manual_seed(seed)
    errors, ghosts = [], []
    for images, labels in _drawn(split, pairs, seed):
        masks = objects(images)
        plan = method.sample(
            images.shape,
            device=device,
            generator=generator,
            images=normalised(images),
            labels=labels,
            masks=masks,
        )
        error, ghost, is_mixed = label_errors(plan, masks)
        errors.append(error[is_mixed & ~error.isnan()])
        ghosts.append(ghost[is_mixed])
    return _mean(errors), _mean(ghosts)


def _mean(parts: list[Tensor]) -> float | None:
    values = torch.cat(parts).double()
    return float(values.mean()) if len(values) else None


def _drawn(split: Split, count: int, seed: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Images in [0,1] with labels, every one once before any comes again, in batches of AT_ONCE."""
    order = torch.Generator().manual_seed(seed)
    rounds = -(-count // len(split))
    indices = torch.cat([torch.randperm(len(split), generator=order) for _ in range(rounds)])
    for images, labels in split.subset(indices[:count]).batches(AT_ONCE):
        if len(images):
            yield images.float() / 255, labels
