"""A patch that misleads the network in any image and at any place (Brown et al. 2017).

It is trained on validation images, each at a new random place in every step: Adam climbs the mean
logarithm of the probability of wrong classes, whose gradient comes from the images that are still
classified right.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from mixbench.experiments.errors import Impossible
from mixbench.experiments.evaluation.attack.losses import log_odds
from mixbench.experiments.evaluation.base import Subject, subset_indices
from mixbench.experiments.evaluation.image_random import ImageRandom
from mixbench.experiments.evaluation.patch import PatchSettings
from mixbench.experiments.evaluation.patch.place import Places

LEARNING_RATE = 0.05


def train(
    subject: Subject,
    predict: Callable[[Tensor], Tensor],
    settings: PatchSettings,
    sides: Sequence[int],
) -> list[Tensor]:
    """Train a patch of each size.

    Args:
        subject: The network and its data.
        predict: From images (B,C,H,W) in [0,1] to logits (B,K).
        settings: Images and steps.
        sides: Of the patches, in pixels.

    Returns:
        Patches (C,side,side) float32 in [0,1], by size.

    Raises:
        Impossible: There are no validation images.
    """
    images = _Images(subject, settings)
    return [_climb(images, predict, settings, side) for side in sides]


class _Images:
    """Validation images, in the device's memory, with their indices in the split."""

    def __init__(self, subject: Subject, settings: PatchSettings) -> None:
        split = subject.split("validation")
        if not len(split):
            raise Impossible("there are no validation images to train a patch on")
        chosen = subset_indices(len(split), settings.train_images, settings.seed)
        batches = list(subject.pixels(split.subset(chosen)))
        self.pixels = torch.cat([pixels for pixels, _ in batches])
        self.labels = torch.cat([labels for _, labels in batches])
        self.indices = chosen[: len(self.labels)].to(self.pixels.device)

    def batch(self, settings: PatchSettings, step: int) -> tuple[Tensor, Tensor, ImageRandom]:
        """Pixels, labels and random numbers of the images of a step: all in turn, in new orders."""
        count, size = len(self.labels), min(settings.train_batch, len(self.labels))
        each = max(1, count // size)
        generator = torch.Generator().manual_seed(settings.seed * 1_000_003 + step // each)
        order = torch.randperm(count, generator=generator)
        rows = order[step % each * size :][:size].to(self.pixels.device)
        draws = ImageRandom(self.indices[rows], settings.seed, f"patch {step}")
        return self.pixels[rows], self.labels[rows], draws


def _climb(
    images: _Images,
    predict: Callable[[Tensor], Tensor],
    settings: PatchSettings,
    side: int,
) -> Tensor:
    channels, height, width = images.pixels.shape[1:]
    patch = torch.full((channels, side, side), 0.5, device=images.pixels.device)
    patch.requires_grad_(True)
    adam = torch.optim.Adam([patch], LEARNING_RATE, maximize=True)
    for step in range(settings.train_steps):
        pixels, labels, draws = images.batch(settings, step)
        shown = Places(draws, side, height, width).paste(pixels, patch)
        # log(1 - p) of the right class's probability p.
        loss = F.logsigmoid(log_odds(predict(shown).double(), labels)).mean()
        (patch.grad,) = torch.autograd.grad(loss, patch, allow_unused=False)
        adam.param_groups[0]["lr"] = LEARNING_RATE * (1 - step / settings.train_steps)
        adam.step()
        with torch.no_grad():
            patch.clamp_(0, 1)
    return patch.detach()
